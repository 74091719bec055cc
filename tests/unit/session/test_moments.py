# SPDX-License-Identifier: MIT
"""How long ago something was, by clocks that contradict each other."""

from __future__ import annotations

import pytest
from daemon_lab import StillClock

from operatord.session.moments import LONGEST, SET, Written, passed_since

UP = 1000.0
"""Seconds that the machine of a `StillClock` has been up."""
HOUR = 3600.0


def passed(written_up: float, by_day: float, boot: str = "the first boot") -> tuple[float, bool]:
    """Return how long ago a moment was, and whether that is in doubt.

    Written down when the machine was ``written_up`` seconds up, ``by_day`` seconds ago by the time of day.
    """
    clock = StillClock()
    result = passed_since(Written(boot, written_up, clock.wall() - by_day, {}), clock)
    return result.seconds, result.doubt is not None


def test_within_one_boot_the_monotonic_clock_counts_whatever_time_of_day_it_is() -> None:
    """F7"""
    assert passed(UP - 300, 300) == (300, False)
    assert passed(UP - 300, 300 + SET) == (300, False)
    for by_day in (-20_000 * 86_400.0, 20_000 * 86_400.0, 300 - 2 * SET, 300 + 2 * SET):
        assert passed(UP - 300, by_day) == (300, True)


def test_a_clock_that_was_further_on_is_of_another_boot_whatever_its_name() -> None:
    """F7: a machine that was copied, or a container, may tell the same boot twice."""
    assert passed(UP + 50_000, HOUR) == (HOUR, False)


def test_after_another_boot_at_least_so_long_has_passed_as_the_machine_is_up() -> None:
    """F7: by the time of day it may seem to be a little less, which is how well clocks are set."""
    assert passed(5.0, UP - SET / 2, "another boot") == (UP, False)
    assert passed(5.0, HOUR, "another boot") == (HOUR, False)


@pytest.mark.parametrize("by_day", [-20_000 * 86_400.0, 0.0, UP - 2 * SET, LONGEST + 1])
def test_after_another_boot_a_time_of_day_out_of_reason_gives_the_smaller_age(
    by_day: float,
) -> None:
    """F7"""
    assert passed(5.0, by_day, "another boot") == (UP, True)


def test_rows_that_know_no_boot_go_by_the_time_of_day_within_reason() -> None:
    """F7: those of older daemons."""
    assert passed(0.0, HOUR, "") == (HOUR, False)
    assert passed(0.0, LONGEST + 1, "") == (0, True)
    assert passed(0.0, -HOUR, "") == (0, True)
