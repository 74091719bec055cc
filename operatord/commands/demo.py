# SPDX-License-Identifier: MIT
"""`operatord demo`: watch one session from request to nothing."""

from __future__ import annotations

import argparse
from typing import Any

from operatord.core.engine_kinds import KINDS

from .exits import EXIT_USAGE
from .settings import endpoint_of
from .values import whole


def add_demo(commands: Any) -> None:
    """Add `operatord demo` and its options."""
    text = (
        "Run one session while you watch: start a private daemon, ask it for a segmented session over "
        "TCP, receive the frames and compare them with the truth, and show that nothing is left."
    )
    demo = commands.add_parser(
        "demo", help="watch one session from its request to its removal", description=text
    )
    demo.add_argument("--engine", choices=tuple(KINDS), default="auto")
    demo.add_argument("--count", type=whole, default=300, help="frames to ask for (default: 300)")
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    if endpoint_of(args.engine) is None:
        return EXIT_USAGE
    from operatord.demo import run_demo  # noqa: PLC0415

    return run_demo(args.engine, args.count)
