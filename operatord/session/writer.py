# SPDX-License-Identifier: MIT
"""What becomes of sessions and slots, written into the journal and told to subscribers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from operatord.machine.clock import Clock
from operatord.store.events import Emit
from operatord.store.journal import Journal
from operatord.store.journal_file import JournalFailed
from operatord.store.schema import SLOTS, SessionRow

from .record import SessionRecord
from .snapshot import SavedHolding, to_row

log = logging.getLogger(__name__)


class SessionWriter:
    """Writes of a session what it is now, with what it holds."""

    def __init__(
        self,
        journal: Journal,
        holding: Callable[[str], SavedHolding | None],
        clock: Clock,
        emit: Emit,
    ) -> None:
        """``holding`` returns what is debited for a session, by its id; ``emit`` publishes an event."""
        self._journal = journal
        self._holding = holding
        self._clock = clock
        self._emit = emit

    def announce(self, record: SessionRecord, **fields: Any) -> None:
        """Write down and publish the phase that ``record`` has come to; ``fields`` go into the event."""
        log.info("session %s is %s%s", record.id, record.phase, _brief(fields))
        self.note(record)
        self._emit(
            f"session.{record.phase}",
            session_id=record.id,
            pipeline=record.plan.pipeline,
            owner=record.owner,
            **fields,
        )

    def note(self, record: SessionRecord) -> None:
        """Write the session down as it is now."""
        self._journal.note_session(self._row(record))

    def _row(self, record: SessionRecord) -> SessionRow:
        return to_row(record, self._holding(record.id), self._clock)

    async def write_running(self, record: SessionRecord) -> None:
        """Write down where the stream is before anybody is told, since that must hold across a restart. The
        phase itself is changed afterwards.
        """
        self._journal.note_session(self._row(record)._replace(phase="running"))
        await self.written()  # or not: the stream works, and the trouble is reported

    async def written(self) -> None:
        """Return when all that was noted is on disk, or has failed to be written, which is reported
        elsewhere."""
        with contextlib.suppress(JournalFailed):
            await self.settled()

    async def settled(self) -> None:
        """Return when all that was noted is on disk. Raises `JournalFailed`."""
        await self._journal.settled()

    async def write_slots(self, slots: Sequence[str]) -> None:
        """Write down which slots there are; return when that is on disk. Raises `JournalFailed`."""
        self._journal.note_fact(SLOTS, msgspec.json.encode(slots))
        await self.settled()

    def former_slots(self) -> frozenset[str]:
        """Return the slots that were written down last: those of an earlier life, before `write_slots`."""
        data = self._journal.fact(SLOTS)
        try:
            return frozenset() if data is None else msgspec.json.decode(data, type=frozenset[str])
        except ValueError as exc:  # what they have on the engine is in no session, and goes as that
            log.warning("the slots of an earlier life cannot be read from the journal: %s", exc)
            return frozenset()


def _brief(fields: dict[str, Any]) -> str:
    said = [str(fields[name]) for name in ("outcome", "reason") if name in fields]
    return f": {', '.join(said)}" if said else ""
