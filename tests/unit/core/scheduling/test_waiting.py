# SPDX-License-Identifier: MIT
"""The queue alone: its order is that of a list that is sorted anew each time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from operatord.core.resources import NOTHING, Vector, minus, plus
from operatord.core.scheduling import waiting as module
from operatord.core.scheduling.waiting import (
    FOREVER,
    LaneKey,
    Shape,
    Waiting,
    WaitingList,
    bound_of,
)

CAPACITY = Vector(8, 12, 2, 10, 10, 10)
SHAPES = [
    Shape(Vector(1, sessions=1)),
    Shape(Vector(3, 2, sessions=1)),
    Shape(Vector(1, 6, sessions=1)),
    Shape(Vector(1, 1, 1, sessions=1), (4,)),
]
owners = st.sampled_from("abcd")


class Naive:
    """The rules of the order, word by word."""

    def __init__(self, capacity: Vector, ageing: float, per_owner: int | None, fair: bool) -> None:
        self.capacity, self.ageing, self.per_owner, self.fair = capacity, ageing, per_owner, fair
        self.waits: list[Waiting] = []
        self.used: dict[str, Vector] = {}
        self.count: Counter[str] = Counter()

    def share(self, waiting: Waiting) -> float:
        used = self.used.get(waiting.owner, NOTHING)
        return max(u / c for u, c in zip(used, self.capacity, strict=True)) if self.fair else 0.0

    def level(self, waiting: Waiting, now: float) -> float:
        older = math.floor((now - waiting.since) / self.ageing) if self.ageing else 0
        return waiting.key.priority + older

    def capped(self, waiting: Waiting) -> bool:
        if self.per_owner is None or waiting.attaching:
            return False
        return self.count[waiting.owner] >= self.per_owner

    def first(self, now: float, suits: Callable[[LaneKey], bool]) -> Waiting | None:
        """Return the least share's oldest of each priority, and of these the foremost."""
        heads: dict[int, Waiting] = {}
        for waiting in sorted(self.waits, key=lambda w: (self.share(w), w.serial), reverse=True):
            if suits(waiting.key) and not self.capped(waiting):
                heads[waiting.key.priority] = waiting
        return min(
            heads.values(),
            key=lambda w: (-self.level(w, now), self.share(w), w.serial),
            default=None,
        )

    def in_order(self, now: float) -> Iterator[Waiting]:
        """Serve one after the other."""
        left, used, count = list(self.waits), dict(self.used), Counter(self.count)
        while (head := self.first(now, lambda key: True)) is not None:
            yield head
            self.waits.remove(head)
            self.charge(head.owner, head.key.shape.need, not head.attaching)
        yield from sorted(self.waits, key=lambda w: w.serial)
        self.waits, self.used, self.count = left, used, count

    def charge(self, owner: str, need: Vector, sessions: int) -> None:
        self.used[owner] = plus(self.used.get(owner, NOTHING), need)
        self.count[owner] += sessions


class Line(RuleBasedStateMachine):
    """Requests come and go, and owners get and give back, in any order."""

    @initialize(
        ageing=st.sampled_from([0.0, 3.0, 10.0]),
        per_owner=st.none() | st.integers(1, 3),
        fair=st.booleans(),
        few=st.sampled_from([0, 2, module.FEW]),
    )
    def begin(self, ageing: float, per_owner: int | None, fair: bool, few: int) -> None:
        """``few`` decides which of two ways is taken to the first that suits."""
        self.usual, module.FEW = module.FEW, few
        self.line = WaitingList(CAPACITY, ageing, per_owner, fair)
        self.naive = Naive(CAPACITY, ageing, per_owner, fair)
        self.taken: list[tuple[str, Vector]] = []
        self.serial = 0
        self.now = 0.0

    @rule(
        owner=owners,
        priority=st.integers(-1, 2),
        shape=st.sampled_from(SHAPES),
        seconds=st.sampled_from([None, 3, 4, 100]),
        attaching=st.integers(0, 4).map(lambda n: n == 0),
    )
    def add(
        self, owner: str, priority: int, shape: Shape, seconds: float | None, attaching: bool
    ) -> None:
        self.serial += 1
        key = LaneKey(priority, shape, bound_of(seconds))
        one = Waiting(f"s{self.serial}", owner, key, self.now, self.serial, attaching=attaching)
        self.line.add(one)
        self.naive.waits.append(one)

    @precondition(lambda self: self.naive.waits)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.naive.waits))
        self.naive.waits.remove(one)
        assert self.line.remove(one.session_id) is one
        assert self.line.remove(one.session_id) is None

    @rule(owner=owners, shape=st.sampled_from(SHAPES))
    def charge(self, owner: str, shape: Shape) -> None:
        self.line.charge(owner, shape.need, 1)
        self.naive.charge(owner, shape.need, 1)
        self.taken.append((owner, shape.need))

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def credit(self, data: st.DataObject) -> None:
        owner, need = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.line.credit(owner, need, 1)
        self.naive.charge(owner, minus(NOTHING, need), -1)

    @rule(seconds=st.integers(1, 9))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        capacity=st.sampled_from([CAPACITY, Vector(2, 30, 1, 5, 5, 5)]),
        ageing=st.sampled_from([0.0, 3.0, 10.0]),
        per_owner=st.none() | st.integers(1, 3),
        fair=st.booleans(),
    )
    def adjust(self, capacity: Vector, ageing: float, per_owner: int | None, fair: bool) -> None:
        self.line.adjust(capacity, ageing, per_owner, fair)
        self.naive.capacity, self.naive.ageing = capacity, ageing
        self.naive.per_owner, self.naive.fair = per_owner, fair

    @rule(shapes=st.sets(st.sampled_from(SHAPES)), bound=st.sampled_from([4.0, FOREVER]))
    def somebody_suitable_is_wanted(self, shapes: set[Shape], bound: float) -> None:
        def suits(key: LaneKey) -> bool:
            return key.shape in shapes and key.bound <= bound

        reach = dict.fromkeys(sorted(shapes), bound)
        assert self.line.first(self.now, reach) is self.naive.first(self.now, suits)

    @invariant()
    def the_first_is_the_first(self) -> None:
        assert self.line.first(self.now) is self.naive.first(self.now, lambda key: True)

    @invariant()
    def the_order_is_that_of_serving_one_by_one(self) -> None:
        expected = [one.session_id for one in self.naive.in_order(self.now)]
        assert [one.session_id for one in self.line.in_order(self.now)] == expected
        assert len(self.line) == len(set(expected)) == len(self.naive.waits)

    @invariant()
    def all_who_wait_are_known(self) -> None:
        assert list(self.line) == self.naive.waits
        assert set(self.line.shapes()) == {one.key.shape for one in self.naive.waits}

    def teardown(self) -> None:
        if not hasattr(self, "line"):
            return
        module.FEW = self.usual
        for one in self.naive.waits:
            self.line.remove(one.session_id)
        for owner, need in self.taken:
            self.line.credit(owner, need, 1)
        assert_empty(self.line)


