# SPDX-License-Identifier: MIT
"""Admission: the laws that hold whatever happens, and the cases by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from operatord.core.resources import DIMENSIONS, NOTHING, UNLIMITED, Dimension, Vector
from operatord.core.scheduling.forecast import Standing, standings
from operatord.core.scheduling.ledger import PASSES, Ask, OnShortage, Settings, State, outlook
from operatord.core.scheduling.room import LATE, SETTLES, Gpu
from operatord.core.scheduling.scheduler import (
    Action,
    Attach,
    Attached,
    Changed,
    Detached,
    Enqueue,
    Event,
    Measured,
    Refuse,
    Released,
    Restored,
    Running,
    Start,
    Submitted,
    Tick,
    Withdrawn,
    decide,
    next_deadline,
    preview,
)
from operatord.core.scheduling.waiting import Shape
from operatord.core.scheduling.why import Why, explain

Amounts = dict[str, int]
DEVICES = {"g0": 2, "g1": 4, "g2": 8}


def amounts(vector: Vector) -> Amounts:
    return dict(zip(DIMENSIONS, vector, strict=True))


# A model of the accounting: plain dicts and sums


@dataclass
class Life:
    """What the model knows of a session that lives."""

    owner: str
    need: Amounts
    gpus: list[str]
    missing: Amounts | None = None
    """What a degraded one still waits for."""
    wanted: tuple[int, ...] = ()
    """The memory of each device that belongs to it."""
    extra: Amounts | None = None
    """What was attached."""
    running: float | None = None
    seen: bool = False
    """A measurement has seen what it uses."""


@dataclass
class Books:
    """What may be taken, what is, and who waits."""

    settings: Settings
    draining: bool = False
    pressure: bool = False
    measured: Amounts | None = None
    lives: dict[str, Life] = field(default_factory=dict)
    waits: dict[str, Ask] = field(default_factory=dict)

    def used(self, dimension: str) -> int:
        return sum(life.need[dimension] for life in self.lives.values())

    def unseen(self, dimension: str) -> int:
        return sum(life.need[dimension] for life in self.lives.values() if not life.seen)

    def free(self, dimension: str) -> int:
        left = amounts(self.settings.capacity)[dimension] - self.used(dimension)
        if self.measured is None:
            return left
        return min(left, self.measured[dimension] - self.unseen(dimension))

    def has(self, need: Amounts, gpus: tuple[int, ...]) -> bool:
        fits = all(not need[d] or need[d] <= self.free(d) for d in DIMENSIONS)
        return fits and covers([gpu.memory for gpu in self.idle()], gpus)

    def could_ever(self, ask: Ask) -> bool:
        need, capacity = amounts(ask.need), amounts(self.settings.capacity)
        devices = [gpu.memory for gpu in self.settings.gpus]
        return all(need[d] <= capacity[d] for d in DIMENSIONS) and covers(devices, ask.gpus)

    def idle(self) -> list[Gpu]:
        busy = {gpu for life in self.lives.values() for gpu in life.gpus}
        return [gpu for gpu in self.settings.gpus if gpu.id not in busy]

    def capped(self, owner: str) -> bool:
        most = self.settings.per_owner
        return most is not None and self.count(owner) >= most

    def count(self, owner: str) -> int:
        return sum(life.owner == owner for life in self.lives.values())

    def look(self, free: Vector | None, now: float) -> None:
        self.measured = None if free is None else amounts(free)
        for life in self.lives.values():
            life.seen |= life.running is not None and now - life.running >= SETTLES


def covers(devices: list[int], wanted: tuple[int, ...]) -> bool:
    """Tell whether there is a device for each of ``wanted``, by trying them all."""
    if not wanted:
        return True
    return any(
        memory >= wanted[0] and covers(devices[:n] + devices[n + 1 :], wanted[1:])
        for n, memory in enumerate(devices)
    )


few = st.integers(0, 3)
owners = st.sampled_from("abc")
capacities = st.builds(
    Vector,
    cpus=st.integers(1, 6),
    memory=st.integers(1, 6),
    gpus=st.just(0),
    sessions=st.integers(1, 5),
    subnets=st.integers(1, 5),
    ports=st.integers(2, 6) | st.just(UNLIMITED),
)


@st.composite
def some_settings(draw: st.DrawFn) -> Settings:
    ids = draw(st.sets(st.sampled_from(sorted(DEVICES))))
    return Settings(
        capacity=draw(capacities)._replace(gpus=len(ids)),
        gpus=tuple(Gpu(DEVICES[each], each) for each in sorted(ids)),
        queue=draw(st.integers(0, 8)),
        per_owner=draw(st.none() | st.integers(1, 3)),
        ageing=draw(st.sampled_from([0.0, 2.0, 10.0])),
        backfill=draw(st.integers(0, 3)) > 0,
        fair=draw(st.integers(0, 3)) > 0,
    )


@st.composite
def survivors(draw: st.DrawFn, session_id: str, free: list[str]) -> Restored:
    """Return a session of an earlier life, on devices that nobody has; the machine may not know them."""
    whole = Vector(draw(few), draw(few), draw(few), 1, draw(few) % 2, draw(few))
    part = Vector(*(draw(st.integers(0, amount)) for amount in whole))._replace(sessions=0)
    gpus = draw(st.sets(st.sampled_from(free), max_size=2)) if free else set()
    lacks = Shape(part, tuple(draw(st.lists(st.sampled_from([1, 5]), max_size=1))))
    degraded = draw(st.sampled_from(["never", "still", "no more"]))
    return Restored(
        session_id,
        draw(owners),
        whole,
        () if degraded == "still" else tuple(sorted(gpus)),
        extra=part if degraded == "no more" else None,
        lacks=lacks if degraded == "still" else None,
        priority=draw(st.integers(-1, 1)),
    )


@st.composite
def asks(draw: st.DrawFn, session_id: str, now: float) -> Ask:
    gpus = tuple(draw(st.lists(st.sampled_from([1, 3, 5, 9]), max_size=2)))
    whole = Vector(draw(few), draw(few), len(gpus), 1, draw(few) % 2, draw(few))
    part = Vector(draw(few), draw(few), 0, 1, draw(few), draw(few))
    plain = Vector(*(min(a, b) for a, b in zip(whole, part, strict=True)))
    shortage: OnShortage = draw(st.sampled_from(["queue", "queue", "degrade", "degrade", "refuse"]))
    wait = draw(st.sampled_from([None, None, 0, 2, 5, 20]))
    return Ask(
        session_id,
        draw(owners),
        whole,
        gpus,
        priority=draw(st.integers(-1, 1)),
        on_shortage=shortage,
        latest=None if wait is None else now + wait,
        seconds=draw(st.sampled_from([None, 0, 1, 4, 10, 30])),
        plain=plain if shortage == "degrade" and draw(few) else None,
    )


class Admission(RuleBasedStateMachine):
    """Events in any order, kept against the model; a twin that is never previewed hears the same."""

    def __init__(self) -> None:
        super().__init__()
        first = Settings(Vector(4, 4, 2, 3, 3, 4), (Gpu(2, "g0"), Gpu(4, "g1")), queue=4)
        self.state, self.twin, self.books = State(first), State(first), Books(first)
        self.now = 0.0
        self.serial = 0

    # Events

    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        self.serial += 1
        ask = data.draw(asks(f"s{self.serial}", self.now))
        before = standings(self.state, self.now)
        foreseen = preview(self.state, ask, self.now)
        assert standings(self.state, self.now) == before, "a preview changes nothing"
        self.books.waits[ask.session_id] = ask
        waited = self.waiting() - 1
        answer, *others = self.happens(Submitted(ask))
        assert answer == foreseen.action, "the answer is what was foreseen"
        if isinstance(answer, Enqueue):
            assert waited < self.books.settings.queue
            assert ask.on_shortage != "refuse"
            assert not others or foreseen.standing is not None
            if not others:
                assert standings(self.state, self.now)[ask.session_id] == foreseen.standing
        if self.books.draining:
            assert isinstance(answer, Refuse)
        elif not self.books.could_ever(ask):
            assert isinstance(answer, Refuse)
            assert answer.type == "never_fits"

    @precondition(lambda self: self.books.lives)
    @rule(data=st.data(), seconds=st.sampled_from([None, -1, 1, 4, 10, 30]))
    def run(self, data: st.DataObject, seconds: float | None) -> None:
        session_id = self.one_who_lives(data)
        life = self.books.lives[session_id]
        if life.running is None and life.extra is None:
            life.running = self.now  # what was attached is there only once it is said to be
        end = None if seconds is None else self.now + seconds
        assert self.happens(Running(session_id, end)) == []

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """One more than there is room for, or a device that is gone, makes no difference."""
        self.serial += 1
        busy = {gpu for life in self.books.lives.values() for gpu in life.gpus}
        free = [each for each in DEVICES if each not in busy]
        event = data.draw(survivors(f"s{self.serial}", free))
        life = Life(event.owner, amounts(event.need), list(event.gpus), running=self.now, seen=True)
        life.extra = None if event.extra is None else amounts(event.extra)
        if event.lacks is not None:
            life.missing, life.wanted = amounts(event.lacks.need), event.lacks.gpus
        self.books.lives[event.session_id] = life
        assert self.happens(event) == [], (
            "what is there is taken on; who waits is served afterwards"
        )
        self.happens(Tick())

    @precondition(lambda self: self.books.lives)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        session_id = self.one_who_lives(data)
        del self.books.lives[session_id]
        self.happens(Released(session_id))

    @precondition(lambda self: self.books.lives)
    @rule(data=st.data())
    def attached(self, data: st.DataObject) -> None:
        session_id = self.one_who_lives(data)
        self.books.lives[session_id].running = self.now
        assert self.happens(Attached(session_id)) == []

    @precondition(lambda self: self.books.lives)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        session_id = self.one_who_lives(data)
        life = self.books.lives[session_id]
        if life.extra is not None:
            life.need = {d: life.need[d] - life.extra[d] for d in DIMENSIONS}
            life.gpus, life.extra, life.running, life.seen = [], None, self.now, False
        self.happens(Detached(session_id))

    @precondition(lambda self: self.books.waits or self.books.lives)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from([*self.books.waits, *self.books.lives]))
        self.books.waits.pop(session_id, None)
        if session_id in self.books.lives:
            self.books.lives[session_id].missing = None
        self.happens(Withdrawn(session_id))

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        late = {s for s, ask in self.books.waits.items() if is_late(ask, self.now)}
        actions = self.happens(Tick())
        assert {a.session_id for a in actions if isinstance(a, Refuse)} == late

    @rule(
        cpus=st.integers(-1, 8) | st.just(UNLIMITED),
        memory=st.integers(-1, 8) | st.just(UNLIMITED),
        pressed=st.sampled_from(["none", "none", "none", "memory", "disk"]),
    )
    def measure(self, cpus: int, memory: int, pressed: str) -> None:
        free = Vector(cpus, memory, UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED)
        self.books.look(free, self.now)
        self.books.pressure = pressed != "none"
        why = f"short of {pressed}" if self.books.pressure else ""
        self.happens(Measured(free, pressed, why))

    @rule()
    def measure_nothing(self) -> None:
        self.books.look(None, self.now)
        self.books.pressure = False
        self.happens(Measured(None))

    @rule(other=some_settings(), draining=st.sampled_from([False, False, True]))
    def change(self, other: Settings, draining: bool) -> None:
        self.books.settings, self.books.draining = other, draining
        lived = {s: life.need for s, life in self.books.lives.items()}
        self.happens(Changed(other, draining))
        for session_id, need in lived.items():
            kept = self.books.lives[session_id].need
            assert all(kept[d] >= need[d] for d in DIMENSIONS), "nothing is taken from who lives"

    @rule(
        event=st.sampled_from(
            [Released("x"), Attached("x"), Detached("x"), Withdrawn("x"), Running("x", 3.0)]
        )
    )
    def somebody_unknown(self, event: Event) -> None:
        assert self.happens(event) == []

    def one_who_lives(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.books.lives)))

    # What must hold of every answer

    def happens(self, event: Event) -> list[Action]:
        actions = decide(self.state, event, self.now)
        assert decide(self.twin, event, self.now) == actions, "the same events, the same actions"
        for action in actions:
            if isinstance(action, Start):
                self.starts(action)
            elif isinstance(action, Attach):
                self.attaches(action)
            elif isinstance(action, Refuse):
                self.refuses(action)
        return actions

    def starts(self, action: Start) -> None:
        ask = self.books.waits.pop(action.session_id)
        assert not self.books.draining
        assert not self.books.pressure
        assert not self.books.capped(ask.owner)
        assert not is_late(ask, self.now)
        assert ask.plain is not None or not action.degraded
        need = amounts(ask.plain if action.degraded and ask.plain else ask.need)
        wanted = () if action.degraded else ask.gpus
        self.can_be_had(need, wanted, action.gpus)
        life = Life(ask.owner, need, list(action.gpus))
        if action.degraded:
            life.missing = {d: amounts(ask.need)[d] - need[d] for d in DIMENSIONS}
            life.wanted = ask.gpus
        self.books.lives[action.session_id] = life

    def attaches(self, action: Attach) -> None:
        life = self.books.lives[action.session_id]
        assert not self.books.draining
        assert not self.books.pressure
        assert life.missing is not None
        self.can_be_had(life.missing, life.wanted, action.gpus)
        life.need = {d: life.need[d] + life.missing[d] for d in DIMENSIONS}
        life.gpus, life.extra, life.missing = list(action.gpus), life.missing, None
        life.seen, life.running = False, None

    def refuses(self, action: Refuse) -> None:
        ask = self.books.waits.pop(action.session_id)
        assert action.why.text
        if action.type == "draining":
            assert self.books.draining
        elif action.type == "never_fits":
            assert not self.books.could_ever(ask)
        elif action.type == "deadline_exceeded":
            assert is_late(ask, self.now)
        elif action.type == "queue_full":
            assert self.waiting() >= self.books.settings.queue
        else:
            assert ask.on_shortage == "refuse"

    def can_be_had(self, need: Amounts, wanted: tuple[int, ...], given: tuple[str, ...]) -> None:
        for dimension in DIMENSIONS:
            assert not need[dimension] or need[dimension] <= self.books.free(dimension), dimension
        idle = {gpu.id: gpu.memory for gpu in self.books.idle()}
        assert len(set(given)) == len(given) == len(wanted), "no device twice"
        for memory, device in zip(wanted, given, strict=True):
            assert idle[device] >= memory

    def waiting(self) -> int:
        return len(self.books.waits)

    # What must hold at every moment

    @invariant()
    def the_books_agree(self) -> None:
        room = self.state.room
        assert amounts(room.used) == {d: self.books.used(d) for d in DIMENSIONS}
        assert amounts(room.free) == {d: self.books.free(d) for d in DIMENSIONS}
        assert room.idle_gpus() == sorted(self.books.idle())
        assert set(room.holdings) == set(self.books.lives)
        for owner in "abc":
            theirs = [life for life in self.books.lives.values() if life.owner == owner]
            known = self.state.queue.owner(owner)
            assert known.count == len(theirs)
            assert amounts(known.used) == {d: sum(t.need[d] for t in theirs) for d in DIMENSIONS}

    @invariant()
    def the_queue_is_as_modelled(self) -> None:
        places = standings(self.state, self.now)
        assert set(places) == set(self.books.waits)
        assert [place.position for place in places.values()] == list(range(1, len(places) + 1))
        assert self.state.length == len(places)
        missing = sum(life.missing is not None for life in self.books.lives.values())
        assert self.state.attaching == missing
        ends = [ask.latest for ask in self.books.waits.values() if ask.latest is not None]
        assert next_deadline(self.state) == min(ends, default=None)

    @invariant()
    def whoever_is_next_does_not_fit(self) -> None:
        if self.books.draining or self.books.pressure:
            return
        head = self.state.queue.first(self.now)
        if head is None:
            assert all(self.books.capped(ask.owner) for ask in self.books.waits.values())
        else:
            need, gpus = head.key.shape
            assert not self.books.has(amounts(need), gpus)

    def teardown(self) -> None:
        self.books.pressure, self.books.draining = False, False
        self.books.look(None, self.now)
        self.happens(Measured(None))
        self.happens(Changed(self.books.settings, False))
        while self.books.lives:
            session_id = next(iter(self.books.lives))
            del self.books.lives[session_id]
            self.happens(Released(session_id))
        assert not self.books.waits, "everything that can fit starts in the end"
        assert_empty(self.state, self.books.settings)


def is_late(ask: Ask, now: float) -> bool:
    return ask.latest is not None and ask.latest <= now


def assert_empty(state: State, now: Settings) -> None:
    """Nothing is taken, nobody waits, and nothing is remembered of those who did."""
    room, queue = state.room, state.queue
    assert (room.used, room.free, room.holdings, room.ends) == (NOTHING, now.capacity, {}, [])
    assert (room._unsettled, room._unseen) == ({}, NOTHING)
    assert room.idle_gpus() == sorted(now.gpus)
    assert (len(queue), state.length, state.attaching) == (0, 0, 0)
    assert (queue._owners, queue._bands, queue._shapes, queue._by_session) == ({}, {}, {}, {})
    assert next_deadline(state) is None
    assert state.late == []


Admission.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAdmission = Admission.TestCase


# The order: the model's next starts, and nobody else


class Order(RuleBasedStateMachine):
    """Without backfilling, each settling starts exactly whom a list sorted anew would serve."""

    CAPACITY = Vector(6, 9, 0, 5, 5, 5)

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings(self.CAPACITY, per_owner=3, ageing=5.0, backfill=False)
        self.state = State(self.settings)
        self.now = 0.0
        self.serial = 0
        self.waits: list[tuple[int, float, Ask]] = []
        self.lives: list[Ask] = []

    @rule(owner=owners, priority=st.integers(0, 2), cpus=st.integers(1, 5), memory=few)
    def submit(self, owner: str, priority: int, cpus: int, memory: int) -> None:
        self.serial += 1
        need = Vector(cpus, memory, sessions=1)
        ask = Ask(f"s{self.serial}", owner, need, priority=priority)
        self.waits.append((self.serial, self.now, ask))
        self.happens(Submitted(ask))

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        ask = self.lives.pop(data.draw(st.integers(0, len(self.lives) - 1)))
        self.happens(Released(ask.session_id))

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        entry = self.waits.pop(data.draw(st.integers(0, len(self.waits) - 1)))
        self.happens(Withdrawn(entry[2].session_id))

    @rule(seconds=st.integers(1, 7))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.happens(Tick())

    @rule(per_owner=st.none() | st.integers(1, 3), fair=st.booleans())
    def change(self, per_owner: int | None, fair: bool) -> None:
        self.settings = self.settings._replace(per_owner=per_owner, fair=fair)
        self.happens(Changed(self.settings, False))

    def happens(self, event: Event) -> None:
        actions = decide(self.state, event, self.now)
        assert started(actions) == self.expected()
        order = list(standings(self.state, self.now))
        head = self.next()
        assert order[:1] == ([head[2].session_id] if head else order[:1])

    def expected(self) -> list[str]:
        """Start whoever is next until that one does not fit."""
        names = []
        while (head := self.next()) is not None and self.fits(head[2]):
            self.waits.remove(head)
            self.lives.append(head[2])
            names.append(head[2].session_id)
        return names

    def fits(self, ask: Ask) -> bool:
        lives = [each.need for each in self.lives]
        return all(
            sum(need[n] for need in [*lives, ask.need]) <= self.CAPACITY[n] for n in range(6)
        )

    def next(self) -> tuple[int, float, Ask] | None:
        most = self.settings.per_owner or UNLIMITED
        allowed = [w for w in self.waits if self.count(w[2].owner) < most]
        heads = {}
        for entry in sorted(allowed, key=lambda w: (self.share(w[2].owner), w[0]), reverse=True):
            heads[entry[2].priority] = entry
        return min(heads.values(), key=self.rank, default=None)

    def rank(self, entry: tuple[int, float, Ask]) -> tuple[float, float, int]:
        serial, since, ask = entry
        level = ask.priority + (self.now - since) // self.settings.ageing
        return -level, self.share(ask.owner), serial

    def count(self, owner: str) -> int:
        return sum(ask.owner == owner for ask in self.lives)

    def share(self, owner: str) -> float:
        theirs = [ask.need for ask in self.lives if ask.owner == owner]
        held = [sum(need[n] for need in theirs) for n in range(6)]
        shares = [h / c for h, c in zip(held, self.CAPACITY, strict=True) if c]
        return max(shares) if self.settings.fair else 0.0


Order.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestOrder = Order.TestCase


# EASY: nobody who passes delays the reserved start


def one(cpus: int = 1, memory: int = 0, gpus: int = 0) -> Vector:
    """Return what one session takes."""
    return Vector(cpus, memory, gpus, sessions=1)


class Job(NamedTuple):
    arrival: int
    need: Vector
    seconds: int


jobs = st.lists(
    st.builds(
        Job,
        arrival=st.integers(0, 30),
        need=st.builds(one, cpus=st.integers(1, 4), memory=st.integers(0, 4)),
        seconds=st.integers(1, 40),
    ),
    min_size=2,
    max_size=25,
)


class Simulation:
    """One owner's jobs, which end exactly when they are expected to."""

    def __init__(self, work: list[Job], backfill: bool = True) -> None:
        capacity = Vector(4, 6, 0, 100, 100, 100)
        self.state = State(Settings(capacity, ageing=0.0, backfill=backfill))
        self.work = {f"j{n:02}": job for n, job in enumerate(work)}
        self.promises: dict[str, float] = {}
        self.starts: dict[str, float] = {}
        self.ends: list[tuple[float, str]] = []

    def run(self) -> None:
        arrivals = sorted((job.arrival, name) for name, job in self.work.items())
        while arrivals or self.ends:
            now = min(moments[0][0] for moments in (arrivals, sorted(self.ends)) if moments)
            for end in [each for each in self.ends if each[0] == now]:
                self.ends.remove(end)
                self.take(decide(self.state, Released(end[1]), now), now)
            while arrivals and arrivals[0][0] == now:
                _, name = arrivals.pop(0)
                job = self.work[name]
                ask = Ask(name, need=job.need, seconds=job.seconds)
                self.take(decide(self.state, Submitted(ask), now), now)
            self.promise(now)

    def take(self, actions: list[Action], now: float) -> None:
        for name in started(actions):
            self.starts[name] = now
            self.ends.append((now + self.work[name].seconds, name))

    def promise(self, now: float) -> None:
        head = self.state.queue.first(now)
        if head is not None:
            when = outlook(self.state, head, now)
            assert when.kind == "at", "all ends are known"
            self.promises.setdefault(head.session_id, when.moment)


