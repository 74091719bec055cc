# SPDX-License-Identifier: MIT
"""What admission knows: the settings, the room, who waits, and what is asked of it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from operatord.core.resources import NOTHING, UNLIMITED, Vector, fits, minus, plus

from .room import Gpu, Room
from .waiting import LaneKey, Shape, Waiting, WaitingList, bound_of

OnShortage = Literal["queue", "refuse", "degrade"]

PASSES = 16
"""How many may pass a request at the head of the queue while nobody knows when it can start."""


class Settings(NamedTuple):
    """What the operator of the machine has decided."""

    capacity: Vector
    """What sessions may take together."""
    gpus: tuple[Gpu, ...] = ()
    queue: int = 1000
    """Requests that may wait."""
    per_owner: int | None = None
    """Sessions that one owner may have at once."""
    ageing: float = 60.0
    """Seconds of waiting that count as one priority level; 0 for never."""
    backfill: bool = True
    """Start small requests in gaps that those ahead of them do not need."""
    fair: bool = True
    """Prefer owners who have less. Without it, first come, first served."""
    no_subnets: str | None = None
    """What occupies all address ranges, in words. There may be free ones again at any time."""


class Ask(NamedTuple):
    """What admission needs to know of a request."""

    session_id: str
    owner: str = "local"
    need: Vector = Vector(sessions=1)
    gpus: tuple[int, ...] = ()
    """For each device that it needs, the bytes of memory that one has to have."""
    priority: int = 0
    on_shortage: OnShortage = "queue"
    latest: float | None = None
    """Moment after which it must not be started any more, on the caller's clock."""
    seconds: float | None = None
    """How long its stream will last, if that is known."""
    waited: float = 0.0
    """Seconds that it has waited already, in an earlier life of the daemon."""
    plain: Vector | None = None
    """With ``degrade``: what it needs until there is room for the rest. No devices."""


@dataclass(slots=True)
class State:
    """Everything that admission remembers. Owned by one supervisor, changed only by `scheduler.decide`."""

    settings: Settings
    draining: bool = False
    pressure: str = ""
    """Why the machine can take nothing more now, in a sentence; empty while it can."""
    pressure_kind: str = "none"
    room: Room = field(init=False)
    queue: WaitingList = field(init=False)
    late: list[tuple[float, int, str]] = field(default_factory=list)
    """A heap of (latest start, serial, session id); some of them wait no longer."""
    serial: int = 0
    attaching: int = 0
    """How many in the queue run already, and wait for room for the rest."""

    def __post_init__(self) -> None:
        s = self.settings
        self.room = Room(s.capacity, s.gpus)
        self.queue = WaitingList(s.capacity, s.ageing, s.per_owner, s.fair)

    @property
    def length(self) -> int:
        """How many requests wait to be started."""
        return len(self.queue) - self.attaching


def make_waiting(state: State, ask: Ask, now: float) -> Waiting:
    """Return ``ask`` as it stands in the queue; one that may be degraded stands there as plain."""
    shape = whole = Shape(ask.need, ask.gpus)
    if ask.on_shortage == "degrade" and ask.plain is not None:
        shape = Shape(ask.plain)
    state.serial += 1
    return Waiting(
        ask.session_id,
        ask.owner,
        LaneKey(ask.priority, shape, bound_of(ask.seconds)),
        since=now - ask.waited,
        serial=state.serial,
        seconds=ask.seconds,
        latest=ask.latest,
        whole=None if shape is whole else whole,
    )


def enqueue(state: State, waiting: Waiting) -> None:
    """Put it into the queue."""
    state.queue.add(waiting)
    state.attaching += waiting.attaching
    if waiting.latest is not None:
        if len(state.late) > 2 * len(state.queue) + 64:
            state.late = [entry for entry in state.late if state.queue.get(entry[2])]
            heapq.heapify(state.late)
        heapq.heappush(state.late, (waiting.latest, waiting.serial, waiting.session_id))


def dequeue(state: State, session_id: str) -> Waiting | None:
    """Take it out of the queue."""
    waiting = state.queue.remove(session_id)
    if waiting is not None:
        state.attaching -= waiting.attaching
    return waiting


class Outlook(NamedTuple):
    """When something that does not fit now will fit."""

    kind: Literal["at", "unknown", "never"]
    """``at`` a foreseeable moment; at an ``unknown`` one; ``never`` just because sessions end, since
    something else takes the room."""
    moment: float = 0.0
    spare: Vector = NOTHING
    """What will be left over at that moment."""


def outlook(state: State, waiting: Waiting, now: float) -> Outlook:
    """Return when there will be room, by the expected ends of those who have it.

    A session that waits for an attached stage does not count what it holds itself.
    """
    room, free, shape = state.room, state.room.soon(), waiting.key.shape
    own = room.holdings.get(waiting.session_id)
    idle = room.idle_gpus() if shape.gpus else []
    if fits(shape.need, free) and _devices_fit(idle, shape):
        return Outlook("at", now, minus(free, shape.need))
    # The innermost loop of all decisions: added up in place, and without a vector for each step.
    f0, f1, f2, f3, f4, f5 = free
    n0, n1, n2, n3, n4, n5 = (
        n or -UNLIMITED for n in shape.need
    )  # what is not needed may be overdrawn
    for moment, _, holding in room.coming(now):
        if holding is own:
            continue
        h0, h1, h2, h3, h4, h5 = holding.need
        f0, f1, f2, f3, f4, f5 = f0 + h0, f1 + h1, f2 + h2, f3 + h3, f4 + h4, f5 + h5
        if shape.gpus:
            idle += holding.gpus
        if n0 > f0 or n1 > f1 or n2 > f2 or n3 > f3 or n4 > f4 or n5 > f5:
            continue
        if _devices_fit(idle, shape):
            return Outlook(
                "at", max(moment, now), minus(Vector(f0, f1, f2, f3, f4, f5), shape.need)
            )
    everything = plus(room.soon(), minus(room.used, own.need) if own else room.used)
    if fits(shape.need, everything) and _devices_fit(list(room.devices), shape):
        return Outlook("unknown")
    return Outlook("never")


def _devices_fit(idle: list[Gpu], shape: Shape) -> bool:
    if not shape.gpus:
        return True
    left = sorted(gpu.memory for gpu in idle)[-len(shape.gpus) :]
    wanted = sorted(shape.gpus)
    return len(left) == len(wanted) and all(
        has >= need for has, need in zip(left, wanted, strict=True)
    )
