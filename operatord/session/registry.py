# SPDX-License-Identifier: MIT
"""Which sessions there are: the living in memory, the ended in the journal."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from typing import NamedTuple

from operatord.core.phases import TRANSITIONS
from operatord.core.sameness import differing
from operatord.store.journal import Journal
from operatord.store.schema import SessionRow
from operatord_protocol import errors
from operatord_protocol.absent import given
from operatord_protocol.messages import Phase, SessionStartParams

from .record import SessionRecord
from .snapshot import Unreadable, from_row

log = logging.getLogger(__name__)


KnownSession = SessionRecord | SessionRow
"""A session that lives, or what is written of one that has ended."""


class Mark(NamedTuple):
    """A place in the order of all sessions."""

    created: float
    id: str


def mark(found: KnownSession) -> Mark:
    """Return a session's sort key: when it was asked for, and its id."""
    return Mark(found.created, found.id)


class SessionRegistry:
    """Finds sessions by their id, by their request's key, or by what they are like."""

    def __init__(self, journal: Journal) -> None:
        """Begin empty; ``journal`` has the sessions that have ended."""
        self._journal = journal
        self.records: dict[str, SessionRecord] = {}
        """The living, by id, oldest first."""
        self._keys: dict[tuple[str, str], SessionRecord] = {}

    def add(self, record: SessionRecord) -> None:
        """Note a session that lives."""
        self.records[record.id] = record
        if (key := given(record.params.request_key)) is not None:
            self._keys[record.owner, key] = record

    def remove(self, record: SessionRecord) -> None:
        """Note that it has ended: the journal has it from now on."""
        del self.records[record.id]
        if (key := given(record.params.request_key)) is not None:
            self._keys.pop((record.owner, key), None)

    def new_id(self, networks: Collection[str] = ()) -> str:
        """Draw an id whose first five digits, which name the network, no other living session has.

        ``networks`` are names that are taken as well.
        """
        taken = {record.network_name for record in self.living()}.union(networks)
        while True:
            session_id = secrets.token_hex(8).upper()
            if f"network_{session_id[:5]}" not in taken and session_id not in self.records:
                return session_id

    def same_request(
        self, params: SessionStartParams, owner: str, default_count: int
    ) -> SessionRecord | None:
        """Return the session that an earlier request with the same key made.

        ``default_count`` is what a request without a count means. Raises `Conflict`, `InvalidParams`.
        """
        if (key := given(params.request_key)) is None:
            return None
        record = self._keys.get((owner, key))
        if record is None and (row := self._journal.by_key(owner, key)):
            record = _recalled(row)
        if record is None or (record.phase == "ended" and record.started is None):
            return None  # its start failed: trying again is what the key is for
        if others := differing(record.params, record.plan, params, default_count):
            names = ", ".join(f"`{name}`" for name in others)
            raise errors.Conflict(
                f"this request_key was used for a request with another {names}; choose a new one",
                session_id=record.id,
            )
        return record

    def get(self, session_id: str) -> SessionRecord:
        """Return a session, living or ended. Raises `NotFound`."""
        if record := self.records.get(session_id):
            return record
        if (row := self._journal.ended(session_id)) and (record := _recalled(row)):
            return record
        raise errors.NotFound(
            f"there is no session {session_id}; ended ones are kept for a while only",
            session_id=session_id,
        )

    def has_ended(self, session_id: str) -> bool:
        """Tell whether a session has lived and is over."""
        return session_id not in self.records and self._journal.ended(session_id) is not None

    def owner_of(self, session_id: str) -> str | None:
        """Return whose session it is, living or ended; None of one that is not known."""
        found = self.records.get(session_id) or self._journal.ended(session_id)
        return None if found is None else found.owner

    def living(self) -> list[SessionRecord]:
        """Return the sessions that hold a place, or wait for one, oldest first."""
        return list(self.records.values())

    def running(self) -> list[SessionRecord]:
        """Return the sessions whose stream is there."""
        return [record for record in self.records.values() if record.phase == "running"]

    def present(self) -> list[SessionRecord]:
        """Return the sessions that have, or make, something on the engine."""
        return [r for r in self.records.values() if r.phase in ("starting", "running")]

    def find(
        self, phase: Phase | None, owner: str | None, limit: int, after: Mark | None = None
    ) -> list[KnownSession]:
        """Return sessions after the mark, newest first; ended ones as long as they are remembered."""
        living = [
            record
            for record in self.records.values()
            if phase in (None, record.phase)
            and owner in (None, record.owner)
            and (after is None or mark(record) < after)
        ]
        ended = self._journal.history(owner, limit, after) if phase in (None, "ended") else []
        found: list[KnownSession] = [*living, *ended]
        return sorted(found, key=mark, reverse=True)[:limit]

    def recall(self, row: SessionRow) -> SessionRecord | None:
        """Return a session that has ended, without its log lines; None if it cannot be read."""
        return _recalled(row, logs=False)

    def counts(self) -> dict[str, int]:
        """Return how many sessions there are in each phase."""
        counts: dict[str, int] = dict.fromkeys(TRANSITIONS, 0)
        for record in self.records.values():
            counts[record.phase] += 1
        return counts | {"ended": self._journal.ended_count()}


def _recalled(row: SessionRow, *, logs: bool = True) -> SessionRecord | None:
    """Return a session that has ended; None if what is written of it cannot be read."""
    try:
        return from_row(row, logs=logs)[0]
    except Unreadable as exc:
        log.warning("%s", exc)
        return None
