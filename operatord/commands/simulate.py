# SPDX-License-Identifier: MIT
"""`operatord simulate`: run the scheduler over a trace."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .exits import EXIT_USAGE, say
from .values import number, whole


def add_simulate(commands: Any) -> None:
    """Add `operatord simulate` and its options."""
    text = (
        "Run the daemon's own scheduler over a trace, on a simulated clock and without an engine, and "
        "report how full the machines were, how long requests waited and how evenly owners were served."
    )
    simulate = commands.add_parser(
        "simulate", help="run the scheduler over a trace", description=text
    )
    _add_simulated_trace(simulate.add_argument_group("requests"))
    _add_simulated_nodes(simulate.add_argument_group("machines"))
    add = simulate.add_argument_group("output").add_argument
    add("--compare", action="store_true", help="also run first come, first served, to compare")
    add("--picture", metavar="FILE", type=Path, help="draw utilisation and queue as SVG")
    add("--json", action="store_true", help="print one JSON object")
    simulate.set_defaults(run=_simulate)


def _add_simulated_trace(group: Any) -> None:
    add = group.add_argument
    add("--sessions", metavar="N", type=whole, help="number of requests (default: 100000)")
    add(
        "--load", metavar="X", type=number,
        help="demand for the scarcest resource, relative to its capacity (default: 1.1)",
    )  # fmt: skip
    add("--owners", metavar="N", type=whole, help="owners, who ask for equal amounts (default: 8)")
    add(
        "--flood", metavar="X", type=number, nargs="?", const=10.0,
        help="the first owner asks for X times as much as each other one, in addition (default: 10)",
    )  # fmt: skip
    add("--seed", metavar="N", type=whole, default=1, help="the same seed, the same trace")
    add("--noise", metavar="X", type=number, default=0.0, help="how wrong expected durations are: "
        "the standard deviation of their logarithm (default: 0)")  # fmt: skip
    add("--no-estimates", action="store_true", help="run without expected durations")
    files = group.add_mutually_exclusive_group()
    files.add_argument("--trace", metavar="FILE", type=Path, help="recorded requests: JSON lines")
    files.add_argument(
        "--write-trace", metavar="FILE", type=Path, help="write the requests, and do nothing else"
    )


def _add_simulated_nodes(group: Any) -> None:
    add = group.add_argument
    add("--policy", choices=("easy", "fair", "fifo"), default="easy",
        help="easy: the daemon's own, fair with backfilling; fair: without; fifo")  # fmt: skip
    add("--nodes", metavar="N", type=whole, default=1, help="machines, up to 1000 (default: 1)")
    add("--choices", metavar="D", type=whole, default=2,
        help="machines compared for each request (default: 2)")  # fmt: skip
    add("--cpus", metavar="X", type=number, default=16.0, help="cores of each (default: 16)")
    add("--memory", metavar="SIZE", default="16GiB", help="memory of each (default: 16GiB)")
    add("--places", metavar="N", type=whole, default=256, help="sessions on each (default: 256)")
    add("--gpus", metavar="N", type=whole, default=0, help="graphics cards of each (default: 0)")
    add(
        "--start",
        metavar="X",
        type=number,
        default=0.8,
        help="seconds a start takes (default: 0.8)",
    )
    add("--ageing", metavar="TIME", default="60s",
        help="waiting that counts as a level of priority (default: 60s)")  # fmt: skip


def _simulate(args: argparse.Namespace) -> int:
    from operatord.simulation.command import Unusable, run_simulate  # noqa: PLC0415

    try:
        return run_simulate(args)
    except Unusable as exc:
        say(str(exc))
        return EXIT_USAGE
