# SPDX-License-Identifier: MIT
"""Tells those who wait in the queue where they stand: position, reason, and when it may be their turn.

Every event may change all positions, and computing them takes time in proportion to the queue. So they are
computed once for all events of a moment, less often the longer it takes, and sent only to those whose
position has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from operatord.machine.clock import Clock, Timer
from operatord.session.record import NOT_QUEUED, QueuePosition, SessionRecord

from .admission import Admission

SHARE = 20
"""Notifying may take a twentieth of the daemon's time."""
LONGEST_PAUSE = 2.0
NEWS = 1.0
"""Seconds by which an estimate has to change before it is sent again, or a tenth of the wait."""


class QueueNotifier:
    """Knows who waits, and what each was told last."""

    def __init__(self, admission: Admission, clock: Clock) -> None:
        self._admission = admission
        self._clock = clock
        self._records: dict[str, SessionRecord] = {}
        self._timer: Timer | None = None
        self._deadline: Timer | None = None
        self._pause = 0.0

    def wait(self, record: SessionRecord) -> None:
        """``record`` waits from now on."""
        self._records[record.id] = record

    def forget(self, record: SessionRecord) -> None:
        """It waits no longer."""
        self._records.pop(record.id, None)
        record.place = NOT_QUEUED

    def refresh(self, record: SessionRecord) -> bool:
        """Write into ``record`` where it stands now; tell whether that is news."""
        standing = self._admission.standing(record.id)
        why = self._admission.why(record.id)
        if standing is None or why is None:
            return False
        before = record.place
        moved = self._moved(before.starts_at, standing.start)
        starts_at = standing.start if moved else before.starts_at
        wait = None if starts_at is None else max(0.0, starts_at - self._clock.now())
        estimate = None if wait is None else round(wait, 1)
        record.place = QueuePosition(standing.position, why.text, starts_at, estimate)
        return moved or before[:2] != record.place[:2]

    def _moved(self, told: float | None, start: float | None) -> bool:
        if told is None or start is None:
            return told is not start
        return abs(told - start) > max(NEWS, (start - self._clock.now()) / 10)

    def tell(self, tick: Callable[[], None]) -> None:
        """Tell everybody, soon; call ``tick`` when the next deadline has passed."""
        self._set_deadline(tick)
        if self._records and self._timer is None:
            self._timer = self._clock.call_later(self._pause, self._tell)

    def _tell(self) -> None:
        self._timer = None
        begun = self._clock.now()
        for record in tuple(self._records.values()):
            if self.refresh(record):
                record.tell(standing_of(record))
        self._pause = min(SHARE * (self._clock.now() - begun), LONGEST_PAUSE)

    def _set_deadline(self, tick: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if (moment := self._admission.next_deadline()) is not None:
            self._deadline = self._clock.call_later(moment - self._clock.now(), tick)


def standing_of(record: SessionRecord) -> dict[str, Any]:
    """Return what a progress notification says of one that waits."""
    place = record.place
    note = {"position": place.position, "reason": place.reason, "estimate": place.estimate}
    return {"stage": "queue"} | {key: value for key, value in note.items() if value is not None}
