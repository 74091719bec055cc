# SPDX-License-Identifier: MIT
"""Admission: which session may start now, which waits, which is refused.

``decide(state, event, now)`` is the only way in. It does no I/O and reads no clock, changes nothing but
``state`` and returns what is to be done; the caller acts afterwards. The same events give the same
actions, so it can be simulated and property-tested.

The rule of this version: at most ``limits.sessions`` live at once; the rest queue by priority, first
come first served within one. A place is free again when the session's last object is gone.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

OnShortage = Literal["queue", "refuse", "degrade"]
RefusalType = Literal["no_capacity", "queue_full", "deadline_exceeded", "draining"]


class Limits(NamedTuple):
    """Places for sessions that live, and for requests that wait."""

    sessions: int
    queue: int


class Ask(NamedTuple):
    """What admission needs to know of a request."""

    session_id: str
    priority: int = 0
    on_shortage: OnShortage = "queue"
    deadline: float | None = None
    """Moment after which it must not be started any more, on the caller's clock."""


# Events
class Submitted(NamedTuple):
    """A request came in."""

    ask: Ask


class Released(NamedTuple):
    """Everything of a session is gone from the engine: its place is free."""

    session_id: str


class Withdrawn(NamedTuple):
    """A queued request is not wanted any more."""

    session_id: str


class Tick(NamedTuple):
    """Time has passed: deadlines may have, too."""


class Changed(NamedTuple):
    """The limits or the draining are different now."""

    limits: Limits
    draining: bool


Event = Submitted | Released | Withdrawn | Tick | Changed


# Actions
class Start(NamedTuple):
    """Start it: its place is taken already."""

    session_id: str


class Enqueue(NamedTuple):
    """It waits at ``position`` (1 is next), for the reason in ``why``."""

    session_id: str
    position: int
    why: Why


class Refuse(NamedTuple):
    """It will not be started."""

    session_id: str
    type: RefusalType
    why: Why


Action = Start | Enqueue | Refuse


class Why(NamedTuple):
    """Why there is no room: the scarce dimension in numbers, and a sentence."""

    dimension: str
    needed: float
    free: float
    capacity: float
    held_by: tuple[str, ...]
    text: str


class _Waiting(NamedTuple):
    order: tuple[int, int]
    """(−priority, serial): what the queue is sorted by."""
    ask: Ask


@dataclass(slots=True)
class State:
    """Everything that admission remembers. Owned by one supervisor, changed only by `decide`."""

    limits: Limits
    draining: bool = False
    living: dict[str, None] = field(default_factory=dict)
    """Ids that hold a place, oldest first."""
    queue: list[_Waiting] = field(default_factory=list)
    serial: int = 0


def decide(state: State, event: Event, now: float) -> list[Action]:
    """Take ``event`` into ``state`` at the moment ``now`` and return what is to be done."""
    if isinstance(event, Submitted):
        return _submit(state, event.ask, now)
    if isinstance(event, Released):
        state.living.pop(event.session_id, None)
    elif isinstance(event, Withdrawn):
        state.queue = [w for w in state.queue if w.ask.session_id != event.session_id]
    elif isinstance(event, Changed):
        state.limits, state.draining = event.limits, event.draining
    return _settle(state, now)


def preview(state: State, ask: Ask) -> Action:
    """Return what `decide` would answer to ``ask`` now, changing nothing."""
    if state.draining:
        return Refuse(ask.session_id, "draining", _why(state))
    if len(state.living) < state.limits.sessions:
        return Start(ask.session_id)
    if ask.on_shortage == "refuse":
        return Refuse(ask.session_id, "no_capacity", _why(state))
    if len(state.queue) >= state.limits.queue:
        return Refuse(ask.session_id, "queue_full", _why(state))
    ahead = bisect.bisect(state.queue, (-ask.priority, state.serial), key=lambda w: w.order)
    return Enqueue(ask.session_id, ahead + 1, _why(state))


def next_deadline(state: State) -> float | None:
    """Return the moment of the earliest deadline in the queue."""
    deadlines = [w.ask.deadline for w in state.queue if w.ask.deadline is not None]
    return min(deadlines, default=None)


def positions(state: State) -> dict[str, int]:
    """Return each queued session's position; 1 is next."""
    return {w.ask.session_id: index for index, w in enumerate(state.queue, 1)}


def _submit(state: State, ask: Ask, now: float) -> list[Action]:
    if ask.deadline is not None and ask.deadline <= now:
        return [Refuse(ask.session_id, "deadline_exceeded", _why(state))]
    action = preview(state, ask)
    if isinstance(action, Start):
        state.living[ask.session_id] = None
    elif isinstance(action, Enqueue):
        state.queue.insert(action.position - 1, _Waiting((-ask.priority, state.serial), ask))
        state.serial += 1
    return [action]


def _settle(state: State, now: float) -> list[Action]:
    """Refuse what came too late, then start from the head while there is room."""
    actions: list[Action] = []
    kept: list[_Waiting] = []
    for waiting in state.queue:
        if waiting.ask.deadline is not None and waiting.ask.deadline <= now:
            actions.append(Refuse(waiting.ask.session_id, "deadline_exceeded", _why(state)))
        else:
            kept.append(waiting)
    room = max(0, state.limits.sessions - len(state.living)) if not state.draining else 0
    for waiting in kept[:room]:
        state.living[waiting.ask.session_id] = None
        actions.append(Start(waiting.ask.session_id))
    state.queue = kept[room:]
    return actions


def _why(state: State) -> Why:
    capacity, living = state.limits.sessions, len(state.living)
    free = max(0, capacity - living)
    if state.draining:
        text = "the daemon is draining: it admits no new sessions"
    else:
        text = f"{living} of {capacity} sessions live; a start needs 1 place and {free} are free"
    return Why("sessions", 1, free, capacity, tuple(state.living), text)
