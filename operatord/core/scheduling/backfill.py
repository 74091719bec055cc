# SPDX-License-Identifier: MIT
"""Which request may pass the first one in the queue when that does not fit.

The first request has a reservation: the moment at which it will fit, given the expected ends of running
sessions. Another request that fits now may pass it if it does not delay it: if it will be over by that
moment, or takes only what will be left over then. This is EASY backfilling (Lifka, "The ANL/IBM SP Scheduling
System", 1995; Mu'alem and Feitelson, 2001).

- When that moment cannot be foreseen, at most `ledger.PASSES` may pass it, and then all wait.
- When it would not fit even without any session, because something else uses the machine, every request that
  fits may pass: nothing is delayed by that.
"""

from __future__ import annotations

from collections.abc import Callable

from operatord.core.resources import Vector, fits

from .ledger import PASSES, State, outlook
from .waiting import FOREVER, Shape, Waiting


def passer(state: State, head: Waiting, now: float) -> Waiting | None:
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
    longest = longest_backfill(state, head, now)
    return state.queue.first(now, {shape: longest(shape) for shape in fitting})


def longest_backfill(state: State, head: Waiting, now: float) -> Callable[[Shape], float]:
    """Return how many seconds a session of a shape may last to pass ``head``, which does not fit. Negative if
    it may not pass at all.
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
