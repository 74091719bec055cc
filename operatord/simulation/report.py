# SPDX-License-Identifier: MIT
"""What a simulation has come to, in figures: for people side by side, for programs as one object."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from operatord.core.resources import DIMENSIONS, Vector, shown

from .meter import bounded
from .node import Plan
from .run import Outcome, Window


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds from coming to the decision to start; percentiles by nearest rank."""

    mean: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What the simulation itself took; the only figures that differ from run to run."""

    wall_seconds: float
    cpu_seconds: float
    decisions_per_second: float
    """By the clock on the wall, all that is not deciding included."""


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """The figures of one policy."""

    policy: str
    sessions: int
    ended: int
    refused: dict[str, int]
    virtual_seconds: float
    """From the beginning to the end of the last session."""
    window: tuple[float, float]
    """What utilisation and Jain's index are about."""
    saturated: bool
    """The window is from the first wait to the last arrival; else nobody waited then, and it is all."""
    utilisation: dict[str, float]
    """0…1 of all nodes, for each dimension that can be scarce."""
    scarcest: str
    wait: Wait
    longest_queue: int
    jain: float
    shares: dict[str, float]
    """Dominant-share seconds that each owner received in the window."""
    decisions: int
    cost: Cost


def make_report(outcome: Outcome) -> PolicyReport:
    """Return the figures of a simulation."""
    window, plan = outcome.window, outcome.plan
    used = utilisation(window, plan)
    shares = {name: dominant_seconds(area, plan) for name, area in window.owners.items()}
    return PolicyReport(
        policy=plan.policy,
        sessions=outcome.sessions,
        ended=outcome.ended,
        refused=dict(outcome.refused),
        virtual_seconds=outcome.end,
        window=(window.begin, window.end),
        saturated=window.saturated,
        utilisation=used,
        scarcest=max(used, key=lambda name: used[name]),
        wait=_wait(outcome.waits),
        longest_queue=outcome.longest_queue,
        jain=jain(list(shares.values())),
        shares=shares,
        decisions=outcome.decisions,
        cost=Cost(outcome.wall, outcome.cpu, outcome.decisions / max(outcome.wall, 1e-9)),
    )


def utilisation(window: Window, plan: Plan) -> dict[str, float]:
    """Return the part of each dimension that was held in the window, 0…1."""
    seconds = (window.end - window.begin) * plan.nodes
    return {
        DIMENSIONS[i]: window.area[i] / (plan.capacity[i] * seconds) if seconds else 0.0
        for i in bounded(plan.capacity)
    }


def dominant_seconds(area: Sequence[float], plan: Plan) -> float:
    """Return how long its owner could have had all nodes, in the dimension that it had most of."""
    return max(area[i] / (plan.capacity[i] * plan.nodes) for i in bounded(plan.capacity))


def jain(received: Sequence[float]) -> float:
    """Return Jain's index of fairness, (Σx)² / (n · Σx²): 1 if all receive alike, 1/n if one has all.

    From Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource
    Allocation in Shared Computer Systems" (DEC-TR-301, 1984). Of nothing at all everyone has the same: 1.
    """
    squares = math.fsum(x * x for x in received)
    return math.fsum(received) ** 2 / (len(received) * squares) if squares else 1.0


def _wait(waits: Sequence[float]) -> Wait:
    ordered = sorted(waits)
    if not ordered:
        return Wait(0.0, 0.0, 0.0, 0.0)
    p50, p99 = (ordered[math.ceil(part * len(ordered)) - 1] for part in (0.5, 0.99))
    return Wait(math.fsum(ordered) / len(ordered), p50, p99, ordered[-1])


def peak_rss() -> int:
    """Return the most memory in bytes that this process has had resident. (Linux counts in KiB.)"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def to_dict(reports: Sequence[PolicyReport], plan: Plan, trace: dict[str, Any]) -> dict[str, Any]:
    """Return everything as one object for JSON."""
    amounts = {
        DIMENSIONS[i]: shown(DIMENSIONS[i], plan.capacity[i]) for i in bounded(plan.capacity)
    }
    return {
        "trace": trace,
        "nodes": plan.nodes,
        "capacity": amounts,
        "policies": {report.policy: asdict(report) for report in reports},
        "peak_rss_bytes": peak_rss(),
    }


def lines(reports: Sequence[PolicyReport], plan: Plan, trace: dict[str, Any]) -> Iterator[str]:
    """Yield the figures for people, one column for each policy."""
    yield _heading(reports[0], plan, trace)
    yield ""
    yield _line("policy", [report.policy for report in reports])
    for name in reports[0].utilisation:
        scarcest = "  (the scarcest)" if name == reports[0].scarcest else ""
        label = f"utilisation of {_LABELS.get(name, name)}{scarcest}"
        yield _line(label, [f"{report.utilisation[name]:.1%}" for report in reports])
    for name in ("mean", "p50", "p99", "max"):
        yield _line(f"wait, {name}", [duration(getattr(r.wait, name)) for r in reports])
    rows = {
        "longest queue": [f"{r.longest_queue:,}" for r in reports],
        f"Jain's index of {len(reports[0].shares)} owners": [f"{r.jain:.4f}" for r in reports],
        "refused": [f"{sum(r.refused.values()):,}" for r in reports],
        "virtual time": [duration(r.virtual_seconds) for r in reports],
        "decisions": [f"{r.decisions:,}" for r in reports],
        "decisions per second": [f"{r.cost.decisions_per_second:,.0f}" for r in reports],
        "wall time": [duration(r.cost.wall_seconds) for r in reports],
        "processor time": [duration(r.cost.cpu_seconds) for r in reports],
    }
    yield from (_line(label, cells) for label, cells in rows.items())
    yield _line("peak memory of this process", [f"{peak_rss() / 2**20:,.0f} MiB"])
    yield ""
    yield from _window_words(reports)


_LABELS = {"sessions": "places"}


def _heading(report: PolicyReport, plan: Plan, trace: dict[str, Any]) -> str:
    words = ", ".join(f"{key} {value}" for key, value in trace.items() if value is not None)
    nodes = "1 node" if plan.nodes == 1 else f"{plan.nodes} nodes"
    amounts = " ".join(_amount(i, plan.capacity) for i in bounded(plan.capacity))
    return f"{report.sessions:,} sessions on {nodes} ({amounts}): {words}"


def _amount(index: int, capacity: Vector) -> str:
    name, amount = DIMENSIONS[index], capacity[index]
    if name == "memory":
        return f"{amount / 2**30:g} GiB"
    unit = {"cpus": "cores"}.get(name, _LABELS.get(name, name))
    return f"{shown(name, amount):g} {unit}"


def _line(label: str, cells: Sequence[str]) -> str:
    return "".join((f"  {label:40}", *(f"{cell:>14}" for cell in cells)))


def _window_words(reports: Sequence[PolicyReport]) -> Iterator[str]:
    for report in reports:
        begin, end = report.window
        why = "first wait to last arrival" if report.saturated else "nobody waited: all of it"
        yield (
            f"  {report.policy}: utilisation and Jain's index are of virtual time "
            f"{duration(begin)} to {duration(end)} ({why})"
        )


def duration(seconds: float) -> str:
    """Return a time as people say it, to three figures or so."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
