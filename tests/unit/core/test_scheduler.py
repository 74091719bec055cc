# SPDX-License-Identifier: MIT
"""Admission: the laws that hold whatever happens, and the cases by name."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from operatord.core.scheduler import (
    Action,
    Ask,
    Changed,
    Enqueue,
    Event,
    Limits,
    Refuse,
    Released,
    Start,
    State,
    Submitted,
    Tick,
    Withdrawn,
    decide,
    next_deadline,
    positions,
    preview,
)


def started(actions: list[Action]) -> list[str]:
    return [action.session_id for action in actions if isinstance(action, Start)]


class Admission(RuleBasedStateMachine):
    """Events in any order; a model of plain lists says who lives, who waits and in which order."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.state = State(Limits(2, 3))
        self.twin = State(Limits(2, 3))
        self.now = 0.0
        self.serial = 0
        self.living: set[str] = set()
        self.waiting: dict[str, tuple[int, int, float | None]] = {}

    def happens(self, event: Event) -> list[Action]:
        actions = decide(self.state, event, self.now)
        assert decide(self.twin, event, self.now) == actions, "the same events, the same actions"
        for action in actions:
            if isinstance(action, Start):
                first = min(self.waiting.items(), key=lambda item: item[1][:2], default=None)
                if action.session_id in self.waiting:
                    assert first is not None
                    assert first[0] == action.session_id, "the queue is served from its head"
                    del self.waiting[action.session_id]
                self.living.add(action.session_id)
            elif isinstance(action, Refuse):
                self.waiting.pop(action.session_id, None)
        return actions

    @rule(
        target=sessions,
        priority=st.integers(-10, 10),
        shortage=st.sampled_from(["queue", "refuse", "degrade"]),
        wait=st.none() | st.integers(0, 5),
    )
    def submit(self, priority: int, shortage: Any, wait: int | None) -> str:
        self.serial += 1
        deadline = None if wait is None else self.now + wait
        ask = Ask(f"s{self.serial}", priority, shortage, deadline)
        before = copy.deepcopy(self.state)
        foreseen = preview(self.state, ask)
        assert self.state == before, "a preview changes nothing"
        [action] = self.happens(Submitted(ask))
        if wait == 0:
            assert isinstance(action, Refuse)
            assert action.type == "deadline_exceeded"
        else:
            assert action == foreseen
        if isinstance(action, Enqueue):
            self.waiting[ask.session_id] = (-priority, self.serial, deadline)
            assert positions(self.state)[ask.session_id] == action.position
            assert shortage != "refuse"
        return ask.session_id

    @rule(session=consumes(sessions))
    def release(self, session: str) -> None:
        if session in self.living:
            self.living.discard(session)
            self.happens(Released(session))

    @rule(session=consumes(sessions))
    def withdraw(self, session: str) -> None:
        if session in self.waiting:
            del self.waiting[session]
            self.happens(Withdrawn(session))

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        late = {s for s, (*_, end) in self.waiting.items() if end is not None and end <= self.now}
        actions = self.happens(Tick())
        assert {a.session_id for a in actions if isinstance(a, Refuse)} == late

    @rule(sessions=st.integers(1, 4), queue=st.integers(0, 4), draining=st.booleans())
    def change(self, sessions: int, queue: int, draining: bool) -> None:
        admitted = started(self.happens(Changed(Limits(sessions, queue), draining)))
        assert not (draining and admitted)

    @invariant()
    def state_is_as_modelled(self) -> None:
        assert set(self.state.living) == self.living
        in_order = sorted(self.waiting, key=lambda session: self.waiting[session][:2])
        assert list(positions(self.state)) == in_order
        assert list(positions(self.state).values()) == list(range(1, len(in_order) + 1))
        ends = [end for *_, end in self.waiting.values() if end is not None]
        assert next_deadline(self.state) == min(ends, default=None)

    @invariant()
    def whoever_can_start_has_started(self) -> None:
        if not self.state.draining:
            assert not self.waiting or len(self.living) >= self.state.limits.sessions

    def teardown(self) -> None:
        self.happens(Changed(Limits(2, 3), False))
        while self.living:
            assert len(self.living) <= 4
            self.release(next(iter(self.living)))
        assert not self.waiting, "every queued session starts in the end"
        assert self.state.living == {}


Admission.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAdmission = Admission.TestCase


def full() -> State:
    state = State(Limits(1, 1))
    assert decide(state, Submitted(Ask("a")), 0) == [Start("a")]
    return state


def test_never_more_than_the_limit_live() -> None:
    state = State(Limits(3, 100))
    actions = [decide(state, Submitted(Ask(f"s{n}")), 0)[0] for n in range(50)]
    assert sum(isinstance(action, Start) for action in actions) == 3
    for n in range(50):
        decide(state, Released(f"s{n}"), 0)
        assert len(state.living) <= 3
    assert (state.living, state.queue) == ({}, [])


def test_refusal_says_the_dimension_in_numbers() -> None:
    [action] = decide(full(), Submitted(Ask("b", on_shortage="refuse")), 0)
    assert isinstance(action, Refuse)
    assert action.type == "no_capacity"
    why = action.why
    assert (why.dimension, why.needed, why.free, why.capacity) == ("sessions", 1, 0, 1)
    assert why.held_by == ("a",)
    assert "1 of 1" in why.text


def test_full_queue_is_refused() -> None:
    state = full()
    assert isinstance(decide(state, Submitted(Ask("b")), 0)[0], Enqueue)
    [action] = decide(state, Submitted(Ask("c", priority=10)), 0)
    assert isinstance(action, Refuse)
    assert action.type == "queue_full"


def test_passed_deadline_is_never_started() -> None:
    state = full()
    decide(state, Submitted(Ask("b", deadline=5.0)), 0)
    [action] = decide(state, Released("a"), 5.0)
    assert isinstance(action, Refuse)
    assert action.type == "deadline_exceeded"
    assert state.living == {}


def test_lower_limits_end_nobody() -> None:
    state = State(Limits(2, 1))
    for name in "ab":
        decide(state, Submitted(Ask(name)), 0)
    assert decide(state, Changed(Limits(1, 1), False), 0) == []
    assert list(state.living) == ["a", "b"]
    decide(state, Submitted(Ask("c")), 0)
    assert decide(state, Released("a"), 0) == []
    assert decide(state, Released("b"), 0) == [Start("c")]


def test_unknown_sessions_change_nothing() -> None:
    state = full()
    before = copy.deepcopy(state)
    for event in (Released("x"), Withdrawn("x"), Tick()):
        assert decide(state, event, 0) == []
    assert state == before
