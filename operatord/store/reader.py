# SPDX-License-Identifier: MIT
"""What can be asked of a journal's file. Nothing here changes it.

The daemon reads its own file this way, and `Journal` adds what is not committed yet. The commands that look
at a journal beside a daemon, or without one, begin with `reading`, which refuses other versions.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from .journal_file import bear_damaged_text, connect_to_read
from .schema import SessionRow, require_version

log = logging.getLogger(__name__)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[JournalReader]:
    """Yield a reader of the journal at ``path``, which another process may be writing; it blocks nobody.

    Raises `schema.WrongVersion`, `sqlite3.Error`.
    """
    with contextlib.closing(connect_to_read(path)) as db:
        require_version(db)
        bear_damaged_text(db)
        yield JournalReader(db)


class JournalReader:
    """The questions; each raises `sqlite3.Error`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Read ``db``, a journal of this version; the caller closes it."""
        self._db = db

    # Sessions

    def living(self) -> list[SessionRow]:
        """Return the sessions that had not ended, oldest first."""
        return self._rows("SELECT * FROM session WHERE ended IS NULL ORDER BY created")

    def ended(self, session_id: str) -> SessionRow | None:
        """Return a session that has ended."""
        return self._row("SELECT * FROM session WHERE id = ? AND ended IS NOT NULL", session_id)

    def history(
        self, owner: str | None, limit: int, after: tuple[float, str] | None = None
    ) -> list[SessionRow]:
        """Return sessions that have ended, the newest first; ``after`` one of that time and that id."""
        where, chosen = "ended IS NOT NULL", list[object]()
        if owner is not None:
            where += " AND owner = ?"
            chosen += [owner]
        if after is not None:
            where += " AND (created, id) < (?, ?)"
            chosen += after
        return self._rows(
            f"SELECT * FROM session WHERE {where} ORDER BY created DESC, id DESC LIMIT ?",  # noqa: S608
            *chosen,
            limit,
        )

    def ended_count(self, but: Collection[str] = ()) -> int:
        """Return how many sessions have ended, ``but`` for those with these ids."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM session WHERE ended IS NOT NULL "
            "AND id NOT IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(list(but)).decode(),),
        ).fetchone()
        return int(count)

    def by_key(self, owner: str, request_key: str) -> SessionRow | None:
        """Return the newest session that has ended and was asked for with this key."""
        return self._row(
            "SELECT * FROM session WHERE request_key = ? AND owner = ? AND ended IS NOT NULL "
            "ORDER BY created DESC LIMIT 1",
            request_key,
            owner,
        )

    def sessions(self, ids: Iterable[str]) -> dict[str, SessionRow]:
        """Return those that there are of the sessions with these ids, whether they live or not."""
        query = "SELECT * FROM session WHERE id = ?"
        return {each: row for each in ids if (row := self._row(query, each)) is not None}

    def all_sessions(self) -> Iterator[SessionRow]:
        """Yield all sessions, oldest first."""
        for row in self._db.execute("SELECT * FROM session ORDER BY created"):
            yield SessionRow(*row)

    # What else is remembered

    def events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the events, oldest first; one that cannot be read is left out."""
        for seq, data in self._db.execute("SELECT seq, data FROM event ORDER BY seq"):
            try:
                yield seq, msgspec.json.decode(data, type=dict[str, Any])
            except ValueError as exc:
                log.warning("event %d cannot be read from the journal: %s", seq, exc)

    def probes(self) -> dict[str, bytes]:
        """Return the registered probes by name."""
        return dict(self._db.execute("SELECT name, data FROM probe ORDER BY rowid"))

    def fact(self, name: str) -> bytes | None:
        """Return what was remembered under a name."""
        query = "SELECT CAST(data AS BLOB) FROM fact WHERE name = ?"
        row = self._db.execute(query, (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def _rows(self, query: str, *values: object) -> list[SessionRow]:
        return [SessionRow(*row) for row in self._db.execute(query, values)]

    def _row(self, query: str, *values: object) -> SessionRow | None:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else SessionRow(*row)
