# SPDX-License-Identifier: MIT
"""What a requester is told when a session is refused, or fails to start: one place for the words."""

from __future__ import annotations

from typing import Any

from operatord.core import scheduler
from operatord_protocol import errors

from .record import Ending, SessionRecord
from .starter import StepFailed

ERROR_LINES = 10
"""How many of a stage's last log lines go into an error."""

_REFUSALS: dict[scheduler.RefusalType, tuple[type[errors.WireError], str]] = {
    "no_capacity": (errors.NoCapacity, "stop a session, or ask with on_shortage: queue"),
    "queue_full": (errors.QueueFull, "the queue is full as well; try again later"),
    "deadline_exceeded": (errors.DeadlineExceeded, "the deadline passed before there was room"),
    "draining": (errors.Draining, "ask another machine, or after system.undrain"),
}


def refusal(action: scheduler.Refuse) -> errors.WireError:
    """Return the error for a request that is not admitted."""
    kind, advice = _REFUSALS[action.type]
    why = action.why
    return kind(f"{why.text}; {advice}", **explanation(why))


def explanation(why: scheduler.Why) -> dict[str, Any]:
    """Return why there is no room as data: dimension, asked, free, capacity, held by whom."""
    return {
        "dimension": why.dimension,
        "needed": why.needed,
        "free": why.free,
        "capacity": why.capacity,
        "held_by": list(why.held_by[:32]),
    }


def step_error(record: SessionRecord, exc: StepFailed) -> errors.WireError:
    """Return the error for a start that failed at one of its steps."""
    data = {"step": record.step, **exc.data}
    return exc.kind(exc.reason, session_id=record.id, **data)


def final_error(record: SessionRecord, ending: Ending) -> errors.WireError:
    """Return what whoever waits for the stream is told, with the last words of the stage at fault."""
    error = ending.error
    if error is None:
        kind = errors.StartFailed if ending.outcome == "failed" else errors.Cancelled
        message = f"the session ended before its stream was there: {ending.reason}"
        error = kind(message, step=record.step, session_id=record.id, cause=ending.cause)
    if ending.stage is not None:
        lines = record.log_tails.get(ending.stage, [])[-ERROR_LINES:]
        error.data |= {"stage": ending.stage, "log": [line.line for line in lines]}
    return error