@given(jobs)
@settings(max_examples=150)
def test_the_head_starts_no_later_than_was_foreseen(work: list[Job]) -> None:
    simulation = Simulation(work)
    simulation.run()
    assert set(simulation.starts) == set(simulation.work)
    for name, moment in simulation.promises.items():
        assert simulation.starts[name] <= moment, name


@given(jobs)
@settings(max_examples=50)
def test_without_backfilling_nobody_passes(work: list[Job]) -> None:
    simulation = Simulation(sorted(work), backfill=False)
    simulation.run()
    starts = [simulation.starts[name] for name in simulation.work]
    assert starts == sorted(starts)


# Nobody starves


@given(st.data(), st.integers(2, 6), st.integers(0, 3))
@settings(max_examples=50)
def test_a_large_one_starts_after_a_bounded_number_have_passed(
    data: st.DataObject, cpus: int, spare: int
) -> None:
    """Small ones of unknown length keep coming, and one ends for each that comes."""
    state = machine(cpus)
    large = max(1, cpus - spare)
    alive = [f"s{n}" for n in range(cpus)]
    for name in alive:
        assert submit(state, name) == [f"start {name}"]
    assert submit(state, "large", large) == ["enqueue large"]
    for number in range(cpus, cpus + PASSES + cpus + 1):
        submit(state, f"s{number}")
        gone = alive.pop(data.draw(st.integers(0, len(alive) - 1)))
        begun = started(decide(state, Released(gone), 0))
        alive += begun
        if "large" in begun:
            return
    raise AssertionError("it still waits")


