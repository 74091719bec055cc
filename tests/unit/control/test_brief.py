# SPDX-License-Identifier: MIT
"""Who waits is taken out by how long a visit is expected to take, or by who came first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operatord.control.wire.brief import BRIEF, BriefFirst


def waiting(*expected: float) -> BriefFirst[int]:
    """Return those who wait: their numbers, in the order in which they come."""
    found: BriefFirst[int] = BriefFirst()
    for number, seconds in enumerate(expected):
        found.add(number, seconds)
    return found


def test_the_briefest_comes_first() -> None:
    found = waiting(64 * BRIEF, BRIEF / 2, 4 * BRIEF, 1.0, 0.0)
    assert [found.briefest() for _ in range(5)] == [1, 4, 2, 0, 3]
    assert not found


def test_who_came_first_comes_first_whatever_it_takes() -> None:
    found = waiting(1.0, 0.0, BRIEF, 1.0)
    assert [found.oldest() for _ in range(4)] == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans())))
def test_nobody_is_lost_or_taken_twice(many: list[tuple[float, bool]]) -> None:
    found = waiting(*(seconds for seconds, _ in many))
    taken = [found.oldest() if oldest else found.briefest() for _, oldest in many]
    assert sorted(taken) == list(range(len(many)))
    assert len(found) == 0
