# SPDX-License-Identifier: MIT
"""What must outlive the daemon, in one SQLite file: sessions, events, probes, and what was learned.

Writing is the job of one thread: what is noted is collected and committed together, so a busy daemon commits
seldom and a quiet one at once. `Journal.settled` returns when all that has been noted is committed; wait for
it before changing anything on an engine.

Write-ahead logging with ``synchronous = NORMAL``: a commit survives the death of the daemon at any moment.
A power failure may lose the last commits, but then the containers that they spoke of have died as well.

A write that fails is kept and tried again. So is one that got into a file which is not at its path any more,
and which `journal_place` puts back there. A row that cannot be read can be kept aside; for a whole file that
cannot be read, see `journal_file`.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from operatord.machine.failpoints import hit

from .journal_file import JournalFailed, connect, open_sound
from .journal_place import JournalPlace
from .reader import JournalReader
from .schema import ASIDE, SessionRow

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds after which a write that failed is tried again."""
EVENTS_KEPT = 10_000


def _words(exc: Exception) -> str:
    """Return what to say of a failed write, and what to do; for a defect, the log has the traceback."""
    if isinstance(exc, JournalFailed):
        return str(exc)
    if isinstance(exc, sqlite3.Error):
        full = getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        return (
            f"{exc}; {'make room on that disk' if full else 'see that operatord can write there'}"
        )
    if isinstance(exc, OSError):
        return f"{exc.strerror}; see that operatord can write there"
    log.error("writing the journal broke", exc_info=exc)
    return f"an unexpected error ({type(exc).__name__}); the daemon's log has the details"


class Retention(NamedTuple):
    """How long ended sessions are kept: whichever of the two comes first."""

    rows: int
    seconds: float


