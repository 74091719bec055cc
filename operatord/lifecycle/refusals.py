# SPDX-License-Identifier: MIT
"""What a requester is told when a session is refused, or fails to start: one place for the words."""

from __future__ import annotations

import math
from typing import Any

from operatord.core.scheduling import scheduler
from operatord.core.scheduling.why import Why
from operatord.machine.clock import Clock, rfc3339
from operatord.provision.steps import StepFailed
from operatord.session.record import FIRST_STEP, Ending, SessionRecord
from operatord.streams.reports import is_for_people
from operatord_protocol import errors

ERROR_LINES = 10
"""How many of a stage's last log lines go into an error, not counting its reports to the daemon."""

_REFUSALS: dict[scheduler.RefusalType, tuple[type[errors.WireError], str]] = {
    "no_capacity": (errors.NoCapacity, "stop a session, or ask with on_shortage: queue"),
    "queue_full": (errors.QueueFull, "the queue is full as well; try again later"),
    "deadline_exceeded": (errors.DeadlineExceeded, "it cannot be ready before its deadline"),
    "draining": (errors.Draining, "ask another machine, or after system.undrain"),
    "never_fits": (errors.NeverFits, "ask for less, or another machine"),
}


def refusal(action: scheduler.Refuse, clock: Clock) -> errors.WireError:
    """Return the error for a request that is not admitted."""
    kind, advice = _REFUSALS[action.type]
    why = action.why
    data = explanation(why, clock)
    if kind.retryable and why.next_release is not None:
        data["retry_after"] = max(1, math.ceil(why.next_release - clock.now()))
    if why.dimension == "disk":
        advice = "ask again then, or with on_shortage: queue"
    # If something else occupies all address ranges, say what to do about it.
    text = why.text if why.dimension == "subnets" and not why.capacity else f"{why.text}; {advice}"
    return kind(text, **data)


def explanation(why: Why, clock: Clock) -> dict[str, Any]:
    """Return why there is no room as data: dimension, asked, free, capacity, by whom, until when."""
    found: dict[str, Any] = {
        "dimension": why.dimension,
        "needed": _number(why.needed),
        "free": _number(why.free),
        "capacity": _number(why.capacity),
        "held_by": list(why.held_by),
    }
    if why.next_release is not None:
        found["next_release"] = rfc3339(clock.wall() + why.next_release - clock.now())
    if why.ahead is not None:
        found["ahead"] = why.ahead
    return found


def _number(amount: float) -> float:
    """Return pieces and bytes as whole numbers, as they are."""
    return int(amount) if amount == int(amount) else amount


def step_error(record: SessionRecord, exc: StepFailed) -> errors.WireError:
    """Return the error for a start that failed at one of its steps."""
    data = {"step": record.step, **exc.data}
    return exc.kind(exc.reason, session_id=record.id, **data)


def _kind(ending: Ending) -> type[errors.WireError]:
    if ending.cause == "engine_lost":
        return errors.EngineUnavailable  # another try may well succeed
    return errors.StartFailed if ending.outcome == "failed" else errors.Cancelled


def _step(record: SessionRecord) -> dict[str, str]:
    """Return at which step a start has ended; nothing if it was an earlier daemon's, which has not said."""
    is_unknown = record.step == FIRST_STEP and "starting" in record.phases
    return {} if is_unknown else {"step": record.step}


def final_error(record: SessionRecord, ending: Ending) -> errors.WireError:
    """Return the error for the requester, with the last log lines of the stage at fault."""
    error = ending.error
    if error is None:
        kind = _kind(ending)
        message = f"the session ended before its stream was there: {ending.reason}"
        error = kind(message, **_step(record), session_id=record.id, cause=ending.cause)
    if ending.stage is not None:
        lines = filter(is_for_people, record.observed.log_tails.get(ending.stage, []))
        words = [line.line for line in lines][-ERROR_LINES:]
        error.data |= {"stage": ending.stage, "log": words}
    return error