@given(st.integers(1, 6), st.integers(2, 4), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_equal_owners_get_equal_shares_in_the_end(places: int, owners: int, random: Random) -> None:
    """The first one floods the queue before the others come."""
    state = machine(places)
    names = [f"o{n}" for n in range(owners)]
    alive: list[str] = []
    for owner in names:
        for number in range(40):
            actions = decide(state, Submitted(Ask(f"{owner} {number}", owner, one())), 0)
            alive += started(actions)
    for number in range(30):
        gone = alive.pop(0) if number < places else alive.pop(random.randrange(len(alive)))
        alive += started(decide(state, Released(gone), 0))
        if number >= places:
            living = Counter(name.split()[0] for name in alive)
            assert max(living[n] for n in names) - min(living[n] for n in names) <= 1


@given(st.integers(1, 6), st.integers(2, 4))
@settings(max_examples=30)
def test_equal_owners_get_equal_starts(places: int, owners: int) -> None:
    """Sessions last equally long, so whoever came first goes first."""
    state = machine(places)
    begun: Counter[str] = Counter()
    alive: list[str] = []
    for number in range(30):
        for owner in range(owners):
            ask = Ask(f"o{owner} {number}", f"o{owner}", one())
            alive += (fresh := started(decide(state, Submitted(ask), 0)))
            begun.update(name.split()[0] for name in fresh)
    while state.length > owners:
        alive += (fresh := started(decide(state, Released(alive.pop(0)), 0)))
        begun.update(name.split()[0] for name in fresh)
        assert max(begun.values()) - min(begun[f"o{n}"] for n in range(owners)) <= 1


@given(st.integers(1, 20), st.integers(1, 10))
@settings(max_examples=30)
def test_ageing_brings_the_least_urgent_to_its_turn(gap: int, ageing: int) -> None:
    """Each second something more urgent comes, and one session ends."""
    state = machine(1, ageing=float(ageing))
    submit(state, "h0", owner="busy", priority=gap)
    submit(state, "low", owner="modest")
    alive = "h0"
    for now in range(1, (gap + 2) * ageing + 1):
        submit(state, f"h{now}", now=now, owner="busy", priority=gap)
        [alive] = started(decide(state, Released(alive), now))
        if alive == "low":
            return
    raise AssertionError("it still waits")


def test_without_ageing_the_least_urgent_waits_as_long_as_others_come() -> None:
    state = machine(1, ageing=0.0)
    submit(state, "h0", owner="busy", priority=1)
    submit(state, "low", owner="modest")
    for now in range(1, 500):
        submit(state, f"h{now}", now=now, owner="busy", priority=1)
        assert happen(state, Released(f"h{now - 1}"), now) == [f"start h{now}"]


# Cases by name, as transcripts


def machine(cpus: int = 4, memory: int = 100, gpus: tuple[int, ...] = (), **others: Any) -> State:
    """Return an empty machine; ``gpus`` by their memory are called g0, g1, …"""
    return State(room_for(cpus, memory, gpus, **others))


def room_for(
    cpus: int = 4,
    memory: int = 100,
    gpus: tuple[int, ...] = (),
    *,
    sessions: int = 1000,
    subnets: int = 1000,
    ports: int = 1000,
    **others: Any,
) -> Settings:
    capacity = Vector(cpus, memory, len(gpus), sessions, subnets, ports)
    devices = tuple(Gpu(each, f"g{n}") for n, each in enumerate(gpus))
    return Settings(capacity, devices, **others)


def measured(cpus: int = UNLIMITED, memory: int = UNLIMITED) -> Measured:
    return Measured(Vector(cpus, memory, UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED))


def ask_for(name: str, cpus: int = 1, memory: int = 0, **others: Any) -> Ask:
    gpus = len(others.get("gpus", ()))
    return Ask(name, need=one(cpus, memory, gpus), **others)


def submit(
    state: State, name: str, cpus: int = 1, memory: int = 0, now: float = 0, **others: Any
) -> list[str]:
    return happen(state, Submitted(ask_for(name, cpus, memory, **others)), now)


def happen(state: State, event: Event, now: float = 0) -> list[str]:
    return [said(action) for action in decide(state, event, now)]


def said(action: Action) -> str:
    words = [type(action).__name__.lower(), action.session_id]
    if isinstance(action, Refuse):
        words.append(action.type)
    elif isinstance(action, Start | Attach):
        words += action.gpus
    if isinstance(action, Start) and action.degraded:
        words.append("plain")
    return " ".join(words)


def started(actions: list[Action]) -> list[str]:
    return [action.session_id for action in actions if isinstance(action, Start)]


def why_refused(state: State, name: str, now: float = 0, **others: Any) -> Why:
    """Return why ``name``, which would rather not wait, is not started."""
    ask = ask_for(name, on_shortage="refuse", **others)
    [action] = decide(state, Submitted(ask), now)
    assert isinstance(action, Refuse)
    assert action.type == "no_capacity"
    return action.why


def why_waiting(state: State, name: str, now: float = 0) -> Why:
    waiting = state.queue.get(name)
    assert waiting is not None
    return explain(state, waiting, now)


# Degrading

HALF: dict[str, Any] = {"on_shortage": "degrade", "plain": one(1)}


def test_degraded_starts_plain_and_is_attached_when_there_is_room() -> None:
    state = machine(4)
    submit(state, "a", 3)
    assert submit(state, "d", 3, **HALF) == ["start d plain"]
    assert state.room.used.cpus == 4
    assert (state.length, standings(state, 0)) == (0, {}), "nobody waits to be started"
    assert happen(state, Released("a"), 1) == ["attach d"]
    assert state.room.used == one(3)
    assert happen(state, Released("d"), 2) == []
    assert_empty(state, room_for(4))


def test_whoever_may_be_degraded_gets_the_whole_where_there_is_room() -> None:
    state = machine(4, gpus=(8,))
    assert submit(state, "d", 3, gpus=(8,), **HALF) == ["start d g0"]
    assert submit(state, "e", 1, gpus=(8,), **HALF) == ["start e plain"]
    assert happen(state, Released("d"), 1) == ["attach e g0"]


def test_a_degraded_one_queues_when_there_is_no_room_even_for_the_plain() -> None:
    state = machine(4)
    submit(state, "a", 4)
    assert submit(state, "d", 3, **HALF) == ["enqueue d"]
    assert submit(state, "e", 3, **HALF) == ["enqueue e"]
    assert happen(state, Released("a"), 1) == ["start d", "start e plain"]


def test_detaching_gives_back_what_was_attached_and_no_more() -> None:
    state = machine(4, gpus=(8,))
    submit(state, "a", 3, gpus=(8,))
    submit(state, "d", 3, gpus=(8,), **HALF)
    assert happen(state, Released("a"), 1) == ["attach d g0"]
    assert submit(state, "b", 3, gpus=(8,), now=1) == ["enqueue b"]
    assert happen(state, Detached("d"), 2) == ["start b g0"]
    assert state.room.holdings["d"].need == one(1)
    assert happen(state, Detached("d"), 3) == [], "there is nothing more to give back"
    assert state.room.used == Vector(4, 0, 1, 2)


def test_a_session_that_was_given_everything_at_once_cannot_be_detached() -> None:
    state = machine(4)
    assert submit(state, "d", 3, **HALF) == ["start d"]
    assert happen(state, Detached("d")) == []
    assert state.room.used == one(3)


def test_released_while_it_waits_to_be_attached_leaves_nothing() -> None:
    state = machine(4)
    submit(state, "a", 3)
    submit(state, "d", 3, **HALF)
    assert happen(state, Released("d"), 1) == []
    assert happen(state, Released("a"), 2) == []
    assert_empty(state, room_for(4))


def test_withdrawn_while_it_waits_to_be_attached_lives_on_plain() -> None:
    state = machine(4)
    submit(state, "a", 3)
    submit(state, "d", 3, **HALF)
    assert happen(state, Withdrawn("d"), 1) == []
    assert happen(state, Released("a"), 2) == []
    assert state.room.used == one(1)


def test_a_detached_device_that_the_machine_no_longer_has_is_not_handed_out() -> None:
    state = machine(4, gpus=(8,))
    submit(state, "a", 3, gpus=(8,))
    submit(state, "d", 3, gpus=(8,), **HALF)
    assert happen(state, Released("a"), 1) == ["attach d g0"]
    happen(state, Changed(room_for(4), False), 2)
    assert happen(state, Detached("d"), 3) == []
    assert state.room.idle_gpus() == []


def test_what_it_has_itself_does_not_become_free_for_the_rest_of_it() -> None:
    """Else all would wait for the rest of a session, which only its own end would make room for."""
    state = machine(4)
    submit(state, "a", 2)
    assert submit(state, "d", 4, on_shortage="degrade", plain=one(2)) == ["start d plain"]
    happen(state, Changed(room_for(3), False), 1)
    assert happen(state, Released("a"), 2) == []
    for number in range(2 * PASSES):
        assert submit(state, f"s{number}", now=3) == [f"start s{number}"]
        happen(state, Released(f"s{number}"), 3)


def test_its_own_end_is_not_what_the_rest_of_it_waits_for() -> None:
    state = machine(4)
    submit(state, "a", 2, seconds=20.0)
    degraded = submit(state, "d", 3, on_shortage="degrade", plain=one(1), seconds=10.0)
    assert degraded == ["start d plain"]
    assert submit(state, "b", 1, seconds=16.0) == ["start b"], "d waits for a, not for itself"


def test_whoever_passes_takes_only_the_part_that_delays_nobody() -> None:
    state = machine(4)
    submit(state, "a", 2, seconds=20.0)
    submit(state, "large", 3)
    assert submit(state, "d", 2, seconds=100.0, **HALF) == ["start d plain"]


def test_a_smaller_machine_refuses_nothing_to_whoever_runs_already() -> None:
    state = machine(4)
    submit(state, "a", 3)
    submit(state, "d", 4, **HALF)
    assert happen(state, Changed(room_for(2), False)) == []
    assert happen(state, Released("a"), 1) == []
    assert happen(state, Changed(room_for(4), False), 2) == ["attach d"]


# What never fits


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_what_exceeds_a_dimension_never_fits(dimension: Dimension) -> None:
    state = State(Settings(Vector(3, 3, 3, 3, 3, 3), tuple(Gpu(8, f"g{n}") for n in range(3))))
    need = Vector(sessions=1)._replace(**{dimension: 4})
    ask = Ask("x", need=need, gpus=(1,) * need.gpus, on_shortage="degrade", plain=one(1))
    [action] = decide(state, Submitted(ask), 0)
    assert isinstance(action, Refuse)
    scale = 1000 if dimension == "cpus" else 1
    why = action.why
    assert action.type == "never_fits"
    assert (why.dimension, why.needed, why.free) == (dimension, 4 / scale, 3 / scale)
    assert (why.capacity, why.held_by, why.next_release) == (3 / scale, (), None)


def test_a_device_larger_than_any_never_fits() -> None:
    state = machine(gpus=(8 * 2**30, 16 * 2**30))
    [action] = decide(state, Submitted(ask_for("x", gpus=(17 * 2**30,))), 0)
    assert isinstance(action, Refuse)
    assert (action.type, action.why.dimension) == ("never_fits", "gpus")
    assert "17.0 GiB" in action.why.text
    assert "16.0 GiB" in action.why.text


def test_two_devices_of_which_only_one_is_large_enough_never_fit() -> None:
    state = machine(gpus=(8, 16))
    assert submit(state, "x", gpus=(16, 16)) == ["refuse x never_fits"]
    assert submit(state, "y", gpus=(8, 16)) == ["start y g0 g1"]


def test_never_is_said_before_the_deadline_and_even_to_whoever_would_wait() -> None:
    state = machine(1)
    submit(state, "a")
    assert submit(state, "x", 2, latest=0.0) == ["refuse x never_fits"]


def test_what_takes_nothing_of_an_overdrawn_dimension_starts() -> None:
    state = machine(2, memory=4)
    submit(state, "a", 2, 1)
    happen(state, Changed(room_for(1, memory=4), False))
    assert submit(state, "b", 0, 1) == ["start b"]


# Refusals and reasons


def test_a_passed_deadline_is_refused_at_once_and_in_the_queue() -> None:
    state = machine(1)
    submit(state, "a")
    assert submit(state, "b", latest=5.0, now=5.0) == ["refuse b deadline_exceeded"]
    assert submit(state, "c", latest=7.0, now=5.0) == ["enqueue c"]
    assert next_deadline(state) == 7.0
    assert happen(state, Tick(), 6.9) == []
    assert happen(state, Released("a"), 7.0) == ["refuse c deadline_exceeded"]
    assert next_deadline(state) is None


def test_a_deadline_is_forgotten_when_it_was_kept() -> None:
    state = machine(1)
    submit(state, "a")
    submit(state, "b", latest=7.0)
    assert happen(state, Released("a"), 1) == ["start b"]
    assert next_deadline(state) is None
    assert happen(state, Tick(), 8.0) == []


def test_deadlines_of_those_who_left_do_not_pile_up() -> None:
    state = machine(1)
    submit(state, "a")
    submit(state, "first", latest=1.0)
    for number in range(1000):
        submit(state, f"s{number}", latest=9.0)
        happen(state, Withdrawn(f"s{number}"))
    assert len(state.late) < 100
    assert next_deadline(state) == 1.0


def test_a_full_queue_is_said_with_the_reason_for_waiting() -> None:
    state = machine(1, queue=1)
    submit(state, "a")
    assert submit(state, "b") == ["enqueue b"]
    [action] = decide(state, Submitted(ask_for("c", priority=10)), 0)
    assert isinstance(action, Refuse)
    assert (action.type, action.why.dimension) == ("queue_full", "cpus")
    assert happen(state, Released("a"), 1) == ["start b"]
    assert submit(state, "d", now=1) == ["enqueue d"]


def test_no_queue_at_all_still_starts_what_fits() -> None:
    state = machine(1, queue=0)
    assert submit(state, "a") == ["start a"]
    assert submit(state, "b") == ["refuse b queue_full"]


def test_those_who_wait_to_be_attached_take_no_place_in_the_queue() -> None:
    state = machine(4, queue=1)
    submit(state, "a", 3)
    submit(state, "d", 3, **HALF)
    assert submit(state, "b") == ["enqueue b"]
    assert submit(state, "c") == ["refuse c queue_full"]


def test_a_refusal_names_the_dimension_in_numbers_and_who_holds_it() -> None:
    state = machine(8000, memory=2**30)
    submit(state, "little", 1000, seconds=50.0)
    submit(state, "much", 4000)
    submit(state, "some", 2000, seconds=30.0)
    submit(state, "none", 0, 2**20, seconds=10.0)
    why = why_refused(state, "x", cpus=3000)
    assert (why.dimension, why.needed, why.free, why.capacity) == ("cpus", 3.0, 1.0, 8.0)
    assert why.held_by == ("much", "some", "little")
    assert why.next_release == 30.0, "of those who have any"
    assert "it needs 3 cores" in why.text
    assert why.ahead is None


def test_the_scarcest_dimension_is_named() -> None:
    state = machine(8, memory=8)
    submit(state, "a", 7, 6)
    assert why_refused(state, "x", cpus=4, memory=4).dimension == "cpus"
    assert why_refused(state, "y", cpus=2, memory=8).dimension == "memory"


def test_a_lack_of_places_says_how_many_live() -> None:
    state = machine(sessions=2)
    submit(state, "a")
    submit(state, "b")
    why = why_refused(state, "c")
    assert (why.dimension, why.needed, why.free, why.capacity) == ("sessions", 1, 0, 2)
    assert "2 of 2 sessions live" in why.text


def test_a_lack_of_large_devices_names_their_memory() -> None:
    state = machine(gpus=(8 * 2**30, 16 * 2**30))
    submit(state, "a", gpus=(10 * 2**30,), seconds=9.0)
    why = why_refused(state, "b", gpus=(10 * 2**30,))
    assert (why.dimension, why.needed, why.free, why.capacity) == ("gpus", 1, 1, 2)
    assert (why.held_by, why.next_release) == (("a",), 9.0)
    assert "10.0 GiB" in why.text
    assert "8192 MiB" in why.text


def test_whoever_is_behind_the_head_is_told_whom_it_waits_for() -> None:
    state = machine(4)
    submit(state, "a", 3, seconds=60.0)
    assert submit(state, "large", 4) == ["enqueue large"]
    assert submit(state, "small", 1, seconds=600.0) == ["enqueue small"]
    why = why_waiting(state, "small")
    assert (why.dimension, why.ahead, why.next_release) == ("queue", "large", 60.0)
    assert "large" in why.text


def test_pressure_stops_starts_and_is_the_reason() -> None:
    state = machine(4)
    assert happen(state, Measured(None, "memory", "short of memory")) == []
    assert submit(state, "a", memory=1) == ["enqueue a"]
    why = why_waiting(state, "a")
    assert (why.dimension, why.text) == ("memory", "short of memory")
    happen(state, Measured(None, "cpu", "busy"))
    assert (why_waiting(state, "a").dimension, why_waiting(state, "a").text) == ("cpus", "busy")
    happen(state, Measured(None, "disk", "disk full"))
    assert (why_waiting(state, "a").dimension, why_waiting(state, "a").text) == (
        "disk",
        "disk full",
    )
    assert standings(state, 0)["a"].start is None, "nobody can tell"
    assert happen(state, Measured(None), 1) == ["start a"]


def test_draining_refuses_the_new_and_keeps_the_queue() -> None:
    state = machine(1)
    submit(state, "a")
    submit(state, "b")
    assert happen(state, Changed(room_for(1), True)) == []
    assert submit(state, "c") == ["refuse c draining"]
    assert happen(state, Released("a"), 1) == []
    assert why_waiting(state, "b").dimension == "draining"
    assert happen(state, Changed(room_for(1), False), 2) == ["start b"]


# Owners


def test_an_owner_at_its_cap_waits_while_others_pass() -> None:
    state = machine(9, per_owner=2)
    for name in ("a1", "a2"):
        submit(state, name, owner="a", seconds=30.0)
    assert submit(state, "a3", owner="a") == ["enqueue a3"]
    assert submit(state, "b1", owner="b") == ["start b1"]
    why = why_waiting(state, "a3")
    assert (why.dimension, why.needed, why.free, why.capacity) == ("sessions_per_owner", 1, 0, 2)
    assert (why.held_by, why.next_release) == (("a1", "a2"), 30.0)
    assert standings(state, 0)["a3"].start is None, "no room would help it"
    assert happen(state, Released("a1"), 1) == ["start a3"]


def test_attaching_is_no_further_session() -> None:
    state = machine(4, per_owner=1)
    submit(state, "x", 3, owner="b")
    assert submit(state, "d", 3, owner="a", **HALF) == ["start d plain"]
    assert happen(state, Released("x"), 1) == ["attach d"]


def test_a_start_that_makes_another_first_starts_that_too() -> None:
    state = machine(4, backfill=False)
    submit(state, "z", 2, owner="z")
    assert submit(state, "a1", 3, owner="a") == ["enqueue a1"]
    assert submit(state, "b1", 1, owner="b") == ["enqueue b1"]
    assert submit(state, "a2", 1, owner="a", priority=1) == ["start a2", "start b1"]


def test_a_newcomer_that_puts_another_first_starts_that_one() -> None:
    """The least share stands for its priority, so a young one may stand before an aged one."""
    state = machine(6, ageing=5.0, backfill=False)
    submit(state, "a1", 1, owner="a")
    submit(state, "b1", 2, owner="b")
    assert submit(state, "b2", 4, owner="b", priority=1) == ["enqueue b2"]
    assert submit(state, "a2", 1, owner="a") == ["enqueue a2"]
    assert happen(state, Tick(), 5) == []
    answer = submit(state, "a3", 1, owner="a", priority=1, now=5)
    assert answer == ["enqueue a3", "start a2"]


# Backfilling


def test_a_short_one_passes_a_blocked_large_one() -> None:
    state = machine(4)
    submit(state, "a", 3, seconds=60.0)
    submit(state, "large", 4)
    assert submit(state, "short", 1, seconds=30.0) == ["start short"]
    assert submit(state, "long", 1, seconds=100.0) == ["enqueue long"]


def test_a_long_one_passes_if_it_takes_only_what_will_be_left_over() -> None:
    state = machine(4)
    submit(state, "a", 3, seconds=60.0)
    submit(state, "large", 3)
    assert submit(state, "long", 1, seconds=1000.0) == ["start long"]


def test_a_device_that_is_expected_back_counts_for_the_reservation() -> None:
    state = machine(4, gpus=(8,))
    submit(state, "a", 1, gpus=(8,), seconds=20.0)
    submit(state, "large", 4, gpus=(8,))
    assert submit(state, "long", seconds=100.0) == ["enqueue long"]
    assert submit(state, "short", seconds=10.0) == ["start short"]


def test_a_device_that_will_be_left_over_only_by_number_lets_nobody_past() -> None:
    """Of three, two are large; the small one is over, but not enough for whoever would pass."""
    state = machine(9, gpus=(4, 8, 8))
    submit(state, "a", gpus=(8,), seconds=20.0)
    assert submit(state, "two", gpus=(8, 8)) == ["enqueue two"]
    assert submit(state, "long", gpus=(5,), seconds=100.0) == ["enqueue long"]
    assert happen(state, Released("a"), 20) == ["start two g1 g2"]


def test_nobody_passes_when_backfilling_is_off() -> None:
    state = machine(4, backfill=False)
    submit(state, "a", 3, seconds=60.0)
    submit(state, "large", 4)
    assert submit(state, "short", 1, seconds=1.0) == ["enqueue short"]


def test_only_so_many_pass_whoever_waits_for_an_unknown_end() -> None:
    state = machine(4)
    submit(state, "a", 3)
    submit(state, "large", 4)
    for number in range(PASSES):
        assert submit(state, f"s{number}") == [f"start s{number}"]
        assert happen(state, Released(f"s{number}")) == []
    assert submit(state, "last") == ["enqueue last"]
    assert happen(state, Released("a"), 1) == ["start large"]


def test_everybody_passes_whom_even_an_empty_daemon_would_have_no_room_for() -> None:
    state = machine(4)
    happen(state, measured(cpus=3))
    assert submit(state, "large", 4) == ["enqueue large"]
    for number in range(2 * PASSES):
        assert submit(state, f"s{number}") == [f"start s{number}"]
        happen(state, Released(f"s{number}"))
    assert happen(state, measured(cpus=4), 1) == ["start large"]


def test_of_two_that_end_together_the_first_to_go_lets_nobody_past() -> None:
    state = machine(4)
    submit(state, "a", 2, seconds=10.0)
    submit(state, "b", 2, seconds=10.0)
    submit(state, "large", 4)
    submit(state, "long", 2, seconds=500.0)
    assert happen(state, Released("a"), 10) == []
    assert happen(state, Released("b"), 10) == ["start large"]


def test_a_session_a_little_overdue_is_still_expected() -> None:
    state = machine(4)
    submit(state, "z", 1, seconds=1000.0)
    submit(state, "a", 1, seconds=10.0)
    submit(state, "b", 2, seconds=10.0)
    submit(state, "large", 3)
    submit(state, "long", 1, seconds=900.0)
    assert happen(state, Released("a"), 10.2) == []
    assert happen(state, Released("b"), 10.4) == ["start large"]


def test_when_a_session_is_long_overdue_is_anybodys_guess() -> None:
    state = machine(4)
    submit(state, "a", 3, seconds=10.0)
    submit(state, "large", 4)
    submit(state, "small", 1)
    assert happen(state, Tick(), 10 + LATE) == []
    assert happen(state, Tick(), 10.1 + LATE) == ["start small"]


def test_whoever_came_before_is_let_past_first_when_time_opens_the_way() -> None:
    state = machine(4)
    submit(state, "a", 3, seconds=10.0)
    submit(state, "large", 4)
    assert submit(state, "old", 1) == ["enqueue old"]
    assert submit(state, "new", 1, now=11 + LATE) == ["enqueue new", "start old"]


# Measurements


def test_measured_free_counts_when_it_is_smaller_than_the_books() -> None:
    state = machine(4, memory=100)
    happen(state, measured(memory=30))
    assert submit(state, "a", memory=40) == ["enqueue a"]
    why = why_waiting(state, "a")
    assert (why.dimension, why.needed, why.free, why.capacity) == ("memory", 40, 30, 100)
    assert "measured" in why.text
    assert happen(state, measured(memory=40), 1) == ["start a"]


def test_a_larger_measurement_lends_nothing_beyond_the_books() -> None:
    state = machine(4, memory=100)
    submit(state, "a", memory=80)
    happen(state, measured(memory=1000))
    assert submit(state, "b", memory=30) == ["enqueue b"]


def test_a_hold_lasts_until_a_measurement_can_have_seen_the_use() -> None:
    """Else two starts in a row are both admitted for the same free memory: livekit/egress#1205."""
    state = machine(9, memory=1000)
    happen(state, measured(memory=100))
    assert submit(state, "a", memory=80) == ["start a"]
    for now in (1, 20, 60):  # it starts, slowly, and uses nothing yet
        happen(state, measured(memory=100), now)
        assert state.room.free.memory == 20
    happen(state, Running("a", None), 60)
    happen(state, measured(memory=95), 60 + SETTLES - 0.1)
    assert state.room.free.memory == 15
    assert submit(state, "b", memory=20, now=63) == ["enqueue b"]
    happen(state, measured(memory=18), 60 + SETTLES)
    assert state.room.free.memory == 18, "what it uses has been measured"
    assert happen(state, measured(memory=20), 64) == ["start b"]


def test_a_hold_ends_with_its_session() -> None:
    state = machine(9, memory=1000)
    happen(state, measured(memory=100))
    submit(state, "a", memory=80)
    happen(state, Released("a"), 1)
    assert state.room.free.memory == 100


def test_what_was_attached_is_held_anew() -> None:
    state = machine(9, memory=1000)
    submit(state, "x", memory=950)
    assert submit(state, "d", 1, 90, **HALF) == ["start d plain"]
    happen(state, Running("d", None), 0)
    happen(state, measured(memory=40), SETTLES)
    assert happen(state, Released("x"), 4) == []
    assert happen(state, measured(memory=990), 5) == ["attach d"]
    happen(state, measured(memory=990), 60)
    assert state.room.free.memory == 900


def test_what_was_attached_is_held_until_it_is_there_and_a_measurement_can_have_seen_it() -> None:
    state = machine(9, memory=1000)
    submit(state, "x", memory=950)
    submit(state, "d", 1, 90, **HALF)
    happen(state, Released("x"), 1)
    happen(state, Running("d", None), 2)  # it is extended, for one; the stage is not there for that
    happen(state, measured(memory=990), 60)
    assert state.room.free.memory == 900
    assert happen(state, Attached("d"), 60) == []
    happen(state, measured(memory=910), 60 + SETTLES - 0.1)
    assert state.room.free.memory == 820
    happen(state, measured(memory=910), 60 + SETTLES)
    assert state.room.free.memory == 910


def test_what_was_given_back_counts_for_the_head_before_it_is_measured() -> None:
    """Else the head would seem to have no room ever, and all might pass it."""
    state = machine(4)
    happen(state, measured(cpus=4))
    submit(state, "a", 1, seconds=10.0)
    submit(state, "b", 2, seconds=100.0)
    for name, end in (("a", 10.0), ("b", 100.0)):
        happen(state, Running(name, end))
    happen(state, measured(cpus=1), 5)
    submit(state, "large", 4, now=5)
    assert submit(state, "long", 1, seconds=500.0, now=5) == ["enqueue long"]
    assert happen(state, Released("a"), 10) == []
    assert happen(state, measured(cpus=2), 11) == []


# Changes


def test_a_smaller_machine_refuses_what_never_fits_and_takes_nothing_from_who_lives() -> None:
    state = machine(4)
    submit(state, "a", 4)
    submit(state, "b", 3)
    submit(state, "c", 2)
    assert happen(state, Changed(room_for(2), False)) == ["refuse b never_fits"]
    assert state.room.used == one(4)
    assert state.room.free.cpus == -2
    assert why_waiting(state, "c").free == 0
    assert happen(state, Released("a"), 1) == ["start c"]


def test_a_larger_machine_starts_who_waits() -> None:
    state = machine(1)
    submit(state, "a")
    submit(state, "b")
    submit(state, "c")
    assert happen(state, Changed(room_for(2), False)) == ["start b"]


# Devices


def test_the_smallest_sufficient_device_is_given() -> None:
    state = machine(9, gpus=(16, 4, 8))
    assert submit(state, "a", gpus=(5,)) == ["start a g2"]
    assert submit(state, "b", gpus=(5,)) == ["start b g0"]
    assert submit(state, "c", gpus=(5,)) == ["enqueue c"]
    assert submit(state, "d", gpus=(1,), seconds=1.0) == ["start d g1"]
    assert happen(state, Released("a"), 1) == ["start c g2"]


def test_devices_come_in_the_order_in_which_they_were_asked_for() -> None:
    state = machine(gpus=(4, 8, 16))
    assert submit(state, "a", gpus=(1, 16, 5)) == ["start a g0 g2 g1"]


def test_a_device_whose_memory_is_reported_otherwise_comes_back() -> None:
    state = machine(gpus=(8,))
    submit(state, "a", gpus=(8,))
    happen(state, Changed(room_for(gpus=(9,)), False), 1)
    assert submit(state, "b", gpus=(8,), now=1) == ["enqueue b"]
    assert happen(state, Released("a"), 2) == ["start b g0"]


# Previews


def test_a_preview_tells_the_devices_and_whether_it_would_be_degraded() -> None:
    state = machine(4, gpus=(8,))
    assert said(preview(state, ask_for("x", gpus=(4,)), 0).action) == "start x g0"
    submit(state, "a", 3)
    assert said(preview(state, ask_for("x", 3, **HALF), 0).action) == "start x plain"


def test_a_preview_of_waiting_tells_the_place_the_moment_and_the_reason() -> None:
    state = machine(4)
    submit(state, "a", 4, seconds=60.0)
    submit(state, "b", 4, seconds=30.0)
    answer = preview(state, ask_for("x", 4), 0)
    assert answer.action == Enqueue("x")
    assert answer.standing == Standing(2, 90.0)
    assert answer.why is not None
    assert (answer.why.dimension, answer.why.held_by) == ("cpus", ("a",))
    assert state.length == 1


# An earlier life of the daemon


def test_who_has_lived_before_has_its_room() -> None:
    state = machine(4)
    assert happen(state, Restored("a", "anna", one(3))) == []
    assert submit(state, "b", 2) == ["enqueue b"]
    assert submit(state, "c", 1) == ["start c"]
    assert happen(state, Released("a"), 1) == ["start b"]


def test_more_who_have_lived_than_there_is_room_for_are_all_taken_on() -> None:
    state = machine(2)
    for name in "abc":
        happen(state, Restored(name, "anna", one(1)))
    assert submit(state, "d") == ["enqueue d"]
    assert happen(state, Released("a"), 1) == []
    assert happen(state, Released("b"), 2) == ["start d"]


def test_what_has_lived_before_is_in_every_measurement_already() -> None:
    state = machine(9, memory=1000)
    happen(state, Restored("a", "anna", one(1, memory=600)))
    happen(state, measured(memory=400))
    assert submit(state, "b", memory=400) == ["start b"]


def test_expected_end_of_one_who_has_lived_before_is_foreseen() -> None:
    state = machine(1)
    happen(state, Restored("a", "anna", one(1), end=50.0))
    submit(state, "b")
    assert standings(state, 0)["b"] == Standing(1, 50.0)


def test_devices_stay_with_who_has_lived_before() -> None:
    state = machine(gpus=(8, 8))
    happen(state, Restored("a", "anna", one(gpus=1), ("g0",)))
    assert submit(state, "b", gpus=(8,)) == ["start b g1"]
    assert submit(state, "c", gpus=(8,)) == ["enqueue c"]
    assert happen(state, Released("a"), 1) == ["start c g0"]


def test_devices_stay_with_who_has_lived_before_though_they_are_found_only_later() -> None:
    state = machine()
    happen(state, Restored("a", "anna", one(gpus=1), ("g0",), end=50.0))
    happen(state, Changed(room_for(gpus=(8, 4)), False))
    assert submit(state, "b", gpus=(1,)) == ["start b g1"]
    assert submit(state, "c", gpus=(8,)) == ["enqueue c"]
    assert standings(state, 0)["c"] == Standing(1, 50.0), "what it has is known by now"
    assert happen(state, Released("a"), 1) == ["start c g0"]


def test_degraded_one_that_has_lived_before_gets_the_rest_when_there_is_room() -> None:
    state = machine(4, gpus=(8,))
    submit(state, "x", 3)
    rest = Shape(Vector(2, gpus=1), (8,))
    assert happen(state, Restored("d", "anna", one(1), lacks=rest)) == []
    assert happen(state, Tick()) == []
    assert happen(state, Released("x"), 1) == ["attach d g0"]
    assert state.room.used == Vector(3, gpus=1, sessions=1)
    assert happen(state, Detached("d"), 2) == []
    assert state.room.used == one(1)


def test_degraded_one_that_has_lived_before_waits_by_its_priority() -> None:
    state = machine(4)
    submit(state, "x", 4)
    submit(state, "b", 3)
    happen(state, Restored("d", "anna", one(0), lacks=Shape(Vector(3)), priority=1))
    assert happen(state, Released("x"), 1) == ["attach d"]


def test_what_had_been_attached_before_goes_back_alone() -> None:
    state = machine(4, gpus=(8,))
    event = Restored("d", "anna", one(3, gpus=1), ("g0",), extra=Vector(2, gpus=1))
    happen(state, event)
    assert submit(state, "b", 2, gpus=(8,)) == ["enqueue b"]
    assert happen(state, Detached("d"), 1) == ["start b g0"]
    assert state.room.used == Vector(3, gpus=1, sessions=2)


def test_who_has_lived_before_counts_for_its_owner() -> None:
    state = machine(4, per_owner=1)
    happen(state, Restored("a", "anna", one(1)))
    assert submit(state, "b", owner="anna") == ["enqueue b"]
    assert submit(state, "c", owner="ben") == ["start c"]


def test_request_that_has_waited_before_goes_before_a_more_urgent_one() -> None:
    state = machine(1, ageing=60.0)
    submit(state, "x")
    submit(state, "urgent", priority=1)
    submit(state, "patient", waited=180.0)
    assert happen(state, Released("x"), 1) == ["start patient"]