class _Batch:
    """What has been noted and not yet committed. Later notes on the same thing replace earlier ones."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionRow] = {}
        self.events: dict[int, bytes] = {}
        self.probes: dict[str, bytes | None] = {}
        self.facts: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self.sessions or self.events or self.probes or self.facts)

    def under(self, newer: _Batch) -> _Batch:
        """Return this batch with ``newer`` laid over it."""
        both = _Batch()
        both.sessions = self.sessions | newer.sessions
        both.events = self.events | newer.events
        both.probes = self.probes | newer.probes
        both.facts = self.facts | newer.facts
        return both


class Journal:
    """The open file. Made for one event loop; only `settled` and `close` wait for the disk."""

    def __init__(
        self,
        path: Path,
        retention: Retention,
        on_trouble: Callable[[str | None], None] = lambda problem: None,
        secure: Callable[[], None] = lambda: None,
    ) -> None:
        """Open or create it. ``on_trouble`` hears when writing begins to fail; with None, works again.

        ``secure`` is called after each write, in a thread: it makes sure that the directory is still there,
        or raises `JournalFailed`. Raises `JournalFailed` when neither the file nor a new one can be used, or
        a newer version made it.
        """
        self.path = path
        self.retention = retention
        self.on_trouble = on_trouble
        self._secure = secure
        self.problem: str | None = None
        """Why nothing can be written now."""
        self._noted = _Batch()
        self._flying = _Batch()
        """What is being committed."""
        self._writing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "journal")
        try:
            self._reading = open_sound(path)
            self._reader = JournalReader(self._reading)
            self._connection = connect(path)
            self._place = JournalPlace(path)
        except sqlite3.Error as exc:
            raise JournalFailed(f"the journal cannot be used: {exc}: {path}") from exc

    # Notes

    def note_session(self, row: SessionRow) -> None:
        """Remember a session as it is now."""
        self._noted.sessions[row.id] = row
        self._begin()

    def note_event(self, seq: int, event: dict[str, Any]) -> None:
        """Remember an event; the oldest are forgotten."""
        self._noted.events[seq] = msgspec.json.encode(event)
        self._begin()

    def note_probe(self, name: str, data: bytes | None) -> None:
        """Remember a registered probe, or with None forget it."""
        self._noted.probes[name] = data
        self._begin()

    def note_fact(self, name: str, data: bytes) -> None:
        """Remember something by name."""
        self._noted.facts[name] = data
        self._begin()

    def keep_aside(self, row: SessionRow) -> str:
        """Keep what a row says for as long as its session is remembered; return the fact's name.

        For a row that cannot be read, before a readable one replaces it in the same commit.
        """
        name = ASIDE + row.id
        self.note_fact(name, row.data)
        return name

    async def settled(self) -> None:
        """Return when all that was noted is committed. Raises `JournalFailed`.

        What could not be written before is tried once more now.
        """
        while self._noted or self._writing is not None:
            await asyncio.shield(self._writing or self._try_again())
            if self.problem is not None:
                raise JournalFailed(self.problem)

    def _begin(self) -> None:
        if self._writing is None and self.problem is None and not self._closed:
            self._try_again()

    async def _write(self) -> None:
        """Commit batch after batch until nothing is left, or one fails."""
        loop = asyncio.get_running_loop()
        try:
            while self._noted:
                self._flying, self._noted = self._noted, _Batch()
                try:
                    anew = await loop.run_in_executor(self._thread, self._write_down, self._flying)
                except Exception as exc:  # whatever was raised, the notes must not be lost
                    self._noted = self._flying.under(self._noted)
                    self._trouble(f"the journal cannot be written: {_words(exc)}")
                    self._retry = loop.call_later(RETRY, self._try_again)
                    return
                if anew is not None:
                    self._go_on_with(*anew)
                self._trouble(None)
        finally:
            self._flying, self._writing = _Batch(), None

    def _try_again(self) -> asyncio.Task[None]:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return self._writing

    def _trouble(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            log.info("the journal can be written again")
        else:
            log.error("%s; nothing is lost yet, and nothing new is started: %s", problem, self.path)
        self.on_trouble(problem)

    def _write_down(self, batch: _Batch) -> tuple[sqlite3.Connection, sqlite3.Connection] | None:
        """Write one batch to the file at the journal's path, in the journal's own thread.

        Return connections to the file, to read and to write, if it had to be put back for that.
        """
        self._commit(batch)
        self._secure()
        if self._place.is_right:
            return None
        self._place.put_back(self._connection)
        reading = open_sound(self.path)
        try:
            return reading, connect(self.path)
        except BaseException:
            reading.close()
            raise

    def _go_on_with(self, *anew: sqlite3.Connection) -> None:
        old = self._reading, self._connection
        self._reading, self._connection = anew
        self._reader = JournalReader(self._reading)
        self._place = JournalPlace(self.path)
        for connection in old:
            connection.close()
        log.warning("the journal was not at its path any more, and is there again: %s", self.path)

    def _commit(self, batch: _Batch) -> None:
        """Write one batch, in the journal's own thread."""
        hit("journal.commit.before")
        with self._connection as db:
            db.executemany(
                "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?)",
                batch.sessions.values(),
            )
            db.executemany("INSERT OR REPLACE INTO event VALUES (?, ?)", batch.events.items())
            db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", batch.facts.items())
            for name, data in batch.probes.items():
                db.execute("DELETE FROM probe WHERE name = ?", (name,))
                if data is not None:
                    db.execute("INSERT INTO probe VALUES (?, ?)", (name, data))
            if batch.events:
                db.execute("DELETE FROM event WHERE seq <= ?", (max(batch.events) - EVENTS_KEPT,))
            ends = [row.ended for row in batch.sessions.values() if row.ended is not None]
            if ends:
                self._forget(db, max(ends))
        hit("journal.commit.after")

    def _forget(self, db: sqlite3.Connection, now: float) -> None:
        """Forget ended sessions that are too old or too many, and what was kept aside of them."""
        rows, seconds = self.retention
        db.execute("DELETE FROM session WHERE ended < ?", (now - seconds,))
        db.execute(
            "DELETE FROM session WHERE id IN (SELECT id FROM session "
            "WHERE ended IS NOT NULL ORDER BY ended DESC, rowid DESC LIMIT -1 OFFSET ?)",
            (rows,),
        )
        db.execute(
            "DELETE FROM fact WHERE substr(name, 1, ?) = ? "
            "AND substr(name, ?) NOT IN (SELECT id FROM session)",
            (len(ASIDE), ASIDE, len(ASIDE) + 1),
        )

    # Memories

    def living(self) -> list[SessionRow]:
        """Return the sessions that had not ended, oldest first."""
        return self._reader.living()

    def ended(self, session_id: str) -> SessionRow | None:
        """Return a session that has ended, if it is still remembered."""
        return self._pending().get(session_id) or self._reader.ended(session_id)

    def history(
        self, owner: str | None, limit: int, after: tuple[float, str] | None = None
    ) -> list[SessionRow]:
        """Return sessions that have ended, the newest first; ``after`` one of that time and that id."""
        limit = min(limit, self.retention.rows)
        rows = self._reader.history(owner, limit, after)
        pending = self._pending()
        newer = [
            row
            for row in pending.values()
            if owner in (None, row.owner) and (after is None or (row.created, row.id) < after)
        ]
        found = [*newer, *(row for row in rows if row.id not in pending)]
        return sorted(found, key=lambda row: (row.created, row.id), reverse=True)[:limit]

    def ended_count(self) -> int:
        """Return how many sessions that have ended are remembered."""
        pending = self._pending()
        # In one look: what is being committed may appear in the file at any moment.
        count = self._reader.ended_count(but=pending)
        return min(count + len(pending), self.retention.rows)

    def by_key(self, owner: str, request_key: str) -> SessionRow | None:
        """Return the newest session that has ended and was asked for with this key."""
        for row in reversed(self._pending().values()):
            if (row.owner, row.request_key) == (owner, request_key):
                return row
        return self._reader.by_key(owner, request_key)

    def _pending(self) -> dict[str, SessionRow]:
        """Return the sessions that have ended and are not committed yet, oldest first."""
        pending = self._flying.sessions | self._noted.sessions
        return {row.id: row for row in pending.values() if row.ended is not None}

    def events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the remembered events, oldest first; one that cannot be read is left out."""
        return self._reader.events()

    def probes(self) -> dict[str, bytes]:
        """Return the registered probes by name."""
        return self._reader.probes()

    def fact(self, name: str) -> bytes | None:
        """Return what was remembered under a name."""
        return self._reader.fact(name)

    async def close(self) -> None:
        """Commit what has been noted, if it can be, and close the file. Idempotent."""
        if self._closed:
            return
        try:
            await self.settled()
        except JournalFailed as exc:
            log.error("%s: the last changes are lost", exc)
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._thread.shutdown(wait=True)
        self._connection.close()
        self._reading.close()
