# SPDX-License-Identifier: MIT
"""Admission: which session may start now, which waits, which is refused.

``decide(state, event, now)`` is the only way in. It does no I/O and reads no clock, changes nothing but
``state`` and returns what is to be done; the caller acts afterwards. The same events give the same
actions, so it can be simulated and property-tested.

The rules:

- A session starts when what it needs fits in every dimension (`room`), and not while the machine is under
  pressure or the daemon is draining.
- Whoever is first in the queue (`waiting`) and does not fit has a reservation: the moment at which, by the
  expected ends of those who live, it will. Another one that does fit may pass it if that does not delay it:
  if it will be over by then, or takes only what will be left over then. This is EASY backfilling
  (Lifka, "The ANL/IBM SP Scheduling System", 1995; Mu'alem and Feitelson, 2001).
- When that moment cannot be foreseen, at most `ledger.PASSES` may pass it, and then all wait.
- When even an empty daemon would have no room for it, because something else uses the machine, whoever
  fits may pass: nothing is delayed by that.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from .forecast import Standing, standings
from .ledger import PASSES, Ask, Settings, State, dequeue, enqueue, make_waiting, outlook
from .resources import Vector, fits, minus, plus
from .room import Gpu, Holding, choose
from .waiting import FOREVER, LaneKey, Shape, Waiting
from .why import Why, explain, never

RefusalType = Literal["no_capacity", "queue_full", "deadline_exceeded", "draining", "never_fits"]


# Events
class Submitted(NamedTuple):
    """A request came in."""

    ask: Ask


class Running(NamedTuple):
    """A session's stream is there; ``end`` is when it is expected to be over, if that is known."""

    session_id: str
    end: float | None


class Reserved(NamedTuple):
    """A slot is to be prepared: a session that nobody has asked for yet."""

    session_id: str
    need: Vector


class Claimed(NamedTuple):
    """A request came in, and there is a slot that would do; its session id is the slot's."""

    ask: Ask


class Restored(NamedTuple):
    """A session of an earlier life of the daemon lives on, with all that it had."""

    session_id: str
    owner: str
    need: Vector
    gpus: tuple[str, ...] = ()
    extra: Vector | None = None
    """What of ``need`` was attached later."""
    end: float | None = None
    """When it is expected to be over, if that is known."""
    lacks: Shape | None = None
    """What it still waits for, being degraded."""
    priority: int = 0


class Released(NamedTuple):
    """Everything of a session is gone from the engine: what it held is free."""

    session_id: str


class Attached(NamedTuple):
    """The stage that was to be attached is there, and uses what it needs."""

    session_id: str


class Detached(NamedTuple):
    """The stage that was to be attached is gone again; the session goes on without."""

    session_id: str


class Withdrawn(NamedTuple):
    """A queued request, or what a degraded session still waits for, is not wanted any more."""

    session_id: str


class Tick(NamedTuple):
    """Time has passed: deadlines may have, too."""


class Measured(NamedTuple):
    """The machine was looked at."""

    free: Vector | None
    """What is free, less what is kept back; `resources.UNLIMITED` where nothing is measured."""
    pressure_kind: str = "none"
    pressure: str = ""
    """Why nothing more may start, in a sentence; empty if it may."""


class Changed(NamedTuple):
    """The settings or the draining are different now."""

    settings: Settings
    draining: bool


Event = (
    Submitted
    | Reserved
    | Claimed
    | Restored
    | Running
    | Released
    | Attached
    | Detached
    | Withdrawn
    | Tick
    | Measured
    | Changed
)


# Actions
class Start(NamedTuple):
    """Start it: what it needs is taken already."""

    session_id: str
    gpus: tuple[str, ...] = ()
    """Ids of the devices it has, in the order in which they were asked for."""
    degraded: bool = False
    """Plain for now; `Attach` follows when there is room for the rest."""


class Attach(NamedTuple):
    """Start the rest of a degraded session: what it needs is taken already."""

    session_id: str
    gpus: tuple[str, ...] = ()


class GiveUp(NamedTuple):
    """Remove a slot: somebody needs the room."""

    session_id: str


class Enqueue(NamedTuple):
    """It waits."""

    session_id: str


class Refuse(NamedTuple):
    """It will not be started."""

    session_id: str
    type: RefusalType
    why: Why


