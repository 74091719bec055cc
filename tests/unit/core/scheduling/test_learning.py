# SPDX-License-Identifier: MIT
"""What is learned of stages: the laws, and the cases by name."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.core.scheduling.learning import (
    ENOUGH,
    STEADY_KEPT,
    STEPS,
    YOUNG_KEPT,
    Learned,
    Lesson,
    StageUse,
    Use,
    largest,
    p95,
)

MIB = 2**20
uses = st.builds(Use, st.integers(0, 64_000), st.integers(0, 2**40))
histories = st.lists(st.tuples(uses, st.booleans()), max_size=600)


def taught(*samples: tuple[Use, bool]) -> Learned:
    learned = Learned()
    for use, young in samples:
        learned.note("segmented", "probe", use, young)
    return learned


def lesson_of(learned: Learned) -> Lesson:
    lesson = learned.of("segmented", "probe")
    assert lesson is not None
    return lesson


@given(histories, uses)
def test_never_less_is_held_than_declared(history: list[tuple[Use, bool]], declared: Use) -> None:
    held = taught(*history).reservation_for("segmented", "probe", declared)
    assert held.cpus >= declared.cpus
    assert held.memory >= declared.memory


@given(histories.filter(lambda history: len(history) >= ENOUGH))
def test_what_is_held_covers_start_and_steady_use(history: list[tuple[Use, bool]]) -> None:
    learned = taught(*history)
    lesson = lesson_of(learned)
    held = learned.reservation_for("segmented", "probe", Use())
    seen = largest((lesson.start_peak, lesson.steady_p95))
    assert all(0 <= h - s < step for h, s, step in zip(held, seen, STEPS, strict=True))


@given(st.lists(uses, min_size=1, max_size=STEADY_KEPT))
def test_p95_is_a_sample_that_at_most_one_in_twenty_exceeds(samples: list[Use]) -> None:
    for member, value in enumerate(p95(samples)):
        column = [use[member] for use in samples]
        assert value in column
        assert min(column) <= value <= max(column)
        assert sum(each > value for each in column) <= math.floor(len(column) / 20)


@given(st.lists(uses, max_size=STEADY_KEPT), st.randoms(use_true_random=False))
def test_p95_does_not_depend_on_the_order(samples: list[Use], chance: random.Random) -> None:
    shuffled = chance.sample(samples, len(samples))
    assert p95(shuffled) == p95(samples)


@given(histories)
def test_memory_is_bounded(history: list[tuple[Use, bool]]) -> None:
    learned = taught(*history)
    kept = learned.to_dict().get("segmented", {}).get("probe", {"young": [], "steady": []})
    assert len(kept["young"]) <= YOUNG_KEPT
    assert len(kept["steady"]) <= STEADY_KEPT
    if history:
        assert lesson_of(learned).samples == len(kept["young"]) + len(kept["steady"])


@given(histories, st.text(max_size=5), uses)
def test_plain_data_and_back(history: list[tuple[Use, bool]], other: str, use: Use) -> None:
    learned = taught(*history)
    learned.note(other, "stream", use, young=True)
    again = Learned.from_dict(json.loads(json.dumps(learned.to_dict())))
    assert again.to_dict() == learned.to_dict()
    for pipeline, stage in (("segmented", "probe"), (other, "stream")):
        assert again.of(pipeline, stage) == learned.of(pipeline, stage)
        assert again.reservation_for(pipeline, stage, use) == learned.reservation_for(
            pipeline, stage, use
        )


def test_nothing_is_known_of_a_stage_that_never_ran() -> None:
    learned = taught((Use(900, 90), True))
    assert learned.of("segmented", "stream") is None
    assert learned.of("stream", "probe") is None
    assert learned.reservation_for("stream", "probe", Use(500, 50)) == Use(500, 50)


def test_declared_is_held_until_there_are_enough_samples() -> None:
    learned = taught((Use(900, 90 * MIB), True), (Use(100, 60 * MIB), False))
    assert learned.reservation_for("segmented", "probe", Use(500, 50 * MIB)) == Use(500, 50 * MIB)
    learned.note("segmented", "probe", Use(100, 60 * MIB), young=False)
    assert learned.reservation_for("segmented", "probe", Use(500, 50 * MIB)) == Use(
        900, 96 * MIB
    ), "in whole steps"


def test_members_are_held_each_for_itself() -> None:
    learned = taught(
        (Use(900, MIB), True), (Use(100, 72 * MIB), False), (Use(100, 72 * MIB), False)
    )
    assert learned.reservation_for("segmented", "probe", Use(500, 50 * MIB)) == Use(900, 72 * MIB)


def test_one_odd_sample_in_twenty_does_not_count() -> None:
    learned = taught(*[(Use(100, 50), False)] * 19, (Use(4000, 900), False))
    assert lesson_of(learned).steady_p95 == Use(100, 50)
    learned.note("segmented", "probe", Use(4000, 900), young=False)
    assert lesson_of(learned).steady_p95 == Use(4000, 900)


def test_wild_start_is_forgotten() -> None:
    learned = taught((Use(4000, 900), True), *[(Use(100, 50), True)] * (YOUNG_KEPT - 1))
    assert lesson_of(learned).start_peak == Use(4000, 900)
    learned.note("segmented", "probe", Use(100, 50), young=True)
    assert lesson_of(learned).start_peak == Use(100, 50)


def test_wild_day_is_forgotten() -> None:
    learned = taught(*[(Use(4000, 900), False)] * STEADY_KEPT)
    for _ in range(STEADY_KEPT):
        learned.note("segmented", "probe", Use(100, 50), young=False)
    assert lesson_of(learned).steady_p95 == Use(100, 50)


def test_peak_of_a_session_stays_and_its_last_use_goes_on() -> None:
    use = StageUse().seen(Use(200, 90)).seen(Use(300, 40)).seen(Use(100, 50))
    assert use == StageUse(peak=Use(300, 90), last=Use(100, 50))


@pytest.mark.parametrize("plain", [{"segmented": 1}, {"segmented": {"probe": {"young": []}}}])
def test_data_of_another_shape_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Expected|missing"):
        Learned.from_dict(plain)
