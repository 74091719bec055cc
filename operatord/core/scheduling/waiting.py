# SPDX-License-Identifier: MIT
"""Who waits, and who of them is next.

Three rules, one inside the other:

1. Between priorities, the foremost request of each is compared by its level: its priority, and one more
   for every ``ageing`` seconds that it has waited. So nothing waits for ever behind more urgent things.
2. Within a priority, the owner whose sessions hold the smaller dominant share goes first
   (`resources.dominant_share`), so that an owner who floods the queue does not get more than others.
3. Within an owner, first come, first served.

All that one owner has waiting at one priority is a *stand*, and a priority has a heap of its stands, each at
the place (its owner's share, its oldest request's number). A share changes with every start and every end.
When it falls, the stand is pushed again; when it rises, the stand is corrected once its old place comes to
the top. Requests that need the same and last about as long are interchangeable but for their order: they have
one *lane*, so that a question such as "who is the first that fits into the gap?" is asked once for each lane
and not for each request.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from operatord.core.resources import NOTHING, UNLIMITED, Vector, dominant_share, minus, plus

FOREVER = math.inf
FEW = 32
"""Stands that are compared one by one rather than looked for in the heap."""


class Shape(NamedTuple):
    """What a request needs."""

    need: Vector
    gpus: tuple[int, ...] = ()
    """Bytes of memory that each needed device has to have."""


class LaneKey(NamedTuple):
    """What the requests of one lane have in common."""

    priority: int
    shape: Shape
    bound: float
    """Seconds that none of them is expected to exceed: a power of two, or FOREVER if it is not known."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in the queue."""

    session_id: str
    owner: str
    key: LaneKey
    since: float
    """When it came, on the caller's clock."""
    serial: int
    seconds: float | None = None
    """How long it is expected to last; None if that is not known."""
    latest: float | None = None
    """The moment after which it is not to be started any more."""
    whole: Shape | None = None
    """What it would rather have than its lane's shape; None when that is the same."""
    attaching: bool = False
    """It runs already, plain, and waits for room for the rest."""
    passed: int = 0
    """How many were let past it."""


class Owner:
    """Somebody who has sessions, or waits for some."""

    __slots__ = ("count", "name", "share", "stands", "used")

    def __init__(self, name: str) -> None:
        self.name = name
        self.used = NOTHING
        self.count = 0
        """Sessions that live."""
        self.share = 0.0
        self.stands: list[_Stand] = []


_Queue = OrderedDict[int, Waiting]
"""Requests by their numbers, oldest first. (A plain dict is slow to find its first after many removals.)"""


class _Stand:
    """What one owner has waiting at one priority; what waits to be attached has a stand of its own."""

    __slots__ = ("attaching", "band", "items", "lanes", "owner", "place")

    def __init__(self, owner: Owner, band: _Band, attaching: bool) -> None:
        self.owner = owner
        self.band = band
        self.attaching = attaching
        self.items: _Queue = OrderedDict()
        self.lanes: dict[LaneKey, _Queue] = {}
        self.place: _Place | None = None
        """Where it is in the heap; None while its owner may not have more sessions."""

    def take_place(self) -> None:
        """Take the place in the heap that the owner's share and the oldest request's age give."""
        self.place = (self.owner.share, next(iter(self.items)), self)
        self.band.push(self.place)

    def oldest(self, keys: set[LaneKey]) -> Waiting | None:
        """Return the oldest in one of these lanes."""
        heads = [next(iter(lane)) for key, lane in self.lanes.items() if key in keys]
        return self.items[min(heads)] if heads else None


_Place = tuple[float, int, _Stand]
_LAST = (FOREVER, 0)


