# SPDX-License-Identifier: MIT
"""What a person does to a state directory: back it up, restore it, settle which instance it is."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
from pathlib import Path

from operatord.engines import base
from operatord.machine.file_kind import kind_of
from operatord.settings.choice import choose_engine
from operatord.settings.config import Config
from operatord.store.copies import copy_journal, forget_living, instance_of
from operatord.store.journal_file import JOURNAL, MAGIC, JournalFailed
from operatord.store.schema import WrongVersion

from .identity import (
    as_found,
    draft_of,
    is_name,
    new_instance,
    read_identity,
    read_instance,
    rename_instance,
    write_identity,
    write_whole,
)
from .lock import PROCESSES, StateDirBusy, StateLock
from .targets import CannotDo, beginning, require_foreign, require_kind

ANOTHER = "name a file that `operatord backup` wrote; nothing was changed"


def backup(
    state_dir: Path, target: Path, *, force: bool = False, settings: Path | None = None
) -> str:
    """Write a consistent copy of the journal into one file, which is new, or replaced with ``force``.

    A daemon may go on meanwhile. Only an earlier backup or an empty file is replaced, and nothing in the
    state directory, nor ``settings``, the file that the settings are from.

    The copy has the name of the instance with it, and says of itself that there may be sessions which it
    does not know: those that begin from now on. Raises `CannotDo`, `OSError`.
    """
    instance = read_instance(state_dir)
    if instance is None or not (state_dir / JOURNAL).exists():
        raise CannotDo(f"{state_dir} has nothing to back up: no operatord has worked in it")
    _require_spare(target, state_dir, settings)
    if target.exists() and not force:
        raise CannotDo(f"{target} is there already: name another file, or replace it with --force")
    own = f".{secrets.token_hex(8)}.new"  # nobody else's file
    with draft_of(target.resolve(), own) as draft:  # where a link leads, or the link would be lost
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            copy_journal(state_dir / JOURNAL, draft, instance)
        except WrongVersion as exc:
            raise CannotDo(f"{state_dir / JOURNAL} {exc}") from exc
        except sqlite3.Error as exc:
            raise CannotDo(f"the journal cannot be copied: {exc}: {target}") from exc
    return f"the journal of instance {instance} is in {target}"


def _require_spare(target: Path, state_dir: Path, settings: Path | None) -> None:
    """Raise `CannotDo` where a backup would take the place of anything but a backup, `OSError`."""
    require_foreign(target, state_dir, settings)
    if target.exists() and not target.is_file():
        raise CannotDo(f"{target} is not a file, and is left as it is: name a file")
    require_kind(target, MAGIC, "backup")
    if target.exists() and target.stat().st_size and not _is_backup(target):
        raise CannotDo(
            f"{target} is a database, but not one that `operatord backup` wrote, and is left as it is: name "
            "another file"
        )


def _is_backup(file: Path) -> bool:
    """Tell whether a database is an earlier backup. Raises `OSError`."""
    try:
        return instance_of(file) is not None
    except (WrongVersion, sqlite3.Error, UnicodeDecodeError):
        return False


def restore(source: Path, state_dir: Path) -> str:
    """Make a backup the journal of a state directory that has none. Raises `CannotDo`, `OSError`."""
    instance = _instance_of(source)
    with StateLock(state_dir):
        if (state_dir / JOURNAL).exists():
            raise CannotDo(f"{state_dir / JOURNAL} is there already: move it away first")
        write_whole(state_dir / JOURNAL, source.read_bytes())
        rename_instance(state_dir, instance)
    return f"instance {instance} is in {state_dir} again; start operatord there"


def _instance_of(source: Path) -> str:
    """Return whose backup a file is. Raises `CannotDo` if it is none, or damaged, `OSError`."""
    _require_database(source)
    try:
        said = instance_of(source)
    except WrongVersion as exc:
        raise CannotDo(f"{source} {exc}") from exc
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        raise CannotDo(f"{source} is damaged ({exc}): {ANOTHER}") from exc
    if said is None:
        raise CannotDo(
            f"{source} is a journal, but not one that `operatord backup` wrote: {ANOTHER}"
        )
    instance = said.decode("ascii", "replace")
    if not is_name(instance):
        raise CannotDo(f"{source} is damaged (it does not say whose it is): {ANOTHER}")
    return instance


def _require_database(source: Path) -> None:
    """Raise `CannotDo` for what is no file, or not SQLite's; `OSError` if it cannot be read."""
    if not source.is_file() and (kind := kind_of(source)):
        what = "a link to something that is not a file" if kind == "a link" else kind
        raise CannotDo(f"{source} is {what}, not a backup: {ANOTHER}")
    begin = beginning(source, len(MAGIC))
    if not begin:
        raise CannotDo(f"{source} is empty, not a backup: {ANOTHER}")
    if begin != MAGIC:
        raise CannotDo(f"{source} is not an SQLite file, so it is not a backup: {ANOTHER}")


