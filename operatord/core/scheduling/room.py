# SPDX-License-Identifier: MIT
"""The books of admission: what there is, what is taken, by whom, and when it is expected back.

Resources are taken before a start begins, and given back when the engine has said that the session's last
object is gone. The free amount is the smaller of two figures: what the books leave over, and what was
measured to be free minus the holdings that are too young to be seen in a measurement.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from operatord.core.resources import NOTHING, Vector, fits, least, minus, plus

SETTLES = 3.0
"""Seconds after which what a running session uses is part of what is measured."""
LATE = 10.0
"""Seconds by which an expected end may be overdue and still count as near: a stream's length is known, but
not how long its start and removal take."""


class Gpu(NamedTuple):
    """One device, handed out whole. Smaller ones sort, and are handed out, first."""

    memory: int
    """Bytes."""
    id: str


@dataclass(slots=True, eq=False)
class Holding:
    """What one session has taken, for the whole of its life."""

    session_id: str
    owner: str
    need: Vector
    serial: int
    gpus: tuple[Gpu, ...] = ()
    end: tuple[float, int, Holding] | None = None
    """Its entry among the expected ends."""
    running_since: float | None = None
    slot: bool = False
    """Nobody's yet: a prepared slot, which is given up when somebody else needs the room."""
    given_up: bool = False
    """It is being removed to make room."""
    extra: Vector | None = None
    """What was added by attaching a stage later, so that it can be given back alone."""