Action = Start | Attach | GiveUp | Enqueue | Refuse


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
        return Preview(_foreseen(state, verdict, now))
    if not isinstance(verdict.action, Enqueue):
        return Preview(verdict.action)
    standing = standings(state, now)[ask.session_id]
    why = explain(state, verdict.waiting, now)
    dequeue(state, ask.session_id)
    return Preview(verdict.action, standing, why)


def _foreseen(state: State, verdict: _Verdict, now: float) -> Start:
    """Return the start that `_begin` would make of it."""
    waiting = verdict.waiting
    shape = _shape_for(state, waiting, verdict.passing, now)
    chosen = choose(state.room.idle_gpus(), shape.gpus) or ()
    return Start(waiting.session_id, _ids(chosen), _is_degraded(waiting, shape))


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
    """Time alone has let somebody else pass, who is to go before this one."""


def _submit(state: State, event: Submitted, now: float) -> list[Action]:
    action, waiting, passing, due = _judge(state, event.ask, now)
    if isinstance(action, Start):
        # Its owner has more now, so somebody else may be first.
        return [_begin(state, waiting, passing, now), *_settle(state, now)]
    if isinstance(action, Enqueue) and (due or _has_new_head(state, waiting, now)):
        return [action, *_settle(state, now)]
    return [action]


def _has_new_head(state: State, waiting: Waiting, now: float) -> bool:
    """Tell whether ``waiting`` has become first, or by its coming somebody else for whom there is room.

    The reservation of whoever was first counts for nothing then, and others may fit beside the new one.
    """
    head = state.queue.first(now)
    return head is not None and (head is waiting or _has_room(state, head))


def _judge(state: State, ask: Ask, now: float) -> _Verdict:
    """Return what is to be done about ``ask``."""
    waiting = make_waiting(state, ask, now)
    if state.draining:
        return _refuse(state, waiting, "draining", now)
    if (why := never(state, Shape(ask.need, ask.gpus))) is not None:
        return _Verdict(Refuse(ask.session_id, "never_fits", why), waiting)
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
        if head is not None and _reach(state, head, now)(waiting.key.shape) >= waiting.key.bound:
            due = _has_room(state, head) or _passer(state, head, now) is not waiting
            if not due:
                return _Verdict(Start(waiting.session_id), waiting, head)
    if impatient and not _next_after_slots(state, waiting, now):
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
        return actions + _relieve(state)
    if state.draining:
        return actions
    while (head := state.queue.first(now)) is not None:
        passing = None if _has_room(state, head) else head
        chosen = head if passing is None else _passer(state, head, now)
        if chosen is None:
            break
        dequeue(state, chosen.session_id)
        actions.append(_begin(state, chosen, passing, now))
    return actions if head is None else actions + _reclaim(state, head)


def _passer(state: State, head: Waiting, now: float) -> Waiting | None:
    """Return the first who fits and may go before ``head``, which does not fit."""
    if not state.settings.backfill:
        return None
    free = state.room.free
    fitting = [
        shape
        for shape in state.queue.shapes()
        if fits(shape.need, free) and (not shape.gpus or state.room.has(*shape))
    ]
    if not fitting:
        return None
    longest = _reach(state, head, now)
    return state.queue.first(now, {shape: longest(shape) for shape in fitting})


def _reach(state: State, head: Waiting, now: float) -> Callable[[Shape], float]:
    """Return how long one of a shape may last to go before ``head``, which does not fit.

    In seconds; less than none if it may not at all.
    """
    if not state.settings.backfill:
        return lambda shape: -1.0
    when = outlook(state, head, now)
    if when.kind == "never":
        return lambda shape: FOREVER
    if when.kind == "unknown":
        return lambda shape: FOREVER if head.passed < PASSES else -1.0
    return lambda shape: FOREVER if _leaves(shape, when.spare) else when.moment - now


def _leaves(shape: Shape, spare: Vector) -> bool:
    # Whether its devices are among those that will be left over cannot be told from their number.
    return not shape.gpus and fits(shape.need, spare)


def _begin(state: State, waiting: Waiting, passing: Waiting | None, now: float) -> Action:
    """Take what it needs, and say so. It stands in the queue no more."""
    shape = _shape_for(state, waiting, passing, now)
    if passing is not None:
        passing.passed += 1
    if waiting.attaching:
        return _attach(state, waiting)
    holding = Holding(waiting.session_id, waiting.owner, shape.need, waiting.serial)
    end = None if waiting.seconds is None else now + waiting.seconds
    chosen = state.room.take(holding, shape.gpus, end)
    state.queue.charge(waiting.owner, shape.need, 1)
    degraded = _is_degraded(waiting, shape)
    if degraded:
        enqueue(state, _rest_of(state, waiting))
    return Start(waiting.session_id, _ids(chosen), degraded)


