# SPDX-License-Identifier: MIT
"""`operatord export-trace`: write the history as a trace for `simulate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .exits import EXIT_FAILED, EXIT_USAGE, say
from .settings import add_settings, config_file, load_settings


def add_export_trace(commands: Any) -> None:
    """Add `operatord export-trace` and its options."""
    text = (
        "Write a daemon's requests and their durations as a trace for `simulate --trace`. The daemon may "
        "run meanwhile. The file is outside the state directory; one that is there already is replaced only "
        "if it is an earlier trace, or empty."
    )
    export = commands.add_parser(
        "export-trace", help="write the history as a trace for simulate", description=text
    )
    export.add_argument("trace", metavar="FILE", type=Path, help="output file: JSON lines")
    add_settings(export)
    export.set_defaults(run=_export_trace)


def _export_trace(args: argparse.Namespace) -> int:
    if str(args.trace) == "-":
        say("a trace is a file of its own, and is not written to standard output: name a file")
        return EXIT_USAGE
    config = load_settings(args)
    if config is None:
        return EXIT_USAGE
    from operatord.simulation.recorded import TraceError  # noqa: PLC0415
    from operatord.state.targets import CannotDo  # noqa: PLC0415
    from operatord.state.trace_export import NothingRecorded, export_trace  # noqa: PLC0415

    try:
        count = export_trace(config.state_path, args.trace, config_file(args))
    except (CannotDo, NothingRecorded, TraceError) as exc:
        say(str(exc))
        return EXIT_FAILED
    except OSError as exc:
        say(f"{exc.strerror or exc}: {exc.filename or args.trace}")
        return EXIT_FAILED
    print(f"{count} sessions written to {args.trace}")  # noqa: T201
    return 0