@dataclass(slots=True, eq=False)
class Room:
    """What the machine has for sessions, and what of it is taken."""

    capacity: Vector
    devices: tuple[Gpu, ...] = ()
    used: Vector = NOTHING
    holdings: dict[str, Holding] = field(default_factory=dict)
    """By session id, oldest first."""
    ends: list[tuple[float, int, Holding]] = field(default_factory=list)
    """(moment, serial, holding), sorted: those whose end can be foreseen."""
    measured: Vector | None = None
    """What was last measured to be free, less what is kept back; UNLIMITED where nothing is measured."""
    slots: dict[str, Holding] = field(default_factory=dict)
    """Those of the holdings that are slots', oldest first."""
    free: Vector = NOTHING
    _unsettled: dict[str, Holding] = field(default_factory=dict)
    _unseen: Vector = NOTHING
    """What the unsettled ones have taken together."""
    _gone: Vector = NOTHING
    """What settled ones have given back since the last measurement."""
    _idle: list[Gpu] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._idle = sorted(self.devices)
        self._update()

    def resize(self, capacity: Vector, devices: Iterable[Gpu]) -> None:
        """Have another capacity from now on; what is taken stays taken."""
        self.capacity, self.devices = capacity, tuple(devices)
        known = {gpu.id: gpu for gpu in self.devices}
        for holding in self.holdings.values():
            holding.gpus = tuple(known.get(gpu.id, gpu) for gpu in holding.gpus)
        busy = {gpu.id for holding in self.holdings.values() for gpu in holding.gpus}
        self._idle = sorted(gpu for gpu in self.devices if gpu.id not in busy)
        self._update()

    def measure(self, free: Vector | None, now: float) -> None:
        """Note what was measured to be free at the moment ``now``."""
        self.measured, self._gone = free, NOTHING
        settled = [
            session_id
            for session_id, holding in self._unsettled.items()
            if holding.running_since is not None and now - holding.running_since >= SETTLES
        ]
        for session_id in settled:
            self._unseen = minus(self._unseen, self._unsettled.pop(session_id).need)
        self._update()

    def has(self, need: Vector, gpus: Sequence[int] = ()) -> bool:
        """Tell whether ``need``, with devices of so much memory each, could be taken now."""
        return fits(need, self.free) and (not gpus or choose(self._idle, gpus) is not None)

    def could_ever(self, need: Vector, gpus: Sequence[int] = ()) -> bool:
        """Tell whether it could be taken if nothing else were."""
        return fits(need, self.capacity) and choose(sorted(self.devices), gpus) is not None

    def take(self, holding: Holding, gpus: Sequence[int], end: float | None) -> tuple[Gpu, ...]:
        """Debit ``holding`` and return the devices it was given."""
        chosen = choose(self._idle, gpus)
        assert chosen is not None, "asked before"
        if chosen:
            self._idle = [gpu for gpu in self._idle if gpu not in chosen]
        holding.gpus = chosen
        self.holdings[holding.session_id] = holding
        if holding.slot:
            self.slots[holding.session_id] = holding
        self.used = plus(self.used, holding.need)
        self._unsettled[holding.session_id] = holding
        self._unseen = plus(self._unseen, holding.need)
        self.expect(holding, end)
        self._update()
        return chosen

    def restore(self, holding: Holding, gpus: Sequence[str], end: float | None) -> None:
        """Debit what a session of an earlier life of the daemon has, whether there is room or not.

        Its devices are its own also when the machine is not known to have them, or not yet.
        """
        known = {gpu.id: gpu for gpu in self.devices}
        holding.gpus = tuple(known.get(each, Gpu(0, each)) for each in gpus)
        self._idle = [gpu for gpu in self._idle if gpu.id not in gpus]
        self.holdings[holding.session_id] = holding
        self.used = plus(self.used, holding.need)
        self.expect(holding, end)
        self._update()

    def add(self, holding: Holding, need: Vector, gpus: Sequence[int]) -> tuple[Gpu, ...]:
        """Debit ``need`` on top of what ``holding`` has; return the devices for it."""
        chosen = choose(self._idle, gpus)
        assert chosen is not None, "asked before"
        self._idle = [gpu for gpu in self._idle if gpu not in chosen]
        self._change(holding, plus(holding.need, need))
        holding.gpus += chosen
        holding.extra = need
        holding.running_since = None  # what has just been added is not in any measurement
        return chosen

    def drop_extra(self, holding: Holding, now: float) -> None:
        """Give back what was added; all devices of such a holding belong to the added stage."""
        if holding.extra is None:
            return
        self._change(holding, minus(holding.need, holding.extra))
        self._hand_back(holding.gpus)
        holding.gpus, holding.extra, holding.running_since = (), None, now

    def _change(self, holding: Holding, need: Vector) -> None:
        self.used = plus(minus(self.used, holding.need), need)
        if holding.session_id in self._unsettled:
            self._unseen = minus(self._unseen, holding.need)
        holding.need = need
        self._unsettled[holding.session_id] = holding
        self._unseen = plus(self._unseen, need)
        self._update()

    def give_back(self, session_id: str) -> Holding | None:
        """Credit what a session had; return it, or None if it had nothing."""
        holding = self.holdings.pop(session_id, None)
        if holding is None:
            return None
        self.slots.pop(session_id, None)
        self.used = minus(self.used, holding.need)
        if self._unsettled.pop(session_id, None) is not None:
            self._unseen = minus(self._unseen, holding.need)
        else:
            self._gone = plus(self._gone, holding.need)
        self._hand_back(holding.gpus)
        self.expect(holding, None)
        self._update()
        return holding

    def _hand_back(self, gpus: tuple[Gpu, ...]) -> None:
        """Give these devices back, as far as the machine still has them."""
        if gpus:
            ids = {gpu.id for gpu in gpus}
            self._idle = sorted((*self._idle, *(gpu for gpu in self.devices if gpu.id in ids)))

    def expect(self, holding: Holding, end: float | None) -> None:
        """Foresee the end of a session, or no longer foresee it."""
        if holding.end is not None:
            del self.ends[bisect.bisect_left(self.ends, holding.end[:2])]
            holding.end = None
        if end is not None:
            holding.end = (end, holding.serial, holding)
            bisect.insort(self.ends, holding.end)

    def coming(self, now: float) -> list[tuple[float, int, Holding]]:
        """Return (moment, serial, holding) of those that are expected to end, soonest first.

        Sessions that are long overdue are left out: nobody knows when they end. A moment before ``now`` means
        a little overdue: any moment now.
        """
        return self.ends[bisect.bisect_left(self.ends, (now - LATE,)) :]

    def idle_gpus(self) -> list[Gpu]:
        """Return the devices nobody has, smallest first."""
        return list(self._idle)

    def soon(self) -> Vector:
        """Return what will be free once a measurement has seen what was given back."""
        free = minus(self.capacity, self.used)
        if self.measured is not None:
            free = least(free, plus(minus(self.measured, self._unseen), self._gone))
        return free

    def _update(self) -> None:
        free = minus(self.capacity, self.used)
        if self.measured is not None:
            free = least(free, minus(self.measured, self._unseen))
        self.free = free


def choose(idle: Sequence[Gpu], needs: Sequence[int]) -> tuple[Gpu, ...] | None:
    """Return for each of ``needs`` (bytes) the smallest sufficient device, or None if that fails.

    ``idle`` is sorted. Serving the largest need first finds an assignment whenever there is one, since a
    device that is enough for a need is enough for every smaller one.
    """
    if not needs:
        return ()
    left, chosen = list(idle), {}
    for index in sorted(range(len(needs)), key=lambda i: -needs[i]):
        found = next((gpu for gpu in left if gpu.memory >= needs[index]), None)
        if found is None:
            return None
        left.remove(found)
        chosen[index] = found
    return tuple(chosen[index] for index in range(len(needs)))
