# SPDX-License-Identifier: MIT
"""Slots in the books of admission: taken when nobody wants the room, given up when somebody does."""

from __future__ import annotations

import pytest

from operatord.core.resources import NOTHING, Vector
from operatord.core.scheduling.ledger import Ask, Settings, State
from operatord.core.scheduling.scheduler import (
    Action,
    Changed,
    Claimed,
    Enqueue,
    Event,
    GiveUp,
    Measured,
    Refuse,
    Released,
    Reserved,
    Start,
    Submitted,
    decide,
)

SETTINGS = Settings(Vector(cpus=4, memory=100, sessions=2), queue=10)
SLOT = Vector(cpus=1, memory=10)
SESSION = SLOT._replace(sessions=1)


@pytest.fixture
def state() -> State:
    return State(SETTINGS)


def happens(state: State, event: Event, now: float = 0.0) -> list[Action]:
    return decide(state, event, now)


def ask(session_id: str, cpus: int = 1, **more: object) -> Ask:
    return Ask(session_id, need=Vector(cpus=cpus, memory=10, sessions=1), **more)  # type: ignore[arg-type]


def warm(state: State, *slots: str) -> None:
    for slot in slots:
        assert happens(state, Reserved(slot, SLOT)) == [Start(slot)]


def test_slot_takes_what_it_needs_and_no_place(state: State) -> None:
    warm(state, "s1")
    assert state.room.used == SLOT
    assert happens(state, Claimed(ask("s1"))) == [Start("s1")]
    assert state.room.used == SESSION
    assert happens(state, Released("s1")) == []
    assert (state.room.used, state.room.slots) == (NOTHING, {})


def test_slot_is_claimed_once(state: State) -> None:
    warm(state, "s1")
    assert happens(state, Claimed(ask("s1"))) == [Start("s1")]
    assert happens(state, Claimed(ask("s1"))) == []


def test_slot_is_not_made_where_somebody_waits_or_there_is_no_room(state: State) -> None:
    warm(state, "s1", "s2", "s3", "s4")
    assert happens(state, Reserved("s5", SLOT)) == []
    state = State(SETTINGS)
    happens(state, Submitted(ask("a", cpus=4)))
    assert happens(state, Submitted(ask("b"))) == [Enqueue("b")]
    happens(state, Changed(SETTINGS._replace(capacity=Vector(8, 100, sessions=1)), False))
    assert happens(state, Reserved("s1", SLOT)) == [], "though there are four cores now"


def test_slot_is_not_claimed_past_limits_drain_or_pressure(state: State) -> None:
    warm(state, "s1")
    for session_id in ("a", "b"):
        assert happens(state, Submitted(ask(session_id))) == [Start(session_id)]
    assert happens(state, Claimed(ask("s1"))) == [], "two places are all there are"
    happens(state, Released("a"))
    happens(state, Changed(SETTINGS, True))
    assert happens(state, Claimed(ask("s1"))) == []
    happens(state, Changed(SETTINGS._replace(per_owner=1), False))
    assert happens(state, Claimed(ask("s1"))) == [], "its owner has b"
    happens(state, Changed(SETTINGS, False))
    assert happens(state, Claimed(ask("s1"))) == [Start("s1")]


def test_oldest_slots_are_given_up_for_who_needs_the_room_and_no_more_than_that(
    state: State,
) -> None:
    warm(state, "s1", "s2", "s3")
    assert happens(state, Submitted(ask("a", cpus=3))) == [
        Enqueue("a"),
        GiveUp("s1"),
        GiveUp("s2"),
    ]
    assert happens(state, Claimed(ask("s3"))) == [], "a is before it"
    assert happens(state, Released("s1")) == []
    assert happens(state, Released("s2")) == [Start("a")]
    assert list(state.room.slots) == ["s3"]


def test_one_who_would_not_wait_waits_for_slots_only(state: State) -> None:
    warm(state, "s1", "s2", "s3", "s4")
    asked = ask("a", on_shortage="refuse")
    assert happens(state, Submitted(asked)) == [Enqueue("a"), GiveUp("s1")]
    [refused] = happens(state, Submitted(ask("b", cpus=4, on_shortage="refuse")))
    assert isinstance(refused, Refuse)
    assert refused.type == "no_capacity"


def test_slots_are_no_reason_for_a_refusal(state: State) -> None:
    warm(state, "s1")
    happens(state, Submitted(ask("a", cpus=3)))
    [refused] = happens(state, Submitted(ask("b", cpus=3, on_shortage="refuse")))
    assert isinstance(refused, Refuse)
    assert refused.why.held_by == ("a",), "nobody can stop a slot"


def test_pressure_costs_a_slot_at_each_look(state: State) -> None:
    warm(state, "s1", "s2")
    pressed = Measured(None, "memory", "short of memory")
    assert happens(state, pressed) == [GiveUp("s1")]
    assert happens(state, pressed) == [GiveUp("s2")]
    assert happens(state, pressed) == []
    assert happens(state, Reserved("s3", SLOT)) == [], "it would be the next to go"
    assert happens(state, Measured(None, "none", "")) == []
    assert happens(state, Claimed(ask("s1"))) == [], "it is being removed"


def test_engine_that_is_away_costs_none(state: State) -> None:
    warm(state, "s1")
    assert happens(state, Measured(None, "engine", "it does not answer")) == []
