# SPDX-License-Identifier: MIT
"""How many requests are expected, from those that came of late."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.core.scheduling.arrivals import MOST, REMEMBERED, Arrivals

TIMES = st.lists(st.floats(0, 1000, allow_subnormal=False), max_size=200).map(sorted)
SECONDS = st.floats(0, 60)


def after(*times: float) -> Arrivals:
    arrivals = Arrivals()
    for time in times:
        arrivals.note(time)
    return arrivals


def test_nothing_is_expected_where_nobody_has_asked() -> None:
    assert after().expected(10, now=0) == 0


def test_one_who_asked_is_expected_once_more_until_forgotten() -> None:
    arrivals = after(100)
    assert arrivals.expected(0.5, now=100) == 1
    assert arrivals.expected(0.5, now=100 + REMEMBERED - 1) == 1
    assert arrivals.expected(0.5, now=100 + REMEMBERED) == 0
    assert arrivals.expected(0.5, now=100) == 0


def test_crowd_is_expected_again_at_first_and_less_of_it_as_time_goes_by() -> None:
    arrivals = after(*[100.0] * 8)
    assert [arrivals.expected(1, now=100 + later) for later in (0, 1, 2, 4, 60)] == [8, 8, 4, 2, 1]


@pytest.mark.parametrize(("interval", "seconds", "expected"), [(2, 1, 1), (1, 4, 5), (0.25, 1, 5)])
def test_even_rate_expects_rate_times_duration(
    interval: float, seconds: float, expected: int
) -> None:
    times = [interval * number for number in range(200)]
    assert after(*times).expected(seconds, now=times[-1]) == expected
    assert expected == math.ceil(MOST * seconds / ((MOST - 1) * interval))


@given(times=TIMES, seconds=SECONDS, later=st.floats(0, 2 * REMEMBERED))
def test_no_more_are_expected_than_have_come_of_late(
    times: list[float], seconds: float, later: float
) -> None:
    now = (times[-1] if times else 0.0) + later
    recent = [time for time in times[-MOST:] if now - time < REMEMBERED]
    expected = after(*times).expected(seconds, now)
    assert (expected > 0) == bool(recent)
    assert expected <= len(recent)


@given(times=TIMES, seconds=SECONDS, later=st.floats(0, REMEMBERED), more=st.floats(0, 60))
def test_more_are_expected_in_a_longer_time(
    times: list[float], seconds: float, later: float, more: float
) -> None:
    now = (times[-1] if times else 0.0) + later
    arrivals = after(*times)
    assert arrivals.expected(seconds, now) <= arrivals.expected(seconds + more, now)