class _Band:
    """All who wait at one priority."""

    __slots__ = ("heap", "lanes", "priority", "shapes", "stands")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.heap: list[_Place] = []
        """Places of stands, some of them out of date."""
        self.stands: dict[tuple[str, bool], _Stand] = {}
        self.lanes: dict[LaneKey, dict[_Stand, None]] = {}
        """For each lane, the stands that have somebody in it."""
        self.shapes: dict[Shape, dict[LaneKey, None]] = {}
        """For each shape, its lanes. Callers know which shapes fit, and there are few shapes."""

    def push(self, place: _Place) -> None:
        if len(self.heap) > 4 * len(self.stands) + 32:
            self.heap = [stand.place for stand in self.stands.values() if stand.place is not None]
            heapq.heapify(self.heap)
        else:
            heapq.heappush(self.heap, place)

    def top(self) -> _Place | None:
        """Return the first place; drop outdated ones."""
        while self.heap:
            place = self.heap[0]
            stand = place[2]
            if stand.place is not place:
                heapq.heappop(self.heap)
            elif place[0] == stand.owner.share:
                return place
            else:
                stand.take_place()  # its owner's share has risen
        return None

    def first(self, reach: Mapping[Shape, float] | None) -> tuple[float, Waiting] | None:
        """Return who is first, or first of those within reach, with its owner's share."""
        if reach is None:
            place = self.top()
            return None if place is None else (place[0], place[2].items[place[1]])
        keys = {
            key
            for shape, longest in reach.items()
            for key in self.shapes.get(shape, ())
            if key.bound <= longest
        }
        if not keys:
            return None
        if sum(len(self.lanes[key]) for key in keys) <= FEW:
            return self._first_of_few(keys)
        return self._first_of_many(keys)

    def _first_of_few(self, keys: set[LaneKey]) -> tuple[float, Waiting] | None:
        heads = (
            (stand.owner.share, next(iter(stand.lanes[key])), stand)
            for key in keys
            for stand in self.lanes[key]
            if stand.place is not None
        )
        best = min(heads, default=None)
        return None if best is None else (best[0], best[2].items[best[1]])

    def _first_of_many(self, keys: set[LaneKey]) -> tuple[float, Waiting] | None:
        """Walk over the stands in their order; one that has a suitable request is near."""
        passed: list[_Place] = []
        best = _LAST
        found = None
        while (place := self.top()) is not None and place[:2] < best:
            oldest = place[2].oldest(keys)
            if oldest is not None and (place[0], oldest.serial) < best:
                best, found = (place[0], oldest.serial), oldest
            passed.append(heapq.heappop(self.heap))
        for place in passed:
            heapq.heappush(self.heap, place)
        return None if found is None else (best[0], found)


