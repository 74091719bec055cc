# SPDX-License-Identifier: MIT
"""Measure operatord beside what one would use instead: a table for people, a file for programs.

    make bench            python tests/benchmarks/run.py [--short] [--only NAME] [--rounds N] [--json FILE]

All competitors of a section run in turn within each round, so that whatever else the machine does
meets all of them alike. What cannot be measured here (no engine, no docker-compose, no socat) is said.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # shared_host
sys.path.append(str(Path(__file__).resolve().with_name("sections")))
sys.path.append(str(Path(__file__).resolve().with_name("adapters")))  # sections of their own
sys.path.append(str(Path(__file__).resolve().with_name("programs")))  # attacker

import attacks
import burst
import chain
import control
import costs
import footprint
import frames
import gate
import machine
import openigtlink
import posts
import relay
import scheduling
import starts
import tls
import viewers
import warm
from daemons import BenchFailed, many_files
from engine_api import EngineApi
from tables import Table

import camera

BENCH_JSON = Path(__file__).resolve().parents[2] / "bench.json"


class Skipped(Exception):
    """A section cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Bench:
    """What the sections are given."""

    engine: EngineApi | None
    url: str
    rounds: int | None
    short: bool

    def pick(self, full: int, short: int) -> int:
        """Return how many rounds: as asked, else the section's own number."""
        return self.rounds or (short if self.short else full)

    @property
    def docker(self) -> tuple[EngineApi, str]:
        """The engine and its address. Raises `Skipped`."""
        if self.engine is None:
            raise Skipped("no container engine answers (tools/engine up)")
        return self.engine, self.url


def bench_start(bench: Bench) -> list[Table]:
    return starts.measure(*bench.docker, bench.pick(10, 1))


def bench_warm(bench: Bench) -> list[Table]:
    return warm.measure(*bench.docker, bench.pick(8, 1), bench.short)


def bench_engine(bench: Bench) -> list[Table]:
    return warm.measure_engine(*bench.docker, bench.pick(5, 1))


def bench_burst(bench: Bench) -> list[Table]:
    return burst.measure(*bench.docker, bench.pick(3, 1), bench.short)


def bench_control(bench: Bench) -> list[Table]:
    tables = control.measure(bench.pick(15, 2), bench.short)
    tables += tls.measure(bench.pick(15, 2), bench.short)
    return tables + costs.measure(bench.pick(5, 1), bench.short)


def bench_relay(bench: Bench) -> list[Table]:
    count, rounds = (200, 1) if bench.short else (10_000, bench.pick(3, 1))
    found = relay.measure(count, rounds)
    reference = "socat" if "socat" in found else "direct"
    table = Table("relay", "relaying a probe's frames", "frames/s", reference, more_is_better=True)
    for way, rate in found.items():
        if "/" not in way:
            table.add(way, rate)
    table.notes.append(f"each value is the median of {rounds} alternating rounds")
    if reference != "socat":
        table.notes.append("socat is not installed")
    return [table]


def bench_gate(bench: Bench) -> list[Table]:
    tables = gate.measure(bench.pick(7, 1), 1 << (26 if bench.short else 31))
    if bench.engine is None:
        tables[0].notes.append("starts are not measured: no container engine answers")
        return tables
    return tables + gate.measure_warm(*bench.docker, bench.pick(12, 1))


def bench_post(bench: Bench) -> list[Table]:
    tables = posts.measure_pings(bench.pick(15, 2), 10 if bench.short else 200)
    if bench.engine is None:
        tables[0].notes.append("starts are not measured: no container engine answers")
        return tables
    return tables + posts.measure(*bench.docker, bench.pick(20, 1))


def bench_frames(bench: Bench) -> list[Table]:
    return frames.measure(bench.pick(3, 1), bench.short)


def bench_chain(bench: Bench) -> list[Table]:
    return chain.measure(*bench.docker, bench.pick(3, 1), bench.short)