def describe(state_dir: Path) -> str:
    """Return which instance a state directory is. Raises `CannotDo`."""
    instance, identity = read_instance(state_dir), read_identity(state_dir)
    if instance is None:
        raise CannotDo(f"no operatord has ever worked in {state_dir}")
    known = "" if identity is None else f", known to the engine by {identity.holder}"
    return f"instance {instance}{known}"


def renew(state_dir: Path) -> str:
    """Make a copy an instance of its own: sessions that live are the original's.

    Raises `CannotDo`, `StateDirUnusable`, `OSError`.
    """
    with StateLock(state_dir):
        before = read_instance(state_dir)
        if before is None:
            raise CannotDo(f"no operatord has ever worked in {state_dir}: it needs no new identity")
        _forget_what_lives(state_dir / JOURNAL)
        # What runs there is the original's, too.
        shutil.rmtree(state_dir / PROCESSES, ignore_errors=True)
        instance = new_instance(state_dir)
        write_identity(state_dir, as_found(state_dir, instance))
    return f"instance {before} is instance {instance} now; sessions that lived are left to {before}"


def _forget_what_lives(journal: Path) -> None:
    if not journal.exists():
        return
    try:
        forget_living(journal)
    except (sqlite3.Error, JournalFailed) as exc:
        raise CannotDo(f"the journal cannot be changed: {exc}") from exc


def take_over(config: Config) -> str:
    """Make this state directory the holder of its instance on the engine.

    Raises `CannotDo`, `StateDirUnusable`, `OSError`.
    """
    state_dir = config.state_path
    with StateLock(state_dir):
        instance, before = read_instance(state_dir), read_identity(state_dir)
        if instance is None:
            raise CannotDo(
                f"no operatord has ever worked in {state_dir}: there is nothing to take over"
            )
        now = as_found(state_dir, instance)
        if before is not None and not before.is_at(now) and Path(before.path).is_dir():
            _require_stopped(Path(before.path), state_dir)
        engine = choose_engine(config, instance, state_dir, os.environ).engine
        try:
            asyncio.run(_release(engine))
        except base.EngineError as exc:
            raise CannotDo(f"this needs an answer from the engine: {exc}") from exc
        write_identity(state_dir, now)
    return f"instance {instance} belongs to {state_dir} from now on"


def _require_stopped(original: Path, state_dir: Path) -> None:
    """Raise `CannotDo` while a daemon runs in the directory that this one was copied from."""
    if original.resolve() == state_dir.resolve():
        return
    try:
        StateLock(original).close()
    except StateDirBusy as exc:
        raise CannotDo(
            f"a daemon runs in {original}, which this is a copy of: stop it first"
        ) from exc


async def _release(engine: base.Engine) -> None:
    try:
        await engine.connect()
        await engine.release()
    finally:
        await engine.close()
