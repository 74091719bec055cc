# SPDX-License-Identifier: MIT
"""What a start takes from the room: the whole, or the plain part now and the rest when there is room.

A degraded session stays in the queue for its missing part, which is attached when its turn comes. Whether it
is anybody's turn is decided elsewhere (`scheduler`, `backfill`, `slots`).
"""

from __future__ import annotations

from operatord.core.resources import minus

from .actions import Action, Attach, Start
from .backfill import longest_backfill
from .ledger import State, enqueue
from .room import Gpu, Holding, choose
from .waiting import FOREVER, LaneKey, Shape, Waiting


def begin(state: State, waiting: Waiting, passing: Waiting | None, now: float) -> Action:
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


def foresee(state: State, waiting: Waiting, passing: Waiting | None, now: float) -> Start:
    """Return the start that `begin` would make of it, changing nothing."""
    shape = _shape_for(state, waiting, passing, now)
    chosen = choose(state.room.idle_gpus(), shape.gpus) or ()
    return Start(waiting.session_id, _ids(chosen), _is_degraded(waiting, shape))


def _shape_for(state: State, waiting: Waiting, passing: Waiting | None, now: float) -> Shape:
    """Return what to take: the whole if there is room for it, else the plain part if degrading is allowed."""
    whole = waiting.whole
    if whole is None or not state.room.has(*whole):
        return waiting.key.shape
    if passing is None or longest_backfill(state, passing, now)(whole) >= waiting.key.bound:
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