def bench_footprint(bench: Bench) -> list[Table]:
    return footprint.measure(*bench.docker, bench.short)


def bench_scheduling(bench: Bench) -> list[Table]:
    return scheduling.measure(bench.pick(5, 1), bench.short)


def bench_viewers(bench: Bench) -> list[Table]:
    return viewers.measure(bench.pick(3, 1), bench.short)


def bench_camera(bench: Bench) -> list[Table]:
    return camera.measure(bench.pick(3, 1), bench.short)


def bench_openigtlink(bench: Bench) -> list[Table]:
    return openigtlink.measure(bench.pick(3, 1), bench.short)


def bench_attacks(bench: Bench) -> list[Table]:
    return attacks.measure(0.5, ["describe"]) if bench.short else attacks.measure(3.0)


SECTIONS: dict[str, Callable[[Bench], list[Table]]] = {
    "start": bench_start,
    "warm": bench_warm,
    "burst": bench_burst,
    "control": bench_control,
    "relay": bench_relay,
    "gate": bench_gate,
    "post": bench_post,
    "frames": bench_frames,
    "chain": bench_chain,
    "footprint": bench_footprint,
    "scheduling": bench_scheduling,
    "viewers": bench_viewers,
    "camera": bench_camera,
    "openigtlink": bench_openigtlink,
    "attacks": bench_attacks,
}
BY_NAME = {"engine": bench_engine}
"""Sections that are part of others: measured only where they are named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections and return the exit code."""
    options = _parser().parse_args(argv)
    many_files()
    signal.signal(signal.SIGTERM, _stop)  # unwinds like Ctrl-C, so that nothing is left behind
    try:
        return _measure(options)
    except KeyboardInterrupt:
        print("\ninterrupted; what was started is gone", file=sys.stderr)
        return 130


def _measure(options: argparse.Namespace) -> int:
    url = os.environ.get("DOCKER_HOST", "")
    bench = Bench(_engine(url), url, options.rounds, options.short)
    report: dict[str, Any] = {"machine": machine.facts(bench.engine), "tables": [], "skipped": {}}
    _print_machine(report["machine"])
    good = [_run(name, bench, report) for name in options.only or SECTIONS]
    options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print("\np99: what 99 of 100 are at least as good as; worst: of fewer than a hundred values")
    print(f"written to {options.json}")
    return 0 if all(good) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure operatord and its competitors.")
    parser.add_argument(
        "--short", action="store_true", help="the least of everything: proves that it works"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SECTIONS | BY_NAME,
        help="this section (may be repeated)",
    )
    parser.add_argument(
        "--rounds", type=int, help="rounds of each section, instead of its own number"
    )
    parser.add_argument("--json", type=Path, default=BENCH_JSON, metavar="FILE")
    return parser


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _engine(url: str) -> EngineApi | None:
    if not url:
        return None
    engine = EngineApi(url)
    try:
        engine.call("GET", "/version")
    except (OSError, BenchFailed):
        return None
    return engine


def _run(name: str, bench: Bench, report: dict[str, Any]) -> bool:
    """Measure one section into ``report`` and print it; return whether it worked."""
    try:
        tables = (SECTIONS | BY_NAME)[name](bench)
    except Skipped as exc:
        print(f"\n{name}: skipped, {exc}")
        report["skipped"][name] = str(exc)
        return True
    except (BenchFailed, OSError) as exc:
        print(f"\n{name}: FAILED, {exc}")
        report["skipped"][name] = f"failed: {exc}"
        return False
    for table in tables:
        report["tables"].append(table.to_dict())
        print("", *table.lines(), sep="\n", flush=True)
    return True


def _print_machine(facts: dict[str, Any]) -> None:
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {'none' if value is None else value}", flush=True)
    if facts["load"][0] > 0.5:
        print("NOTE: the machine is not quiet; trust the ratios more than the times")


if __name__ == "__main__":
    sys.exit(main())
