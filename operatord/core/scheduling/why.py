# SPDX-License-Identifier: MIT
"""Why a request is not started now: one explanation for a plan, a refusal and a place in the queue."""

from __future__ import annotations

from typing import NamedTuple

from operatord.core.resources import DIMENSIONS, UNLIMITED, Dimension, Vector, lacking, shown

from .ledger import State, outlook
from .room import choose
from .waiting import Shape, Waiting

HOLDERS = 32
"""How many holders of the scarce thing are named."""


class Why(NamedTuple):
    """Why there is no room: the scarce dimension in numbers, and a sentence."""

    dimension: str
    """One of `resources.DIMENSIONS`; or ``disk``, ``sessions_per_owner``, ``queue``, ``draining``."""
    needed: float
    """Cores, bytes or pieces."""
    free: float
    capacity: float
    held_by: tuple[str, ...]
    """Ids of sessions, whoever has most of it first."""
    text: str
    next_release: float | None = None
    """Moment at which some of it is expected to be given back, on the caller's clock."""
    ahead: str | None = None
    """The session that it has to wait for though there is room."""


def explain(state: State, waiting: Waiting, now: float) -> Why:
    """Return why ``waiting`` is not started at this moment."""
    if state.draining:
        text = "the daemon is draining: it admits no new sessions"
        return Why("draining", 1, 0, 0, tuple(state.room.holdings)[:HOLDERS], text)
    if state.pressure:
        return _under_pressure(state, waiting, now)
    if state.queue.capped(waiting.owner, waiting.attaching):
        return _capped(state, waiting, now)
    need, gpus = waiting.key.shape
    if scarce := lacking(need, state.room.free):
        return _scarce(state, scarce[0], need, now)
    if gpus and choose(state.room.idle_gpus(), gpus) is None:
        return _scarce(state, "gpus", need, now)._replace(text=_too_small(state, gpus))
    return _behind(state, waiting, now)


def never(state: State, shape: Shape) -> Why | None:
    """Return why ``shape`` can never be had here, or None if it can."""
    need, gpus = shape
    capacity = state.settings.capacity
    if scarce := lacking(need, capacity):
        dimension = scarce[0]
        needed, most = (_amount(v, dimension) for v in (need, capacity))
        most_words = _words(dimension, most)
        text = (
            f"it needs {_words(dimension, needed)}, and all sessions together may take {most_words}"
        )
        if dimension == "subnets":
            text = state.settings.no_subnets or text
        return Why(dimension, needed, most, most, (), text)
    if not state.room.could_ever(need, gpus):
        most = max((gpu.memory for gpu in state.settings.gpus), default=0)
        text = (
            f"it needs {len(gpus)} GPUs, one of them with {_words('memory', max(gpus))}, and the "
            f"machine's {len(state.settings.gpus)} have up to {_words('memory', most)}"
        )
        return Why("gpus", len(gpus), len(state.settings.gpus), len(state.settings.gpus), (), text)
    return None


def _under_pressure(state: State, waiting: Waiting, now: float) -> Why:
    kind = "cpus" if state.pressure_kind == "cpu" else state.pressure_kind
    if kind in DIMENSIONS:
        return _scarce(state, kind, waiting.key.shape.need, now)._replace(text=state.pressure)
    return Why(kind, 0, 0, 0, (), state.pressure)


def _capped(state: State, waiting: Waiting, now: float) -> Why:
    most, owner = state.settings.per_owner or 0, waiting.owner
    theirs = [h for h in state.room.holdings.values() if h.owner == owner]
    text = f"the owner {owner!r} has {len(theirs)} sessions, and one owner may have {most}"
    ends = [h.end[0] for h in theirs if h.end and h.end[0] > now]
    held_by = tuple(h.session_id for h in theirs[:HOLDERS])
    return Why("sessions_per_owner", 1, 0, most, held_by, text, min(ends, default=None))


def _scarce(state: State, dimension: Dimension, need: Vector, now: float) -> Why:
    room = state.room
    needed, free, capacity, taken = (
        max(0, _amount(v, dimension)) for v in (need, room.free, room.capacity, room.used)
    )
    holders = sorted(
        (h for h in room.holdings.values() if not h.slot and _amount(h.need, dimension) > 0),
        key=lambda h: -_amount(h.need, dimension),
    )
    coming = (
        moment
        for moment, _, h in room.coming(now)
        if moment >= now and _amount(h.need, dimension) > 0
    )
    text = _scarcity(dimension, needed, free, capacity, taken)
    if dimension == "subnets":
        text = state.settings.no_subnets or text
    held_by = tuple(h.session_id for h in holders[:HOLDERS])
    return Why(dimension, needed, free, capacity, held_by, text, next(coming, None))


def _scarcity(
    dimension: Dimension, needed: float, free: float, capacity: float, taken: float
) -> str:
    if dimension == "sessions":
        return (
            f"{taken:g} of {capacity:g} sessions live; a start needs 1 place and {free:g} are free"
        )
    has = f"it needs {_words(dimension, needed)} and {_words(dimension, free)}"
    if free < capacity - taken:
        return f"{has} are measured to be free on this machine, apart from system_reserved"
    return f"{has} of {_words(dimension, capacity)} are free"


def _too_small(state: State, gpus: tuple[int, ...]) -> str:
    idle = state.room.idle_gpus()
    most = max((gpu.memory for gpu in idle), default=0)
    return (
        f"it needs {len(gpus)} GPUs, one of them with {_words('memory', max(gpus))}, and the "
        f"{len(idle)} that are free have up to {_words('memory', most)}"
    )


def _behind(state: State, waiting: Waiting, now: float) -> Why:
    """There is room, but it is kept for the first in the queue."""
    head = state.queue.first(now)
    first = head.session_id if head is not None and head is not waiting else None
    text = "there is room for it, and it is next"
    when = None
    if first is not None and head is not None:
        text = f"there is room for it, but {first} is ahead of it and would be delayed"
        foreseen = outlook(state, head, now)
        when = foreseen.moment if foreseen.kind == "at" else None
    return Why("queue", 1, 0, state.length, (), text, when, first)


def _amount(vector: Vector, dimension: Dimension) -> float:
    return shown(dimension, getattr(vector, dimension))


def _words(dimension: Dimension, amount: float) -> str:
    if amount >= UNLIMITED:
        return "any number"
    if dimension == "cpus":
        return f"{amount:g} {'core' if amount == 1 else 'cores'}"
    if dimension == "memory":
        return f"{amount / 2**20:.0f} MiB" if amount < 10 * 2**30 else f"{amount / 2**30:.1f} GiB"
    thing = "GPUs" if dimension == "gpus" else str(dimension)
    return f"{amount:g} {thing[:-1] if amount == 1 else thing}"