class WaitingList:
    """All who wait. Changes take logarithmic time, however many wait."""

    def __init__(self, capacity: Vector, ageing: float, per_owner: int | None, fair: bool) -> None:
        """``ageing`` in seconds, 0 for none; ``per_owner``: the most sessions that one may have."""
        self._capacity, self._ageing = capacity, ageing
        self._per_owner, self._fair = per_owner, fair
        self._owners: dict[str, Owner] = {}
        self._bands: dict[int, _Band] = {}
        self._shapes: dict[Shape, int] = {}
        """Shapes that are asked for, and the number of lanes for each."""
        self._by_session: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._by_session)

    def __iter__(self) -> Iterator[Waiting]:
        """Yield all who wait, in the order in which they came."""
        return iter(self._by_session.values())

    def get(self, session_id: str) -> Waiting | None:
        """Return the request with this id, if it waits."""
        return self._by_session.get(session_id)

    def adjust(self, capacity: Vector, ageing: float, per_owner: int | None, fair: bool) -> None:
        """Order by other settings from now on."""
        self._capacity, self._ageing = capacity, ageing
        self._per_owner, self._fair = per_owner, fair
        for owner in self._owners.values():
            self._reconsider(owner)

    # Owners

    def owner(self, name: str) -> Owner:
        """Return what is known of an owner."""
        return self._owners.get(name) or Owner(name)

    def capped(self, name: str, attaching: bool = False) -> bool:
        """Tell whether an owner may have no further session now."""
        if self._per_owner is None or attaching:
            return False
        return self.owner(name).count >= self._per_owner

    def charge(self, name: str, need: Vector, sessions: int) -> None:
        """Note that ``name`` holds so much more, in so many more sessions; negative for less."""
        owner = self._owners.get(name)
        if owner is None:
            owner = self._owners[name] = Owner(name)
        owner.used, owner.count = plus(owner.used, need), owner.count + sessions
        self._reconsider(owner)
        self._forget(owner)

    def credit(self, name: str, need: Vector, sessions: int) -> None:
        """Note that ``name`` has given back so much."""
        self.charge(name, minus(NOTHING, need), -sessions)

    def _reconsider(self, owner: Owner) -> None:
        """Give the owner's stands the places that its share now asks for."""
        before = owner.share
        owner.share = dominant_share(owner.used, self._capacity) if self._fair else 0.0
        full = self._per_owner is not None and owner.count >= self._per_owner
        for stand in owner.stands:
            if full and not stand.attaching:
                stand.place = None
            elif stand.place is None or owner.share < before:
                stand.take_place()

    def _forget(self, owner: Owner) -> None:
        if not owner.stands and not owner.count and owner.used == NOTHING:
            self._owners.pop(owner.name, None)

    # Requests

    def add(self, waiting: Waiting) -> None:
        """Put ``waiting`` at the end of its owner's line."""
        self._by_session[waiting.session_id] = waiting
        owner = self._owners.get(waiting.owner)
        if owner is None:
            owner = self._owners[waiting.owner] = Owner(waiting.owner)
        stand = self._stand(owner, waiting)
        stand.items[waiting.serial] = waiting
        lane = stand.lanes.get(waiting.key)
        if lane is None:
            lane = self._new_lane(stand, waiting.key)
        lane[waiting.serial] = waiting
        if len(stand.items) == 1 and not self.capped(owner.name, waiting.attaching):
            stand.take_place()

    def _stand(self, owner: Owner, waiting: Waiting) -> _Stand:
        priority = waiting.key.priority
        band = self._bands.get(priority)
        if band is None:
            band = self._bands[priority] = _Band(priority)
        stand = band.stands.get((owner.name, waiting.attaching))
        if stand is None:
            stand = _Stand(owner, band, waiting.attaching)
            band.stands[owner.name, waiting.attaching] = stand
            owner.stands.append(stand)
        return stand

    def _new_lane(self, stand: _Stand, key: LaneKey) -> _Queue:
        stands = stand.band.lanes.get(key)
        if stands is None:
            stands = stand.band.lanes[key] = {}
            stand.band.shapes.setdefault(key.shape, {})[key] = None
            self._shapes[key.shape] = self._shapes.get(key.shape, 0) + 1
        stands[stand] = None
        lane = stand.lanes[key] = OrderedDict()
        return lane

    def remove(self, session_id: str) -> Waiting | None:
        """Take a request out; return it, or None if it does not wait."""
        waiting = self._by_session.pop(session_id, None)
        if waiting is None:
            return None
        owner, key = self._owners[waiting.owner], waiting.key
        stand = self._bands[key.priority].stands[owner.name, waiting.attaching]
        was_first = next(iter(stand.items)) == waiting.serial
        del stand.items[waiting.serial]
        lane = stand.lanes[key]
        del lane[waiting.serial]
        if not lane:
            self._drop_lane(stand, key)
        if not stand.items:
            self._drop_stand(owner, stand)
        elif was_first and stand.place is not None:
            stand.take_place()
        return waiting

    def _drop_lane(self, stand: _Stand, key: LaneKey) -> None:
        stands = stand.band.lanes[key]
        del stand.lanes[key], stands[stand]
        if stands:
            return
        band = stand.band
        del band.lanes[key], band.shapes[key.shape][key]
        if not band.shapes[key.shape]:
            del band.shapes[key.shape]
        self._shapes[key.shape] -= 1
        if not self._shapes[key.shape]:
            del self._shapes[key.shape]

    def _drop_stand(self, owner: Owner, stand: _Stand) -> None:
        stand.place = None
        owner.stands.remove(stand)
        del stand.band.stands[owner.name, stand.attaching]
        if not stand.band.stands:
            del self._bands[stand.band.priority]
        self._forget(owner)

    # Order

    def level(self, priority: int, since: float, now: float) -> float:
        """Return the priority of one that came at ``since``, raised by its age."""
        return priority + (now - since) // self._ageing if self._ageing else priority

    def first(self, now: float, reach: Mapping[Shape, float] | None = None) -> Waiting | None:
        """Return the next request, or the next one within ``reach``: for each shape, the most seconds that it
        may be expected to last.
        """
        if len(self._bands) == 1:
            (band,) = self._bands.values()
            found = band.first(reach)
            return None if found is None else found[1]
        best: Waiting | None = None
        best_rank: tuple[float, float, int] = (FOREVER, 0.0, 0)
        for band in self._bands.values():
            found = band.first(reach)
            if found is not None:
                share, waiting = found
                level = self.level(band.priority, waiting.since, now)
                rank = (-level, share, waiting.serial)
                if rank < best_rank:
                    best, best_rank = waiting, rank
        return best

    def shapes(self) -> Iterator[Shape]:
        """Yield each shape that somebody waits for."""
        return iter(self._shapes)

    def in_order(self, now: float) -> Iterator[Waiting]:
        """Yield all who wait in the order in which they will be served if nothing else happens.

        Each that is served adds to its owner's share, so owners take turns. Requests of an owner who may
        have no more sessions come last, in the order of their coming.
        """
        owners = {name: _Turn(o.used, o.share, o.count) for name, o in self._owners.items()}
        bands = {priority: self._stands(priority) for priority in self._bands}
        late: list[Waiting] = []
        while True:
            bands = {p: heap for p, heap in bands.items() if self._put_right(heap, owners, late)}
            if not bands:
                break
            priority = min(bands, key=lambda p: self._rank(p, bands[p][0], now))
            waiting = bands[priority][0][2]
            turn = owners[waiting.owner]
            turn.serve(waiting, self._capacity if self._fair else NOTHING)
            yield waiting
            _advance(bands[priority], turn.share)
        yield from sorted(late, key=_serial)

    def _put_right(
        self, heap: list[_Line], owners: dict[str, _Turn], late: list[Waiting]
    ) -> list[_Line]:
        """Bring the next request to the top, by what its owner will hold by then."""
        while heap:
            share, serial, waiting, rest = heap[0]
            turn = owners[waiting.owner]
            if not waiting.attaching and turn.count >= (self._per_owner or FOREVER):
                late.append(waiting)
                _advance(heap, turn.share)
            elif share < turn.share:
                heapq.heapreplace(heap, (turn.share, serial, waiting, rest))
            else:
                break
        return heap

    def _stands(self, priority: int) -> list[_Line]:
        """Return a heap of what each owner has waiting at one priority, oldest first."""
        heap: list[_Line] = []
        for stand in self._bands[priority].stands.values():
            waits = iter(stand.items.values())
            first = next(waits)
            heap.append((stand.owner.share, first.serial, first, waits))
        heapq.heapify(heap)
        return heap

    def _rank(self, priority: int, place: _Line, now: float) -> tuple[float, float, int]:
        return (-self.level(priority, place[2].since, now), place[0], place[1])