def assert_empty(line: WaitingList) -> None:
    assert (len(line), list(line), list(line.in_order(0)), line.first(0)) == (0, [], [], None)
    assert (line._owners, line._bands, line._shapes, line._by_session) == ({}, {}, {}, {})


Line.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestLine = Line.TestCase


@pytest.fixture
def line() -> WaitingList:
    return WaitingList(CAPACITY, 0.0, None, True)


def request(serial: int, owner: str = "a", shape: Shape = SHAPES[0]) -> Waiting:
    return Waiting(f"s{serial}", owner, LaneKey(0, shape, FOREVER), 0.0, serial)


def test_out_of_date_places_do_not_pile_up(line: WaitingList) -> None:
    line.add(request(1))
    for _ in range(1000):
        line.charge("a", SHAPES[0].need, 1)
        line.credit("a", SHAPES[0].need, 1)
    [band] = line._bands.values()
    assert len(band.heap) < 50
    assert line.first(0) is line.get("s1")


def test_putting_the_places_in_order_loses_nobody() -> None:
    for times in range(60):
        line = WaitingList(CAPACITY, 0.0, None, True)
        line.add(request(1))
        for _ in range(times):
            line.charge("a", SHAPES[0].need, 1)
            line.credit("a", SHAPES[0].need, 1)
        assert line.first(0) is line.get("s1")


def test_whoever_holds_less_goes_first_and_then_they_take_turns(line: WaitingList) -> None:
    line.charge("a", Vector(2, sessions=1), 1)
    for serial, owner in enumerate("aaabb"):
        line.add(request(serial, owner))
    order = [one.session_id for one in line.in_order(0)]
    assert order == ["s3", "s4", "s0", "s1", "s2"]


@pytest.mark.parametrize("few", [0, module.FEW])
def test_without_fairness_those_who_suit_come_in_the_order_of_their_coming(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", few)
    line = WaitingList(CAPACITY, 0.0, None, False)
    large, small = SHAPES[1], SHAPES[0]
    for serial, (owner, shape) in enumerate([("a", large), ("b", small), ("a", small)]):
        line.add(request(serial, owner, shape))
    found = line.first(0, {small: FOREVER})
    assert found is line.get("s1"), "not s2, whose owner has the oldest request"


def test_an_owner_at_its_limit_is_passed_over_until_it_is_below() -> None:
    line = WaitingList(CAPACITY, 0.0, 1, True)
    line.add(request(1, "a"))
    line.add(request(2, "b"))
    line.charge("a", SHAPES[0].need, 1)
    assert line.first(0) is line.get("s2")
    assert [one.session_id for one in line.in_order(0)] == ["s2", "s1"]
    line.credit("a", SHAPES[0].need, 1)
    assert line.first(0) is line.get("s1")


def test_a_priority_may_be_overtaken_by_age() -> None:
    line = WaitingList(CAPACITY, 10.0, None, True)
    low = Waiting("low", "a", LaneKey(0, SHAPES[0], FOREVER), 0.0, 1)
    high = Waiting("high", "b", LaneKey(2, SHAPES[0], FOREVER), 15.0, 2)
    line.add(low)
    line.add(high)
    assert line.first(19.0) is high
    assert line.first(20.0) is low, "two levels from two times ten seconds, and it is the older one"


@given(st.floats(min_value=1e-6, max_value=1e12))
@example(1.0)
@example(4.0)
@example(math.nextafter(4.0, 5.0))
def test_a_bound_is_the_next_power_of_two(seconds: float) -> None:
    bound = bound_of(seconds)
    assert seconds <= bound < 2 * seconds
    assert math.frexp(bound)[0] == 0.5


@pytest.mark.parametrize("seconds", [None, math.inf, 1.7e308])
def test_what_is_not_known_or_endless_has_no_bound(seconds: float | None) -> None:
    assert bound_of(seconds) == FOREVER


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_what_is_over_already_takes_no_time(seconds: float) -> None:
    assert bound_of(seconds) == 0
