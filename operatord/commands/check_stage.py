# SPDX-License-Identifier: MIT
"""`operatord check-stage`: whether an image keeps the stage contract."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from .exits import EXIT_USAGE, say
from .settings import add_settings, load_settings
from .values import seconds


def add_check_stage(commands: Any) -> None:
    """Add `operatord check-stage` and its options."""
    text = (
        "Run an image through the stage contract (sections 7 and 8 of the protocol) on the engine that is "
        "configured, and print what holds, and what to do about what does not. The name, limits and options "
        "of the stage are those of the first configured stage with this image; else they are the defaults. "
        "It runs beside a daemon without disturbing it, and removes all that it makes. Exit codes: 0 all "
        "that is required holds, 1 something does not, 2 the check could not be made."
    )
    check = commands.add_parser(
        "check-stage", help="check whether an image keeps the stage contract", description=text
    )
    check.add_argument("image", metavar="IMAGE", help="the image, as a pipeline names it")
    _add_subject(check.add_argument_group("the stage"))
    check.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=10.0,
        help="in which the stage comes up once it is started (default: 10)",
    )  # fmt: skip
    check.add_argument("--why", action="store_true", help="say of each check why it matters")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings(check)
    check.set_defaults(run=_check_stage)


def _add_subject(group: Any) -> None:
    add = group.add_argument
    add(
        "--kind", choices=("probe", "filter", "sink"),
        help="probe: makes frames; filter: passes them on; sink: shows or stores them, and may speak another "
        "protocol at its port (default: what the settings say, or what is found out)",
    )  # fmt: skip
    add("--stage", metavar="NAME", help="its name: it reads NAME_ip and NAME_port")
    add("--upstream", metavar="NAME", help="the name of the stage before it")
    add(
        "--pictures", choices=("gray8", "gray16le", "rgb24"), default="gray8",
        help="the format of the pictures that it is sent (default: gray8)",
    )  # fmt: skip
    add(
        "--env", metavar="KEY=VALUE", type=_variable, action="append", default=[],
        help="a variable of its environment; may be repeated",
    )  # fmt: skip
    add(
        "--command", metavar="LINE", type=shlex.split, default=[], dest="words",
        help="in place of the image's own command, quoted as for a shell; for local processes, the program",
    )  # fmt: skip


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return name, value


def _check_stage(args: argparse.Namespace) -> int:
    config = load_settings(args)
    if config is None:
        return EXIT_USAGE
    from operatord import logs  # noqa: PLC0415
    from operatord.conformance.command import Options, run_check  # noqa: PLC0415
    from operatord.conformance.subject import Asked  # noqa: PLC0415

    logs.configure(config.log)
    asked = Asked(
        args.image,
        args.kind,
        args.stage,
        args.upstream,
        dict(args.env),
        tuple(args.words),
        args.pictures,
    )
    options = Options(asked, print, say, args.timeout, args.json, args.why)
    return run_check(config, options)
