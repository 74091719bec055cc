# SPDX-License-Identifier: MIT
"""A slot that cannot be made is tried more and more seldom, and at once when something has changed."""

from __future__ import annotations

from operatord.lifecycle.slot_failures import FIRST_PAUSE, LONGEST_PAUSE, SlotFailures


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_grow_with_each_failure_and_end_with_a_success() -> None:
    """E4"""
    time = Time()
    failures = SlotFailures(time)
    assert failures.may_try("a")
    pauses = []
    for _ in range(9):
        failures.note("a", "refused")
        begun = time.now
        while not failures.may_try("a"):
            time.now += 5
        pauses.append(time.now - begun)
    assert pauses == [FIRST_PAUSE * 2**n for n in range(7)] + [LONGEST_PAUSE] * 2
    assert failures.may_try("b"), "another pipeline's have nothing to do with it"
    failures.forget("a")
    failures.note("a", "refused")
    time.now += FIRST_PAUSE
    assert failures.may_try("a")


def test_the_same_reason_is_no_news() -> None:
    """E4: one sentence, once."""
    failures = SlotFailures(Time())
    said = [failures.note("a", problem) for problem in ("x", "x", "y", "y")]
    assert said == [True, False, True, False]
    assert failures.note("b", "y")


def test_other_circumstances_are_a_reason_to_try_at_once() -> None:
    failures = SlotFailures(Time())
    failures.reconsider((1, "settings"))
    failures.note("a", "no image")
    failures.reconsider((1, "settings"))
    assert not failures.may_try("a")
    failures.reconsider((2, "settings"))
    assert failures.may_try("a")
