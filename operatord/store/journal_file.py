# SPDX-License-Identifier: MIT
"""The journal's file: how it is opened, and what becomes of one that cannot be used.

A damaged file is put aside under another name, with a word in the log, and a new one is begun: an unreadable
past must not keep the daemon from working. A file of a newer version is not damaged: it holds the sessions of
a newer operatord. So it is left alone, and the daemon does not start.

A file that has just been made says so with the fact `schema.UNKNOWN_PAST`: what runs on the engine may have
been written down in another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from operatord.machine.file_kind import no_file
from operatord_protocol.errors import NoCapacity

from .schema import WrongVersion, check, migrate, require_version

log = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
"""Its name in a state directory."""
BUSY = 5.0
"""Seconds to wait for another reader, such as a sweep by hand."""

SUFFIXES = ("", "-wal", "-shm")
"""What the names of SQLite's files end with: the journal, its log, and the index of that."""
MAGIC = b"SQLite format 3\0"
_CIRCUMSTANCES = frozenset(
    [
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    ]
)
"""What is not the file's fault: no room, no permission, another daemon."""


class JournalFailed(Exception):
    """Notes could not be committed, and are kept and tried again; or the file cannot be used at all.

    The text is for people.
    """


def not_written(exc: JournalFailed, what: str, **data: Any) -> NoCapacity:
    """Return the error for something that was not done, or may not last, because it could not be written."""
    message = f"{what}: {exc}; ask again then"
    return NoCapacity(message, dimension="disk", retry_after=1, **data)


def open_sound(path: Path) -> sqlite3.Connection:
    """Return a connection to a sound file of this version, which is made if there is none.

    Raises `JournalFailed` for a file of a newer version, `sqlite3.Error` for what is not the file's fault.
    """
    _refuse_newer(path)
    try:
        return _open(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
        if _is_circumstance(exc):
            raise
        aside = _put_aside(path)
        log.error(
            "the journal cannot be read (%s); it is kept as %s, and a new one begun", exc, aside
        )
        return _open(path)


def _refuse_newer(path: Path) -> None:
    """Raise `JournalFailed` for a file of a newer version, which is left as it is, its log included."""
    try:
        _require_files(path)  # opening a pipe would block
        _check_kind(path)
        with contextlib.closing(connect_to_read(path)) as db:
            require_version(db, or_older=True)
    except sqlite3.Error:
        return  # there is none, or opening it shows what is wrong
    except WrongVersion as exc:
        if exc.is_newer:
            raise JournalFailed(
                f"the journal {exc.what}: start the newer operatord that wrote it, or move the file away to "
                f"go on without the sessions in it: {path}"
            ) from exc


def _open(path: Path) -> sqlite3.Connection:
    """Raises `sqlite3.Error`, and `UnicodeDecodeError` for an error whose own text is damaged."""
    _require_files(path)
    _check_kind(path)
    make_private(path)
    db = connect(path)
    try:
        check(db)
        migrate(db)
    except BaseException:
        db.close()
        raise
    bear_damaged_text(db)
    return db


def _is_circumstance(exc: Exception) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _CIRCUMSTANCES


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing, beside whoever writes. Raises `sqlite3.Error`."""
    _require_files(path)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY)


def bear_damaged_text(db: sqlite3.Connection) -> None:
    """Read text in which letters are damaged: the rest of it counts."""
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that writes ahead into a log. Raises `sqlite3.Error`."""
    db = sqlite3.connect(path, timeout=BUSY, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")  # what is replaced may have had credentials
    except BaseException:
        db.close()
        raise
    return db


def make_private(path: Path) -> None:
    """Make a file that nobody else can read, if there is none: SQLite's own, and its logs, all could."""
    with contextlib.suppress(OSError):  # SQLite says what is wrong, then
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _require_files(path: Path) -> None:
    """Raise `sqlite3.OperationalError` if something else is in the place of one of the files.

    SQLite says of it only that it cannot be opened, or waits for ever.
    """
    for suffix in SUFFIXES:
        file = path.with_name(path.name + suffix)
        if kind := no_file(file):
            exc = sqlite3.OperationalError(
                f"{kind} is in the place of the file {file.name}; move it away"
            )
            exc.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise exc


def _check_kind(path: Path) -> None:
    """Raise `sqlite3.DatabaseError` if it is not a database: SQLite would throw its log away."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if (begin := file.read(len(MAGIC))) and not MAGIC.startswith(begin):
            raise sqlite3.DatabaseError("it is not a database")


def _put_aside(path: Path) -> str:
    """Rename a file that cannot be used, with its log, and return its new name."""
    name = f"{path.name}.unreadable-{time.strftime('%Y%m%dT%H%M%S')}"
    for suffix in SUFFIXES:
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(name + suffix))
    return name
