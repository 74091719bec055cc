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
        "Remove what is left over on the engine: objects with the label of this state directory's "
        "instance that belong to no living session of its journal. Safe beside a daemon that works; "
        "where none runs, what was being started or removed when it died goes as well. Sessions that "
        "run, foreign objects and those of other instances are never touched."
    )
    sweep = commands.add_parser("sweep", help="remove what is left over, once", description=text)
    sweep.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    sweep.add_argument(
        "--grace", metavar="SECONDS", type=seconds, default=10.0,
        help="time between the two looks that something has to be left over at (default: 10)",
    )  # fmt: skip
    sweep.add_argument(
        "--forgotten", action="store_true",
        help="remove also sessions that run and are in no journal, for it was damaged or moved away",
    )  # fmt: skip
    add_settings(sweep)
    sweep.set_defaults(run=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    config = load_settings(args)
    if config is None:
        return EXIT_USAGE
    from operatord import logs  # noqa: PLC0415
    from operatord.state.sweep import Options, run_sweep  # noqa: PLC0415

    logs.configure(config.log)
    return run_sweep(config, Options(print, say, args.grace, args.forgotten, args.dry_run))