def _shape_for(state: State, waiting: Waiting, passing: Waiting | None, now: float) -> Shape:
    """Return what to take: of one that may be degraded, the whole if there is room for that."""
    whole = waiting.whole
    if whole is None or not state.room.has(*whole):
        return waiting.key.shape
    if passing is None or _reach(state, passing, now)(whole) >= waiting.key.bound:
        return whole
    return waiting.key.shape


def _is_degraded(waiting: Waiting, shape: Shape) -> bool:
    return waiting.whole is not None and shape is not waiting.whole


def _rest_of(state: State, waiting: Waiting) -> Waiting:
    """Return the wait of a degraded session for what it was not given."""
    assert waiting.whole is not None
    state.serial += 1
    rest = Shape(minus(waiting.whole.need, waiting.key.shape.need), waiting.whole.gpus)
    return Waiting(
        waiting.session_id,
        waiting.owner,
        LaneKey(waiting.key.priority, rest, FOREVER),
        waiting.since,
        state.serial,
        attaching=True,
    )


def _attach(state: State, waiting: Waiting) -> Action:
    holding, shape = state.room.holdings[waiting.session_id], waiting.key.shape
    chosen = state.room.add(holding, *shape)
    state.queue.charge(waiting.owner, shape.need, 0)
    return Attach(waiting.session_id, _ids(chosen))


def _ids(gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    return tuple(gpu.id for gpu in gpus)


# Slots


def _reserve(state: State, event: Reserved, now: float) -> list[Action]:
    """Take what a slot needs, if nobody else wants anything."""
    if state.draining or state.pressure or len(state.queue) or not state.room.has(event.need):
        return []
    state.serial += 1
    holding = Holding(event.session_id, "", event.need, state.serial, slot=True)
    state.room.take(holding, (), None)
    return [Start(event.session_id)]


def _claim(state: State, event: Claimed, now: float) -> list[Action]:
    """Let a request have a slot, if it might start now and nobody is before it."""
    ask = event.ask
    slot = state.room.slots.get(ask.session_id)
    if slot is None or slot.given_up or state.draining or state.pressure or len(state.queue):
        return []
    if state.queue.capped(ask.owner) or not state.room.has(minus(ask.need, slot.need), ask.gpus):
        return []
    state.room.give_back(ask.session_id)
    waiting = make_waiting(state, ask._replace(on_shortage="queue"), now)
    return [_begin(state, waiting, None, now)]


def _after_slots(state: State, waiting: Waiting) -> list[Holding] | None:
    """Return which slots have to be given up for it, oldest first; None if that does not help."""
    chosen: list[Holding] = []
    free = state.room.free
    for slot in state.room.slots.values():
        if slot.given_up:
            free = plus(free, slot.need)
    for slot in state.room.slots.values():
        if fits(waiting.key.shape.need, free):
            break
        if not slot.given_up:
            chosen.append(slot)
            free = plus(free, slot.need)
    helps = bool(state.room.slots) and fits(waiting.key.shape.need, free)
    return chosen if helps else None


def _next_after_slots(state: State, waiting: Waiting, now: float) -> bool:
    """Tell whether it can start as soon as slots are given up for it."""
    blocked = state.pressure or state.queue.capped(waiting.owner)
    if blocked or state.queue.first(now) is not waiting:
        return False
    return _after_slots(state, waiting) is not None


def _reclaim(state: State, head: Waiting) -> list[Action]:
    """Give up as many slots as whoever is first needs."""
    return [_give_up(slot) for slot in _after_slots(state, head) or ()]


def _relieve(state: State) -> list[Action]:
    """Give up the oldest slot, one at each look at a machine that is under pressure."""
    if state.pressure_kind not in ("cpu", "memory", "disk"):
        return []
    slot = next((slot for slot in state.room.slots.values() if not slot.given_up), None)
    return [] if slot is None else [_give_up(slot)]


def _give_up(slot: Holding) -> Action:
    slot.given_up = True
    return GiveUp(slot.session_id)


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
        if not waiting.attaching and (why := never(state, waiting.key.shape)) is not None:
            dequeue(state, waiting.session_id)
            actions.append(Refuse(waiting.session_id, "never_fits", why))
    return actions + _settle(state, now)


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
    Reserved: _reserve,
    Claimed: _claim,
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
