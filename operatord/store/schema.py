# SPDX-License-Identifier: MIT
"""The journal's tables: their columns, their version, and how an older file is migrated. Besides this module,
only `journal` (which writes), `reader` and `copies` contain SQL about them.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import NamedTuple

VERSION = 1

SCHEMA = """
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

MIGRATIONS: dict[int, str] = {}
"""For each older version, the statements that lead to the next one."""

SCRUB = """
UPDATE session SET data = without_source(data)
WHERE ended IS NOT NULL AND instr(data, CAST('"source":{' AS BLOB));
UPDATE event SET data = without_paths(data) WHERE without_paths(data) IS NOT data;
DELETE FROM fact WHERE name = 'scrubbed';
INSERT INTO fact (name, data) VALUES ('sources_scrubbed', CAST('true' AS BLOB));
"""
"""Takes out of what is told of sessions that have ended where their sources were, once in the life of a file:
now that is not written down with them, and earlier it was, with credentials that may have no name."""
_SOURCE = re.compile(rb'"source":\{[^{}]*"url":"[^":]{1,40}:(?P<rest>(?:[^"\\]|\\.)*)')
_HOST = re.compile(rb"//(?:[^/?]*@)?([^/?@]+)")

SLOTS = "slots"
"""The fact that has the ids of the slots that nobody had claimed when the newest was made."""
UNKNOWN_PAST = "unknown_past"
"""The fact that there may be sessions which an earlier file knew; it says ``true`` or ``false``."""
OF_INSTANCE = "instance"
"""The fact that has the name of the instance that it is of; only a backup has it."""
ASIDE = "unreadable."
"""What begins the name of a fact that keeps what a row said; the id of its session comes after it."""


class SessionRow(NamedTuple):
    """A session's row: the columns of its table, in order; ``data`` is opaque here."""

    id: str
    phase: str
    owner: str
    request_key: str | None
    created: float
    ended: float | None
    data: bytes


class WrongVersion(Exception):
    """A file is no journal of a version that can be read here.

    The text continues a sentence that begins with the file's name.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.is_newer = version > VERSION
        if self.is_newer:
            self.what = (
                f"is of version {version}, and this operatord reads versions up to {VERSION}"
            )
            text = f"{self.what}: use the newer operatord that wrote it"
        elif version < 1:
            self.what = text = "is an SQLite file, but not a journal of operatord"
        else:
            self.what = f"is of version {version}, which is older than this operatord"
            text = f"{self.what}: start it once with that, and it is of version {VERSION}"
        super().__init__(text)


def version_of(db: sqlite3.Connection) -> int:
    """Return which version an open file says that it is; 0 for one that is no journal."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def require_version(db: sqlite3.Connection, *, or_older: bool = False) -> None:
    """Raise `WrongVersion` for a file of another version than this; ``or_older`` ones may be wanted, too."""
    version = version_of(db)
    if version != VERSION and not (or_older and 1 <= version < VERSION):
        raise WrongVersion(version)


def migrate(db: sqlite3.Connection) -> None:
    """Bring an open file to this version, step by step, each of them done whole or not at all.

    An empty file becomes a journal, and one of this version is written to as well, to see that it can be.
    Raises `sqlite3.Error`, for what is no journal, too.
    """
    version = version_of(db)
    if version < 0:
        raise sqlite3.DatabaseError(f"it is of version {version}, which never existed")
    if version == 0:
        steps = {VERSION: SCHEMA}
    else:
        steps = {older + 1: MIGRATIONS[older] for older in range(version, VERSION)}
    for reached, step in steps.items():
        db.executescript(f"BEGIN; {step}; PRAGMA user_version = {reached}; COMMIT;")
    if steps:
        _check_tables(db)
    if db.execute("SELECT 1 FROM fact WHERE name = 'sources_scrubbed'").fetchone() is None:
        scrubber = _Scrubber()
        db.create_function("without_source", 1, scrubber.without_source)
        db.create_function("without_paths", 1, scrubber.without_paths)
        db.executescript(f"BEGIN; {SCRUB} COMMIT;")
    db.execute(f"PRAGMA user_version = {VERSION}")


class _Scrubber:
    """Takes out of rows where sources were. What is damaged may be text, and is left as it is."""

    def __init__(self) -> None:
        """No row has been seen."""
        self._hosts: set[bytes] = set()
        self._urls: re.Pattern[bytes] | None = None

    def without_source(self, data: bytes | str) -> bytes | str:
        """Return what a session's row says with no more of its source's URL than the scheme."""
        if not isinstance(data, bytes) or (found := _SOURCE.search(data)) is None:
            return data
        if host := _HOST.match(found["rest"]):
            self._hosts.add(host[1])
            self._urls = None
        return self._masked(data[: found.start("rest")] + data[found.end("rest") :])

    def without_paths(self, data: bytes | str) -> bytes | str:
        """Return what an event says without user, path and query in URLs of sources that rows had."""
        return self._masked(data) if isinstance(data, bytes) else data

    def _masked(self, data: bytes) -> bytes:
        if not self._hosts:
            return data
        if self._urls is None:
            hosts = b"|".join(map(re.escape, sorted(self._hosts)))
            self._urls = re.compile(rb'(//)(?:[^/?\s"\\]*@)?(%b)[/?][^\s"\\]*[^\s"\\:;,.)]' % hosts)
        return self._urls.sub(rb"\1\2/***", data)


def check(db: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` if an open file is damaged, or no journal of the version that it says."""
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict).splitlines()[0])
    if version_of(db) == VERSION:  # of an older one, it shows when it is brought to this one
        _check_tables(db)


def _check_tables(db: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        if _columns(fresh) != _columns(db):
            raise sqlite3.DatabaseError("it does not have the tables of a journal")


def _columns(db: sqlite3.Connection) -> list[tuple[str | int, ...]]:
    return db.execute(
        "SELECT t.name, c.name, c.type, c.pk FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
        "WHERE t.type = 'table' ORDER BY t.name, c.cid"
    ).fetchall()
