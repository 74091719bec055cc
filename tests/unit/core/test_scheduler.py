# SPDX-License-Identifier: MIT
"""Admission: the laws that hold whatever happens, and the cases by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from operatord.core.forecast import standings
from operatord.core.ledger import Ask, OnShortage, Settings, State
from operatord.core.resources import DIMENSIONS, NOTHING, UNLIMITED, Vector
from operatord.core.room import SETTLES, Gpu
from operatord.core.scheduler import (
    Action,
    Attach,
    Changed,
    Detached,
    Enqueue,
    Event,
    Measured,
    Refuse,
    Released,
    Running,
    Start,
    Submitted,
    Tick,
    Withdrawn,
    decide,
    next_deadline,
    preview,
)

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
        life.running = self.now if life.running is None else life.running
        end = None if seconds is None else self.now + seconds
        assert self.happens(Running(session_id, end)) == []

    @precondition(lambda self: self.books.lives)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        session_id = self.one_who_lives(data)
        del self.books.lives[session_id]
        self.happens(Released(session_id))

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

    @rule(event=st.sampled_from([Released("x"), Detached("x"), Withdrawn("x"), Running("x", 3.0)]))
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
            assert self.state.queue.owner(owner).count == self.books.count(owner)

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


Admission.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAdmission = Admission.TestCase
