# SPDX-License-Identifier: MIT
"""Starts within a minute, by owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.control.start_rates import MINUTE, SWEPT, StartRates
from operatord_protocol.errors import TooManyRequests


@given(st.lists(st.floats(0, 90), max_size=40).map(sorted), st.integers(1, 5))
def test_no_minute_has_more_and_who_waits_as_told_is_let_in(
    moments: list[float], most: int
) -> None:
    rates = StartRates()
    taken: list[float] = []
    for now in moments:
        try:
            rates.take("a", most, now)
        except TooManyRequests as exc:
            assert sum(now - MINUTE < each <= now for each in taken) == most
            assert 0 < exc.data["retry_after"] <= MINUTE
        else:
            taken.append(now)
    assert all(sum(end - MINUTE < each <= end for each in taken) <= most for end in taken)


def test_who_has_asked_for_nothing_lately_is_forgotten() -> None:
    rates = StartRates()
    for number in range(3 * SWEPT):
        rates.take(str(number), 1, float(number))
    assert len(rates._moments) <= SWEPT + 1
    with pytest.raises(TooManyRequests):
        rates.take(str(3 * SWEPT - 1), 1, 3.0 * SWEPT)
