# SPDX-License-Identifier: MIT
"""The parser of the command line, every command with its function as ``run``."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from operatord import __version__

from .serve import add_serve


def build_parser(*, serves: bool = False) -> argparse.ArgumentParser:
    """Return the parser, every command with its function as ``run``.

    If it ``serves``, that is the only command: a daemon stays, with all that was ever loaded.
    """
    parser = _Parser(
        prog="operatord",
        description="Turns imaging probes into streams: listens for requests, starts, wires and "
        "stops the containers of each session, and answers with the stream's location.",
        epilog='Try it: "operatord demo". Ask a running one: '
        """echo '{"method":"system.status"}' | nc -N 127.0.0.1 7733. """
        "Exit codes: 0 ok, 1 failed, 2 usage or settings, 74 output cannot be written, "
        "130 interrupted, 141 nobody reads the output.",
    )
    parser.add_argument("--version", action=_ShowVersion, help="print the version and exit")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="operatord"
    )
    add_serve(commands)
    if not serves:
        _add_others(commands)
    for command in commands.choices.values():
        command.set_defaults(command=command)
    return parser


def _add_others(commands: Any) -> None:
    """Add all commands but `operatord serve`."""
    from .check_stage import add_check_stage  # noqa: PLC0415
    from .config import add_check_config, add_config  # noqa: PLC0415
    from .demo import add_demo  # noqa: PLC0415
    from .export_trace import add_export_trace  # noqa: PLC0415
    from .gateway import add_gateway  # noqa: PLC0415
    from .images import add_build_images  # noqa: PLC0415
    from .simulate import add_simulate  # noqa: PLC0415
    from .sweep import add_sweep  # noqa: PLC0415
    from .tokens import add_token  # noqa: PLC0415
    from .upkeep import add_backup, add_identity, add_restore  # noqa: PLC0415

    add_check_config(commands)
    add_config(commands)
    add_build_images(commands)
    add_check_stage(commands)
    add_sweep(commands)
    add_backup(commands)
    add_restore(commands)
    add_identity(commands)
    add_token(commands)
    add_gateway(commands)
    add_demo(commands)
    add_simulate(commands)
    add_export_trace(commands)


class _Parser(argparse.ArgumentParser):
    """argparse's own passes over what cannot be written."""

    def print_help(self, file: object = None) -> None:
        """Print it. Raises `OSError`."""
        print(self.format_help(), end="", flush=True)  # noqa: T201

    def error(self, message: str) -> NoReturn:
        """Exit with the usage, and with a likely word for a slip."""
        from operatord_protocol.checking import likely_choice  # noqa: PLC0415

        super().error(message + likely_choice(message))


class _ShowVersion(argparse.Action):
    """argparse's own does not tell when it cannot be written either."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and exit."""
        print(f"operatord {__version__}", flush=True)  # noqa: T201
        parser.exit()
