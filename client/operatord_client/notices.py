# SPDX-License-Identifier: MIT
"""What the daemon says without being asked again: progress of a start, events, lines of a log."""

from __future__ import annotations

from typing import Any, NamedTuple

from operatord_protocol.messages import StageLine

PROGRESS = "session.progress"
EVENT = "event"
LOG = "session.log"
LOST = "events.lost"


class Notice(NamedTuple):
    """A notification as it came."""

    method: str
    params: dict[str, Any]

    @property
    def subscription(self) -> int | None:
        return self.params.get("subscription")


class Progress(NamedTuple):
    """How far a pending start has come."""

    request_id: int | str | None
    """The start's own id, which `cancel` takes."""
    session_id: str
    stage: str | None
    """What is being done, for example ``network`` or ``verify``; None while it waits in the queue."""
    position: int | None
    """Place in the queue, 1 is next; None once it has left the queue."""
    reason: str | None
    """A sentence."""
    estimate: float | None = None
    """Seconds until it is expected to leave the queue; None if that cannot be told."""

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Progress:
        """Return the progress that a ``session.progress`` reports."""
        values = (params.get(name) for name in ("stage", "position", "reason", "estimate"))
        return cls(params.get("id"), str(params.get("session_id", "")), *values)


class Event(NamedTuple):
    """Something that happened; ``seq`` grows by one from event to event of a daemon."""

    type: str
    """Such as ``session.running``; ``events.lost`` marks a gap, see `lost`."""
    seq: int | None
    time: str
    """RFC 3339, UTC."""
    session_id: str | None
    data: dict[str, Any]
    """All members as they came, those above and the type's own."""

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Event:
        """Return the event that a notification's params tell of."""
        return cls(
            str(params.get("type", "")),
            params.get("seq"),
            str(params.get("time", "")),
            params.get("session_id"),
            params,
        )

    @property
    def lost(self) -> tuple[int, int] | None:
        """First and last ``seq`` of events that can no longer be had, for a gap marker."""
        if self.type != LOST:
            return None
        return self.data.get("from", 0), self.data.get("to", 0)


def read_event(notice: Notice) -> Event:
    """Return the event that a notice tells of."""
    return Event.from_params(notice.params)


def read_line(notice: Notice) -> StageLine:
    """Return the line that a ``session.log`` carries."""
    values = {name: str(notice.params.get(name, "")) for name in ("stage", "time", "line")}
    return StageLine(**values)


def is_end(notice: Notice) -> bool:
    """Return whether a notice says that no more lines follow."""
    return notice.method == LOG and notice.params.get("end") is True
