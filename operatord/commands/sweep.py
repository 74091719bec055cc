# SPDX-License-Identifier: MIT
"""`operatord sweep`: remove what is left over on the engine."""

from __future__ import annotations

import argparse
from typing import Any

from .exits import EXIT_USAGE, say
from .settings import add_settings, load_settings
from .values import seconds


def add_sweep(commands: Any) -> None:
    """Add `operatord sweep` and its options."""
    text = (
        "Remove leftovers from the engine: objects with this instance's label that belong to no live "
        "session in its journal. Safe while a daemon runs. If none runs, sessions that were being started "
        "or removed when it ended are removed as well, and what your own check-stage has left if it was "
        "killed. Running sessions, foreign objects and those of other instances are never touched."
    )
    sweep = commands.add_parser(
        "sweep", help="remove leftovers from the engine, once", description=text
    )
    sweep.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    sweep.add_argument(
        "--grace", metavar="SECONDS", type=seconds, default=10.0,
        help="time between the two checks that must both find a leftover (default: 10)",
    )  # fmt: skip
    sweep.add_argument(
        "--forgotten", action="store_true",
        help="also remove running sessions that are in no journal, because it was damaged or moved away",
    )  # fmt: skip
    add_settings(sweep)
    sweep.set_defaults(run=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    config = load_settings(args)
    if config is None:
        return EXIT_USAGE
    from operatord import logs  # noqa: PLC0415
    from operatord.state.checks_left import run_sweep_of_checks  # noqa: PLC0415
    from operatord.state.sweep import Options, run_sweep  # noqa: PLC0415

    logs.configure(config.log)
    options = Options(print, say, args.grace, args.forgotten, args.dry_run)
    return max(run_sweep_of_checks(config, options), run_sweep(config, options))
