# SPDX-License-Identifier: MIT
"""Slots in the books: sessions that are made before anybody asks, out of room that nobody wants.

They hold what they reserve, but never block a request: a slot is not begun while a request waits. It is given
up when the first request needs its room; and when the machine is under pressure, slots are given up one by
one.
"""

from __future__ import annotations

from operatord.core.resources import fits, minus, plus

from .actions import Action, GiveUp, Start
from .events import Claimed, Reserved
from .ledger import State, make_waiting
from .room import Holding
from .starting import begin
from .waiting import Waiting


def reserve(state: State, event: Reserved, now: float) -> list[Action]:
    """Take what a slot needs, if no request waits."""
    if state.draining or state.pressure or len(state.queue) or not state.room.has(event.need):
        return []
    state.serial += 1
    holding = Holding(event.session_id, "", event.need, state.serial, slot=True)
    state.room.take(holding, (), None)
    return [Start(event.session_id)]


def claim(state: State, event: Claimed, now: float) -> list[Action]:
    """Give a request a slot, if it might start now and nobody is before it."""
    ask = event.ask
    slot = state.room.slots.get(ask.session_id)
    if slot is None or slot.given_up or state.draining or state.pressure or len(state.queue):
        return []
    if state.queue.capped(ask.owner) or not state.room.has(minus(ask.need, slot.need), ask.gpus):
        return []
    state.room.give_back(ask.session_id)
    waiting = make_waiting(state, ask._replace(on_shortage="queue"), now)
    return [begin(state, waiting, None, now)]


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


def next_after_slots(state: State, waiting: Waiting, now: float) -> bool:
    """Tell whether it can start as soon as slots are given up for it."""
    blocked = state.pressure or state.queue.capped(waiting.owner)
    if blocked or state.queue.first(now) is not waiting:
        return False
    return _after_slots(state, waiting) is not None


def reclaim(state: State, head: Waiting) -> list[Action]:
    """Give up as many slots as whoever is first needs."""
    return [_give_up(slot) for slot in _after_slots(state, head) or ()]


def relieve(state: State) -> list[Action]:
    """Give up the oldest slot, one at each look at a machine that is under pressure."""
    if state.pressure_kind not in ("cpu", "memory", "disk"):
        return []
    slot = next((slot for slot in state.room.slots.values() if not slot.given_up), None)
    return [] if slot is None else [_give_up(slot)]


def _give_up(slot: Holding) -> Action:
    slot.given_up = True
    return GiveUp(slot.session_id)
