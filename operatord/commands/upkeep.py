# SPDX-License-Identifier: MIT
"""`operatord backup`, `restore` and `identity`: what people do to a state directory."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .exits import EXIT_FAILED, EXIT_USAGE, say
from .settings import add_settings, config_file, load_settings


def add_backup(commands: Any) -> None:
    """Add `operatord backup` and its options."""
    text = (
        "Write the journal, with everything that a daemon needs to continue from it, into one file. The "
        "daemon may run meanwhile. `operatord restore` puts it back. The file is outside the state "
        "directory; one that is there already is replaced only if it is an earlier backup, or empty."
    )
    backup = commands.add_parser("backup", help="write the journal to a file", description=text)
    backup.add_argument(
        "backup", metavar="FILE", type=Path, help="output file, outside the state directory"
    )
    backup.add_argument("--force", action="store_true", help="replace an earlier backup")
    add_settings(backup)
    backup.set_defaults(run=_backup)


def add_restore(commands: Any) -> None:
    """Add `operatord restore` and its options."""
    text = (
        "Put a backup into a state directory that has no journal, while no daemon runs there. Sessions "
        "started since the backup go on running, but are unknown: `operatord sweep --forgotten` removes "
        "them."
    )
    restore = commands.add_parser("restore", help="put a backup back", description=text)
    restore.add_argument("backup", metavar="FILE", type=Path, help="what `operatord backup` wrote")
    add_settings(restore)
    restore.set_defaults(run=_restore)


def add_identity(commands: Any) -> None:
    """Add `operatord identity` and its options."""
    text = "Print the instance of a state directory, or change it while no daemon runs there."
    identity = commands.add_parser(
        "identity", help="print or change the instance of a state directory", description=text
    )
    how = identity.add_mutually_exclusive_group()
    how.add_argument(
        "--new", action="store_true",
        help="for a copy: make it a new instance, which keeps history and probes but has no sessions",
    )  # fmt: skip
    how.add_argument(
        "--take-over", action="store_true",
        help="for a directory that was moved or put back: replace the original, which is gone for good",
    )  # fmt: skip
    add_settings(identity)
    identity.set_defaults(run=_identity)


def _backup(args: argparse.Namespace) -> int:
    if str(args.backup) == "-":
        say("a backup is a file of its own, and is not written to standard output: name a file")
        return EXIT_USAGE
    from operatord.state.upkeep import backup  # noqa: PLC0415

    settings = config_file(args)
    return _upkeep(
        args,
        lambda config: backup(config.state_path, args.backup, force=args.force, settings=settings),
    )


def _restore(args: argparse.Namespace) -> int:
    from operatord.state.upkeep import restore  # noqa: PLC0415

    return _upkeep(args, lambda config: restore(args.backup, config.state_path))


def _identity(args: argparse.Namespace) -> int:
    from operatord.state.upkeep import describe, renew, take_over  # noqa: PLC0415

    if args.take_over:
        return _upkeep(args, take_over)
    act = renew if args.new else describe
    return _upkeep(args, lambda config: act(config.state_path))


def _upkeep(args: argparse.Namespace, act: Callable[[Any], str]) -> int:
    """Do something with the state directory of the settings, and print what was done."""
    config = load_settings(args)
    if config is None:
        return EXIT_USAGE
    from operatord import logs  # noqa: PLC0415
    from operatord.state.identity import StateDirUnusable  # noqa: PLC0415
    from operatord.state.targets import CannotDo  # noqa: PLC0415

    logs.configure(config.log)
    try:
        print(act(config))  # noqa: T201
    except (StateDirUnusable, CannotDo) as exc:
        say(str(exc))
        return EXIT_FAILED
    except OSError as exc:
        say(f"{exc.strerror or exc}: {exc.filename or config.state_path}")
        return EXIT_FAILED
    return 0
