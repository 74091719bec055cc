# SPDX-License-Identifier: MIT
"""The journal's file: its tables, its version, and what becomes of one that cannot be used.

A damaged file is put aside under another name, with a word in the log, and a new one is begun: an unreadable
past must not keep the daemon from working. A file of a newer version is no damage. Whoever goes back to an
older operatord has sessions in it, so it is left alone, and the daemon does not start.

A file that has just been made says so with the fact `UNKNOWN_PAST`: what runs on the engine may have been
written down in another one. `forgotten` says what follows from that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from .file_kind import no_file

log = logging.getLogger(__name__)

VERSION = 1
UNKNOWN_PAST = "unknown_past"
"""The fact that there may be sessions which an earlier file knew; it says ``true`` or ``false``."""
BUSY = 5.0
"""Seconds to wait for another reader, such as a sweep by hand."""

_SCHEMA = """
CREATE TABLE session (
    id TEXT PRIMARY KEY, phase TEXT NOT NULL, owner TEXT NOT NULL, request_key TEXT,
    created REAL NOT NULL, ended REAL, data BLOB NOT NULL
);
CREATE INDEX session_ended ON session (ended);
CREATE INDEX session_created ON session (created);
CREATE INDEX session_key ON session (request_key, owner) WHERE request_key IS NOT NULL;
CREATE TABLE event (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE probe (name TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, data BLOB NOT NULL);
INSERT INTO fact VALUES ('unknown_past', CAST('true' AS BLOB));
"""

_MIGRATIONS: dict[int, str] = {}
"""For each older version, the statements that lead to the next one."""

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
    """What was noted could not be committed, and is kept and tried again; or there is no using the file.

    The text is for people.
    """


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
        _require_files(path)  # a pipe would be waited for
        _check_kind(path)
        with contextlib.closing(connect_to_read(path)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return  # there is none, or what is wrong with it is found when it is opened
    if version > VERSION:
        raise JournalFailed(
            f"the journal is of version {version}, and this operatord reads versions up to {VERSION}: start "
            "the newer operatord that wrote it, or move the file away to go on without the sessions in it: "
            f"{path}"
        )


def _open(path: Path) -> sqlite3.Connection:
    """Raises `sqlite3.Error`, and `UnicodeDecodeError` for an error whose own text is damaged."""
    _require_files(path)
    _check_kind(path)
    make_private(path)
    db = connect(path)
    try:
        _check(db)
        _migrate(db)
        _check_tables(db)
        db.execute(f"PRAGMA user_version = {VERSION}")  # it can be written
    except BaseException:
        db.close()
        raise
    # A damaged letter must not keep the rest from being read.
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return db


def _is_circumstance(exc: Exception) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _CIRCUMSTANCES


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing, beside whoever writes. Raises `sqlite3.Error`."""
    _require_files(path)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that writes ahead into a log. Raises `sqlite3.Error`."""
    db = sqlite3.connect(path, timeout=BUSY, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
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
    """Raise `sqlite3.DatabaseError` if it is something else, whose log SQLite would throw away."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if (begin := file.read(len(MAGIC))) and not MAGIC.startswith(begin):
            raise sqlite3.DatabaseError("it is not a database")


def check_journal(db: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` if an open file is damaged, or no journal of the version that it says."""
    _check(db)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == VERSION:  # of an older one, it shows when it is brought to this one
        _check_tables(db)


def _check(db: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` if the file is damaged."""
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict).splitlines()[0])


def _check_tables(db: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` if its tables are not those that are written here."""
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_SCHEMA)
        if _columns(fresh) != _columns(db):
            raise sqlite3.DatabaseError("it does not have the tables of a journal")


def _columns(db: sqlite3.Connection) -> list[tuple[str | int, ...]]:
    return db.execute(
        "SELECT t.name, c.name, c.type, c.pk FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
        "WHERE t.type = 'table' ORDER BY t.name, c.cid"
    ).fetchall()


def _migrate(db: sqlite3.Connection) -> None:
    """Bring the file to this version, step by step, each of them done whole or not at all."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < 0:
        raise sqlite3.DatabaseError(f"it is of version {version}, which there never was")
    if version == 0:
        steps = {VERSION: _SCHEMA}
    else:
        steps = {older + 1: _MIGRATIONS[older] for older in range(version, VERSION)}
    for reached, step in steps.items():
        db.executescript(f"BEGIN; {step}; PRAGMA user_version = {reached}; COMMIT;")


def _put_aside(path: Path) -> str:
    """Rename a file that cannot be used, with its log, and return its new name."""
    name = f"{path.name}.unreadable-{time.strftime('%Y%m%dT%H%M%S')}"
    for suffix in SUFFIXES:
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(name + suffix))
    return name
