# SPDX-License-Identifier: MIT
"""Admission: which session may start now, which waits, which is refused.

``decide(state, event, now)`` is the only way in. It does no I/O and reads no clock, changes nothing but
``state`` and returns what is to be done; the caller acts afterwards. The same events give the same
actions, so it can be simulated and property-tested.

The rules:

- A session starts when what it needs fits in every dimension (`room`), and not while the machine is under
  pressure or the daemon is draining.
- Whoever is first in the queue (`waiting`) and does not fit keeps its turn; others may go before it where
  that does not delay it (`backfill`).
- A session that may be degraded starts plain when there is no room for the whole of it (`starting`).
- Slots take only what nobody waits for, and are given up for whoever is first (`slots`).

Its input is in `events`, its output in `actions`; both can be imported from here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple

from . import slots
from .actions import Action, Attach, Enqueue, GiveUp, RefusalType, Refuse, Start
from .backfill import longest_backfill, passer
from .events import (
    Attached,
    Changed,
    Claimed,
    Detached,
    Event,
    Measured,
    Released,
    Reserved,
    Restored,
    Running,
    Submitted,
    Tick,
    Withdrawn,
)
from .forecast import Standing, standings
from .ledger import Ask, State, dequeue, enqueue, make_waiting
from .room import Holding
from .starting import begin, foresee
from .waiting import FOREVER, LaneKey, Shape, Waiting
from .why import Why, explain, never

__all__ = [
    "Action",
    "Attach",
    "Attached",
    "Changed",
    "Claimed",
    "Detached",
    "Enqueue",
    "Event",
    "GiveUp",
    "Measured",
    "Preview",
    "RefusalType",
    "Refuse",
    "Released",
    "Reserved",
    "Restored",
    "Running",
    "Start",
    "Submitted",
    "Tick",
    "Withdrawn",
    "decide",
    "next_deadline",
    "preview",
]


def decide(state: State, event: Event, now: float) -> list[Action]:
    """Take ``event`` into ``state`` at the moment ``now`` and return what is to be done."""
    return _HANDLERS[type(event)](state, event, now)


class Preview(NamedTuple):
    """What would be decided, and for one that would have to wait, where and why."""

    action: Action
    standing: Standing | None = None
    why: Why | None = None


def preview(state: State, ask: Ask, now: float) -> Preview:
    """Return what `decide` would answer to ``ask`` now; afterwards ``state`` is as it was."""
    verdict = _judge(state, ask, now)
    if isinstance(verdict.action, Start):
        return Preview(foresee(state, verdict.waiting, verdict.passing, now))
    if not isinstance(verdict.action, Enqueue):
        return Preview(verdict.action)
    standing = standings(state, now)[ask.session_id]
    why = explain(state, verdict.waiting, now)
    dequeue(state, ask.session_id)
    return Preview(verdict.action, standing, why)


def next_deadline(state: State) -> float | None:
    """Return the moment of the earliest deadline in the queue."""
    while state.late and not _still_waits(state, state.late[0]):
        _pop_late(state)
    return state.late[0][0] if state.late else None


# Submission


class _Verdict(NamedTuple):
    action: Action
    waiting: Waiting
    """Stands in the queue if the action is to wait."""
    passing: Waiting | None = None
    """Who is first, when another may start before it."""
    due: bool = False
    """Time alone has put another request ahead of this one."""


def _submit(state: State, event: Submitted, now: float) -> list[Action]:
    action, waiting, passing, due = _judge(state, event.ask, now)
    if isinstance(action, Start):
        # Its owner has more now, so somebody else may be first.
        return [begin(state, waiting, passing, now), *_settle(state, now)]
    if isinstance(action, Enqueue) and (due or _has_new_head(state, waiting, now)):
        return [action, *_settle(state, now)]
    return [action]


def _has_new_head(state: State, waiting: Waiting, now: float) -> bool:
    """Tell whether ``waiting`` has become first, or has made another request first that fits. Then the former
    first request's reservation no longer counts, and others may fit beside the new one.
    """
    head = state.queue.first(now)
    return head is not None and (head is waiting or _has_room(state, head))


def _judge(state: State, ask: Ask, now: float) -> _Verdict:
    """Return what is to be done about ``ask``."""
    waiting = make_waiting(state, ask, now)
    if state.draining:
        return _refuse(state, waiting, "draining", now)
    if (why := never(state, Shape(ask.need, ask.gpus))) is not None:
        kind: RefusalType = "never_fits" if _for_ever(state, why) else "no_capacity"
        return _Verdict(Refuse(ask.session_id, kind, why), waiting)
    if ask.latest is not None and ask.latest <= now:
        return _refuse(state, waiting, "deadline_exceeded", now)
    enqueue(state, waiting)
    verdict = _judge_waiting(state, waiting, ask.on_shortage == "refuse", now)
    if not isinstance(verdict.action, Enqueue):
        dequeue(state, ask.session_id)
    return verdict


def _judge_waiting(state: State, waiting: Waiting, impatient: bool, now: float) -> _Verdict:
    due = False
    if _may_start(state, waiting):
        head = state.queue.first(now)
        if head is waiting:
            return _Verdict(Start(waiting.session_id), waiting)
        if (
            head is not None
            and longest_backfill(state, head, now)(waiting.key.shape) >= waiting.key.bound
        ):
            due = _has_room(state, head) or passer(state, head, now) is not waiting
            if not due:
                return _Verdict(Start(waiting.session_id), waiting, head)
    if impatient and not slots.next_after_slots(state, waiting, now):
        return _refuse(state, waiting, "no_capacity", now)
    if state.length > state.settings.queue:
        return _refuse(state, waiting, "queue_full", now)
    return _Verdict(Enqueue(waiting.session_id), waiting, due=due)


def _refuse(state: State, waiting: Waiting, kind: RefusalType, now: float) -> _Verdict:
    return _Verdict(Refuse(waiting.session_id, kind, explain(state, waiting, now)), waiting)


def _may_start(state: State, waiting: Waiting) -> bool:
    """Tell whether ``waiting`` could be started if it were first."""
    if state.pressure or state.queue.capped(waiting.owner, waiting.attaching):
        return False
    return _has_room(state, waiting)


def _has_room(state: State, waiting: Waiting) -> bool:
    return state.room.has(*waiting.key.shape)


# Starting what fits


def _settle(state: State, now: float) -> list[Action]:
    """Refuse what came too late, then start whoever may be."""
    actions: list[Action] = _expire(state, now)
    if state.pressure:
        return actions + slots.relieve(state)
    if state.draining:
        return actions
    while (head := state.queue.first(now)) is not None:
        passing = None if _has_room(state, head) else head
        chosen = head if passing is None else passer(state, head, now)
        if chosen is None:
            break
        dequeue(state, chosen.session_id)
        actions.append(begin(state, chosen, passing, now))
    return actions if head is None else actions + slots.reclaim(state, head)


# Other events


def _release(state: State, event: Released, now: float) -> list[Action]:
    dequeue(state, event.session_id)
    holding = state.room.give_back(event.session_id)
    if holding is not None and not holding.slot:
        state.queue.credit(holding.owner, holding.need, 1)
    return _settle(state, now)


def _withdraw(state: State, event: Withdrawn, now: float) -> list[Action]:
    dequeue(state, event.session_id)
    return _settle(state, now)


def _tick(state: State, event: Tick, now: float) -> list[Action]:
    return _settle(state, now)


def _measure(state: State, event: Measured, now: float) -> list[Action]:
    state.room.measure(event.free, now)
    state.pressure_kind, state.pressure = event.pressure_kind, event.pressure
    return _settle(state, now)


def _detach(state: State, event: Detached, now: float) -> list[Action]:
    holding = state.room.holdings.get(event.session_id)
    if holding is not None and holding.extra is not None:
        extra = holding.extra
        state.room.drop_extra(holding, now)
        state.queue.credit(holding.owner, extra, 0)
    return _settle(state, now)


def _restore(state: State, event: Restored, now: float) -> list[Action]:
    state.serial += 1
    holding = Holding(event.session_id, event.owner, event.need, state.serial)
    holding.extra, holding.running_since = event.extra, now
    state.room.restore(holding, event.gpus, event.end)
    state.queue.charge(event.owner, event.need, 1)
    if event.lacks is not None:
        state.serial += 1
        key = LaneKey(event.priority, event.lacks, FOREVER)
        waiting = Waiting(event.session_id, event.owner, key, now, state.serial, attaching=True)
        enqueue(state, waiting)
    return []


def _note_attached(state: State, event: Attached, now: float) -> list[Action]:
    holding = state.room.holdings.get(event.session_id)
    if holding is not None:
        holding.running_since = now
    return []


def _note_running(state: State, event: Running, now: float) -> list[Action]:
    holding = state.room.holdings.get(event.session_id)
    if holding is not None:
        if holding.running_since is None and holding.extra is None:
            holding.running_since = now
        state.room.expect(holding, event.end)
    return []


def _change(state: State, event: Changed, now: float) -> list[Action]:
    settings = state.settings = event.settings
    state.draining = event.draining
    state.room.resize(settings.capacity, settings.gpus)
    state.queue.adjust(settings.capacity, settings.ageing, settings.per_owner, settings.fair)
    actions: list[Action] = []
    for waiting in list(state.queue):
        if waiting.attaching:
            continue
        why = never(state, waiting.key.shape)
        if why is not None and _for_ever(state, why):
            dequeue(state, waiting.session_id)
            actions.append(Refuse(waiting.session_id, "never_fits", why))
    return actions + _settle(state, now)


def _for_ever(state: State, why: Why) -> bool:
    """Tell whether `never` found a reason that lasts: networks and routes of others come and go."""
    return why.dimension != "subnets" or state.settings.no_subnets is None


# Deadlines


def _expire(state: State, now: float) -> list[Action]:
    actions: list[Action] = []
    while state.late and state.late[0][0] <= now:
        entry = state.late[0]
        if _still_waits(state, entry):
            waiting = dequeue(state, entry[2])
            assert waiting is not None
            actions.append(_refuse(state, waiting, "deadline_exceeded", now).action)
        _pop_late(state)
    return actions


def _still_waits(state: State, entry: tuple[float, int, str]) -> bool:
    waiting = state.queue.get(entry[2])
    return waiting is not None and waiting.serial == entry[1]


def _pop_late(state: State) -> None:
    heapq.heappop(state.late)


_HANDLERS: dict[type, Callable[[State, Any, float], list[Action]]] = {
    Submitted: _submit,
    Reserved: slots.reserve,
    Claimed: slots.claim,
    Restored: _restore,
    Running: _note_running,
    Released: _release,
    Attached: _note_attached,
    Detached: _detach,
    Withdrawn: _withdraw,
    Tick: _tick,
    Measured: _measure,
    Changed: _change,
}
