# SPDX-License-Identifier: MIT
"""``operatord simulate``: options in, figures out."""

from __future__ import annotations

import contextlib
import gc
import json
import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from operatord.core.resources import MILLI
from operatord.core.units import Bytes, Duration

from .node import Plan, capacity
from .picture import draw
from .recorded import TraceError, read, write
from .report import PolicyReport, lines, make_report, to_dict
from .run import Outcome, simulate
from .trace import Estimates, Job, Synthetic, arrival_rate, synthetic, told

T = TypeVar("T")
NODES, OWNERS, SESSIONS, PIECES = 1000, 100_000, 100_000_000, 1_000_000
"""The most of each; more is a mistake in typing."""


class Unusable(Exception):
    """The options, or what they name, cannot be used; the text says why."""


def run_simulate(args: Namespace) -> int:
    """Do what the options ask for. Raises `Unusable`."""
    _contradictions(args)
    plan = _plan(args)
    wanted = None if args.trace else _synthetic(args, plan)
    try:
        if args.write_trace and wanted is not None:
            count = write(args.write_trace, synthetic(wanted))
            _print([f"{count:,} jobs written to {args.write_trace}"])
            return 0
        policies = [args.policy, "fifo"] if args.compare else [args.policy]
        plans = [plan._replace(policy=policy) for policy in policies]
        with _without_collector():
            outcomes = [simulate(each, _jobs(args, wanted)) for each in plans]
    except TraceError as exc:
        raise Unusable(str(exc)) from exc
    _show(args, outcomes, _about(args, wanted))
    return 0


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Switch off garbage collection: sessions leave no reference cycles, and it would scan all waiting ones
    in vain."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _jobs(args: Namespace, wanted: Synthetic | None) -> Iterator[Job]:
    jobs = read(args.trace) if wanted is None else synthetic(wanted)
    return told(jobs, Estimates(not args.no_estimates, args.noise, args.seed))


def _show(args: Namespace, outcomes: list[Outcome], about: dict[str, Any]) -> None:
    reports: list[PolicyReport] = [make_report(outcome) for outcome in outcomes]
    plan = outcomes[0].plan
    if args.picture:
        try:
            args.picture.write_text(draw(outcomes, reports), "utf-8")
        except OSError as exc:
            raise Unusable(f"{args.picture}: {exc.strerror or exc}") from exc
    if args.json:
        _print([json.dumps(to_dict(reports, plan, about), ensure_ascii=False)])
    else:
        _print(lines(reports, plan, about))


def _print(what: Iterable[str]) -> None:
    print("\n".join(what))  # noqa: T201


def _about(args: Namespace, wanted: Synthetic | None) -> dict[str, Any]:
    """Return what the jobs are, for the report."""
    about: dict[str, Any] = {"seed": args.seed}
    if wanted is None:
        about["file"] = str(args.trace)
    else:
        about |= {"load": wanted.load, "owners": wanted.owners}
        about["flood"] = wanted.flood if wanted.flood != 1 else None
    about["noise"] = args.noise or None
    about["estimates"] = "none" if args.no_estimates else None
    return about


# Options


def _contradictions(args: Namespace) -> None:
    made_up = [f"--{name}" for name in _MADE_UP if getattr(args, name) is not None]
    if args.trace and made_up:
        raise Unusable(f"{made_up[0]} is about a synthetic trace, and --trace names a recorded one")
    if args.compare and args.policy == "fifo":
        raise Unusable("--compare puts fifo beside another policy, and --policy is fifo already")
    if args.no_estimates and args.noise:
        raise Unusable("--noise is about estimates, and with --no-estimates there are none")
    if args.write_trace and (args.picture or args.json or args.compare):
        raise Unusable("--write-trace writes the trace and simulates nothing")
    if args.picture and not args.picture.parent.is_dir():  # said now, not after two minutes
        raise Unusable(f"{args.picture}: there is no such directory")


_MADE_UP = ("sessions", "load", "owners", "flood")


def _plan(args: Namespace) -> Plan:
    memory = _read("memory", args.memory, Bytes.parse)
    _within("cpus", args.cpus, 1 / MILLI, PIECES)
    _within("memory", memory, 1, 2**60)
    _within("places", args.places, 1, PIECES)
    _within("gpus", args.gpus, 0, PIECES)
    _within("nodes", args.nodes, 1, NODES)
    _within("choices", args.choices, 1, NODES)
    _within("start", args.start, 0, 86400)
    _within("noise", args.noise, 0, 10)
    return Plan(
        nodes=args.nodes,
        capacity=capacity(math.floor(args.cpus * MILLI), memory, args.places, args.gpus),
        policy=args.policy,
        choices=args.choices,
        ageing=_read("ageing", args.ageing, Duration.parse),
        start=args.start,
        seed=args.seed,
    )


def _synthetic(args: Namespace, plan: Plan) -> Synthetic:
    wanted = Synthetic(
        sessions=_given(args.sessions, 100_000),
        capacity=plan.capacity,
        nodes=plan.nodes,
        load=_given(args.load, 1.1),
        owners=_given(args.owners, 8),
        flood=_given(args.flood, 1.0),
        start=plan.start,
        seed=args.seed,
    )
    _within("sessions", wanted.sessions, 1, SESSIONS)
    _within("load", wanted.load, 0.001, 1000)
    _within("owners", wanted.owners, 1, OWNERS)
    _within("flood", wanted.flood, 1, 1_000_000)
    try:
        arrival_rate(wanted)
    except ValueError as exc:
        raise Unusable(str(exc)) from None
    return wanted


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _read(name: str, text: str, parse: Callable[[object], T]) -> T:
    """Read a size or a duration; bare bytes or seconds are numbers."""
    try:
        value: object = float(text)
    except ValueError:
        value = text
    try:
        return parse(value)
    except ValueError as exc:
        raise Unusable(f"--{name}: {exc}") from None


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise Unusable(f"--{name} is from {least:g} to {most:,g}, got {value:g}")