class _Turn:
    """What an owner will hold when so many of its requests have been served."""

    __slots__ = ("count", "share", "used")

    def __init__(self, used: Vector, share: float, count: int) -> None:
        self.used, self.share, self.count = used, share, count

    def serve(self, waiting: Waiting, capacity: Vector) -> None:
        self.used = plus(self.used, waiting.key.shape.need)
        self.count += not waiting.attaching
        self.share = dominant_share(self.used, capacity)


_Line = tuple[float, int, Waiting, Iterator[Waiting]]
"""An owner's share, its next request with its number, and those behind that."""


def _advance(heap: list[_Line], share: float) -> None:
    """Put the next of the line at the top in its place."""
    rest = heap[0][3]
    following = next(rest, None)
    if following is None:
        heapq.heappop(heap)
    else:
        heapq.heapreplace(heap, (share, following.serial, following, rest))


def _serial(waiting: Waiting) -> int:
    return waiting.serial


def bound_of(seconds: float | None) -> float:
    """Return the power of two that ``seconds`` does not exceed, or FOREVER when they are not known."""
    if seconds is None or seconds >= UNLIMITED:
        return FOREVER
    if seconds <= 0:
        return 0.0
    mantissa, exponent = math.frexp(seconds)
    return math.ldexp(1.0, exponent - (mantissa == 0.5))  # a half is exact
