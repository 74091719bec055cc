# SPDX-License-Identifier: MIT
"""Standings: the place in the queue, and the moment that can be foreseen."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from operatord.core.resources import Vector
from operatord.core.scheduling.forecast import HORIZON, Standing, standings
from operatord.core.scheduling.ledger import Ask, Settings, State
from operatord.core.scheduling.scheduler import (
    Changed,
    Enqueue,
    Measured,
    Refuse,
    Released,
    Start,
    Submitted,
    decide,
)

CAPACITY = Vector(4, 100, 0, 1000, 1000, 1000)


def queued(*needs: tuple[str, int, float | None], **others: Any) -> State:
    """Submit one after the other at the moment 0, in the order of their coming."""
    state = State(Settings(CAPACITY, fair=False, backfill=False, **others))
    for name, cpus, seconds in needs:
        submit(state, name, cpus, seconds)
    return state


def submit(state: State, name: str, cpus: int = 1, seconds: float | None = None) -> None:
    decide(state, Submitted(Ask(name, need=Vector(cpus, sessions=1), seconds=seconds)), 0)


def foreseen(state: State, now: float = 0) -> dict[str, float | None]:
    return {name: standing.start for name, standing in standings(state, now).items()}


def test_nobody_stands_in_an_empty_queue() -> None:
    assert standings(queued(("a", 1, None)), 0) == {}


def test_each_waits_for_the_ends_of_those_before() -> None:
    state = queued(("a", 4, 10.0), ("b", 3, 20.0), ("c", 1, 5.0), ("d", 2, None))
    assert standings(state, 3.0) == {
        "b": Standing(1, 10.0),
        "c": Standing(2, 10.0),
        "d": Standing(3, 30.0),
    }


def test_behind_an_end_that_nobody_knows_there_is_no_moment() -> None:
    state = queued(("a", 4, 10.0), ("b", 4, None), ("c", 1, 5.0), ("d", 1, 5.0))
    assert foreseen(state) == {"b": 10.0, "c": None, "d": None}


def test_an_overdue_end_is_no_ground_for_an_estimate() -> None:
    state = queued(("a", 4, 10.0), ("b", 1, None))
    assert foreseen(state, 10.0) == {"b": 10.0}
    assert foreseen(state, 11.0) == {"b": None}


def test_under_pressure_and_while_draining_places_are_known_but_no_moments() -> None:
    state = queued(("a", 4, 10.0), ("b", 1, None))
    decide(state, Measured(None, "cpu", "busy"), 0)
    assert standings(state, 0) == {"b": Standing(1, None)}
    decide(state, Measured(None), 0)
    assert standings(state, 0) == {"b": Standing(1, 10.0)}
    decide(state, Changed(state.settings, True), 0)
    assert standings(state, 0) == {"b": Standing(1, None)}


def test_whoever_would_exceed_the_cap_of_its_owner_is_promised_nothing() -> None:
    state = queued(("a", 4, 10.0), ("b", 1, 5.0), ("c", 1, 5.0), per_owner=2)
    assert foreseen(state) == {"b": 10.0, "c": None}


def test_whoever_waits_to_be_attached_takes_room_but_no_place() -> None:
    state = queued(("a", 3, 10.0))
    shape = Vector(4, sessions=1)
    plain = Vector(1, sessions=1)
    ask = Ask("d", need=shape, on_shortage="degrade", plain=plain, seconds=30.0)
    assert decide(state, Submitted(ask), 0) == [Start("d", degraded=True)]
    submit(state, "b", 1)
    assert standings(state, 0) == {"b": Standing(1, 30.0)}


def test_far_back_there_is_a_place_but_no_moment() -> None:
    state = queued(("a", 4, 10.0))
    for number in range(HORIZON + 5):
        submit(state, f"s{number}", 1, 1.0)
    found = standings(state, 0)
    assert [each.position for each in found.values()] == list(range(1, HORIZON + 6))
    moments = [each.start for each in found.values()]
    assert moments[:6] == [10.0] * 4 + [11.0] * 2
    assert None not in moments[:HORIZON]
    assert moments[HORIZON:] == [None] * 5


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 30)), min_size=1, max_size=20),
    st.integers(0, 5),
)
@settings(max_examples=100)
def test_what_is_foreseen_comes_true_when_ends_are_exact(
    jobs: list[tuple[int, int]], now: int
) -> None:
    """Without backfilling and with nobody else coming."""
    state = State(Settings(CAPACITY, backfill=False))
    ends: list[tuple[float, str]] = []
    starts: dict[str, float] = {}
    for number, (cpus, seconds) in enumerate(jobs):
        ask = Ask(f"j{number}", need=Vector(cpus, sessions=1), seconds=seconds)
        [action] = decide(state, Submitted(ask), 0)
        assert not isinstance(action, Refuse)
        if not isinstance(action, Enqueue):
            ends.append((seconds, action.session_id))
    promised = foreseen(state)
    while ends:
        ends.sort()
        moment, name = ends.pop(0)
        for action in decide(state, Released(name), moment):
            starts[action.session_id] = moment
            seconds = jobs[int(action.session_id[1:])][1]
            ends.append((moment + seconds, action.session_id))
    assert starts == promised
