# SPDX-License-Identifier: MIT
"""`operatord serve`: run the daemon."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
from typing import Any

from .exits import EXIT_FAILED, EXIT_USAGE, say
from .settings import add_settings, config_file, given_settings, load_settings


def add_serve(commands: Any) -> None:
    """Add `operatord serve` and its options."""
    serve = commands.add_parser("serve", help="run the daemon", description="Run the daemon.")
    add_settings(serve)
    serve.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from operatord.stderr import never_wait  # noqa: PLC0415

    never_wait()
    config = load_settings(args, to_serve=True)
    if config is None:
        return EXIT_USAGE
    import asyncio  # noqa: PLC0415

    from operatord import logs  # noqa: PLC0415
    from operatord.engines.base import NotOurs  # noqa: PLC0415
    from operatord.settings.config import ConfigError  # noqa: PLC0415
    from operatord.settings.loading import with_env_files  # noqa: PLC0415
    from operatord.state.identity import StateDirUnusable  # noqa: PLC0415
    from operatord.store.journal_file import JournalFailed  # noqa: PLC0415
    from operatord.systemd.activation import UnusableSocket  # noqa: PLC0415

    logs.configure(config.log)
    try:
        asyncio.run(_run(args, with_env_files(config)))
    except (ConfigError, StateDirUnusable, JournalFailed, NotOurs, UnusableSocket) as exc:
        say(str(exc))
        return EXIT_FAILED
    except OSError as exc:
        say(_cannot_start(exc, config))
        return EXIT_FAILED
    return 0


async def _run(args: argparse.Namespace, config: Any) -> None:
    """Be the daemon until it is stopped. Raises what `_serve` has sentences for."""
    from operatord.daemon import Daemon, Parts  # noqa: PLC0415
    from operatord.engines.base import NotOurs  # noqa: PLC0415
    from operatord.machine.latency import ask_for_short_slices, keep_collections_short  # noqa: PLC0415
    from operatord.settings.loading import load, with_env_files  # noqa: PLC0415
    from operatord.systemd.manager import ServiceManager  # noqa: PLC0415

    ask_for_short_slices()
    manager = ServiceManager.from_environment(os.environ)

    def reread() -> Any:
        path, given = config_file(args), given_settings(args)
        return with_env_files(load(path, os.environ, given, again=True))

    daemon = Daemon(config, reread, Parts(manager=manager))
    daemon.handle_signals()
    daemon.note_what_breaks()
    try:
        await daemon.start()
    except (OSError, NotOurs):
        await daemon.stop()
        raise
    keep_collections_short()
    await daemon.run_until_stopped()


def _cannot_start(exc: OSError, config: Any) -> str:
    """Say which address or file an error of the system is about, and what to do."""
    if exc.errno == errno.EADDRINUSE and not exc.filename:
        return (
            f"cannot start: {config.listen} is in use, perhaps by another operatord: stop that, or give "
            "this one another address with --listen"
        )
    if not exc.filename:
        return f"cannot start: {exc.strerror or exc} (listen: {config.listen})"
    if str(exc.filename).startswith("http.listen: "):
        return f"cannot start: {exc.filename} cannot be listened on: {exc.strerror}; set another address"
    if exc.filename == config.unix:
        return (
            f"cannot start: the Unix socket {config.unix} cannot be listened on: {exc.strerror}; choose "
            "another path with --unix"
        )
    state = config.state_path
    place = Path(os.fsdecode(exc.filename))
    if place == state or state in place.parents or place in state.parents:
        unusable = f"the state directory {state} cannot be used: {exc.strerror}: {exc.filename}"
        return f"cannot start: {unusable}; {_way_out(exc)}"
    return f"cannot start: {exc.strerror or exc}: {exc.filename}"


def _way_out(exc: OSError) -> str:
    """Say what to do about a state directory where nothing can be written."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that disk, or choose another place with --state-dir"
    return "choose one that you may write to with --state-dir, or run as a user who may write there"
