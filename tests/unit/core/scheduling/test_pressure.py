# SPDX-License-Identifier: MIT
"""Pressure: the laws of the gauge, and the cases by name."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.core.scheduling.pressure import (
    CPU_SECONDS,
    Gauge,
    Kind,
    Sample,
    Watermarks,
    averaged,
)

MIB, GIB = 2**20, 2**30
CALM = Sample(cpu_busy=0.1, memory_available=8 * GIB, disk_free=100 * GIB, memory_stall=0.0)
MARKS = Watermarks(cpu=0.97, memory_stall=0.2, memory=256 * MIB, disk=2 * GIB)
OFF = Watermarks(cpu=None, memory_stall=None, memory=0, disk=0)

shares = st.floats(0, 1)
sizes = st.integers(0, 2**50)
samples = st.builds(Sample, shares, sizes, sizes, shares)
watermarks = st.builds(Watermarks, st.none() | shares, st.none() | shares, sizes, sizes)
seconds = st.floats(0, 1e6)


def better(a: Sample, b: Sample) -> Sample:
    """Return the best of two samples in each member."""
    return Sample(
        min(a.cpu_busy, b.cpu_busy),
        max(a.memory_available, b.memory_available),
        max(a.disk_free, b.disk_free),
        min(a.memory_stall, b.memory_stall),
    )


def laxer(a: Watermarks, b: Watermarks) -> Watermarks:
    """Return the more generous of two in each member."""

    def later(x: float | None, y: float | None) -> float | None:
        return None if x is None or y is None else max(x, y)

    return Watermarks(
        later(a.cpu, b.cpu),
        later(a.memory_stall, b.memory_stall),
        min(a.memory, b.memory),
        min(a.disk, b.disk),
    )


def severity(kind: Kind) -> int:
    return ["none", "cpu", "memory", "disk"].index(kind)


def changes(kinds: list[Kind]) -> int:
    return sum(a != b for a, b in pairwise(kinds))


# Laws


@given(shares, shares, st.lists(st.floats(0.01, 60), min_size=1))
def test_average_approaches_a_constant_and_never_passes_it(
    start: float, value: float, steps: list[float]
) -> None:
    average = start
    for step in steps:
        before, average = average, averaged(average, value, step)
        assert abs(average - value) <= abs(before - value) + 1e-12
        assert min(before, value) - 1e-12 <= average <= max(before, value) + 1e-12
    assert abs(average - value) <= math.exp(-sum(steps) / CPU_SECONDS) + 1e-9


@given(samples, st.floats(20 * CPU_SECONDS, 1e6))
def test_constant_sample_converges_to_its_own_value(sample: Sample, long: float) -> None:
    assert averaged(0.0, sample.cpu_busy, long) == pytest.approx(sample.cpu_busy, abs=1e-8)


@given(shares, shares, st.floats(0, 100), st.floats(0, 100))
def test_average_does_not_depend_on_how_often_one_looks(
    start: float, value: float, a: float, b: float
) -> None:
    twice = averaged(averaged(start, value, a), value, b)
    assert twice == pytest.approx(averaged(start, value, a + b), abs=1e-9)


@given(st.lists(st.tuples(samples, watermarks, seconds)))
def test_no_sample_and_no_reload_is_too_much(
    history: list[tuple[Sample, Watermarks, float]],
) -> None:
    gauge = Gauge()
    for sample, marks, step in history:
        kind = gauge.update(sample, marks, step)
        assert kind == gauge.kind
        assert bool(gauge.reason(marks)) == (kind != "none")
        # Between a reload and the next look the sentence is asked for with borders not judged by.
        assert bool(gauge.reason(OFF)) == (kind != "none")


@given(watermarks, st.lists(st.tuples(samples, samples, seconds)))
def test_a_better_machine_is_never_under_worse_pressure(
    marks: Watermarks, history: list[tuple[Sample, Sample, float]]
) -> None:
    good, bad = Gauge(), Gauge()
    for one, other, step in history:
        best = good.update(better(one, other), marks, step)
        assert severity(best) <= severity(bad.update(one, marks, step))


@given(watermarks, watermarks, st.lists(st.tuples(samples, seconds)))
def test_more_generous_watermarks_are_never_met_earlier(
    one: Watermarks, other: Watermarks, history: list[tuple[Sample, float]]
) -> None:
    lax, strict = Gauge(), Gauge()
    for sample, step in history:
        kind = lax.update(sample, laxer(one, other), step)
        assert severity(kind) <= severity(strict.update(sample, one, step))


IN_BAND = {
    "memory": st.integers(MARKS.memory, MARKS.memory * 5 // 4 - 1).map(
        lambda size: CALM._replace(memory_available=size)
    ),
    "stall": st.floats(0.11, 0.2).map(lambda share: CALM._replace(memory_stall=share)),
    "disk": st.integers(MARKS.disk, MARKS.disk * 11 // 10 - 1).map(
        lambda size: CALM._replace(disk_free=size)
    ),
    "cpu": st.floats(0.9001, 0.97).map(lambda share: CALM._replace(cpu_busy=share)),
}


@pytest.mark.parametrize("what", IN_BAND)
@given(data=st.data(), begin=st.sampled_from([CALM, Sample(1.0, 0, 0, 1.0)]))
def test_what_swings_within_the_band_changes_nothing_or_once(
    what: str, data: st.DataObject, begin: Sample
) -> None:
    gauge = Gauge()
    kinds = [gauge.update(begin, MARKS, 1000)]
    for sample in data.draw(st.lists(IN_BAND[what], max_size=20)):
        kinds.append(gauge.update(sample, MARKS, 1))
    assert changes(kinds) <= 1


@given(st.lists(st.tuples(st.floats(0.9001, 0.97), st.floats(0.1, 10)), max_size=50))
def test_cores_busy_within_the_band_keep_the_door_as_it_is(
    swings: list[tuple[float, float]],
) -> None:
    fresh, pressed = Gauge(), Gauge()
    pressed.update(CALM._replace(cpu_busy=1.0), MARKS, 1000)
    for busy, step in swings:
        sample = CALM._replace(cpu_busy=busy)
        assert fresh.update(sample, MARKS, step) == "none"
        assert pressed.update(sample, MARKS, step) == "cpu"


# Cases


def test_a_gauge_that_has_seen_nothing_presumes_nothing() -> None:
    gauge = Gauge()
    assert (gauge.kind, gauge.reason(MARKS)) == ("none", "")


def test_a_calm_machine_is_under_no_pressure() -> None:
    gauge = Gauge()
    assert gauge.update(CALM, MARKS, 1.0) == "none"
    assert gauge.reason(MARKS) == ""


def test_one_busy_second_is_no_pressure_and_three_minutes_are() -> None:
    gauge, busy = Gauge(), CALM._replace(cpu_busy=1.0)
    assert gauge.update(busy, MARKS, 1.0) == "none"
    assert averaged(0.0, busy.cpu_busy, 1.0) == pytest.approx(1 - math.exp(-1 / 30))
    kinds = [gauge.update(busy, MARKS, 1.0) for _ in range(180)]
    assert kinds[-1] == "cpu"
    assert changes(kinds) == 1


def test_busy_cores_are_over_when_the_average_has_clearly_fallen() -> None:
    gauge = Gauge()
    assert gauge.update(CALM._replace(cpu_busy=0.98), MARKS, 1000) == "cpu"
    assert gauge.reason(MARKS) == (
        "all cores have been 98 % busy over the last half minute; starts wait until that is below 90 % "
        "(pressure.cpu)"
    )
    idle = CALM._replace(cpu_busy=0.0)
    assert gauge.update(idle, MARKS, 2.0) == "cpu"
    assert gauge.update(idle, MARKS, 1.0) == "none"


def test_a_low_watermark_can_be_come_back_from() -> None:
    low = MARKS._replace(cpu=0.05)
    gauge = Gauge()
    assert gauge.update(CALM._replace(cpu_busy=0.06), low, 1000) == "cpu"
    assert gauge.reason(low).endswith("below 2.5 % (pressure.cpu)")
    assert gauge.update(CALM._replace(cpu_busy=0.02), low, 1000) == "none"


def test_short_memory_waits_for_a_quarter_more() -> None:
    gauge = Gauge()
    assert gauge.update(CALM._replace(memory_available=120 * MIB), MARKS, 1) == "memory"
    assert gauge.reason(MARKS) == (
        "the machine is short of memory: 120 MiB are available and 256 MiB must stay free; starts wait "
        "until 320 MiB are (system_reserved.memory)"
    )
    assert gauge.update(CALM._replace(memory_available=320 * MIB - 1), MARKS, 1) == "memory"
    assert "319.9 MiB are available" in gauge.reason(MARKS)
    assert gauge.update(CALM._replace(memory_available=320 * MIB), MARKS, 1) == "none"


def test_stalls_are_short_memory_too_and_wait_for_half() -> None:
    gauge = Gauge()
    assert gauge.update(CALM._replace(memory_stall=0.3), MARKS, 1) == "memory"
    assert gauge.reason(MARKS) == (
        "the machine is short of memory: for 30 % of the last ten seconds everything that ran "
        "stood still waiting for it; starts wait until that is no more than 10 % "
        "(pressure.memory_stall)"
    )
    assert gauge.update(CALM._replace(memory_stall=0.11), MARKS, 1) == "memory"
    assert gauge.update(CALM._replace(memory_stall=0.1), MARKS, 1) == "none"


def test_memory_is_back_only_when_both_of_its_measures_are() -> None:
    gauge = Gauge()
    assert gauge.update(CALM._replace(memory_available=0, memory_stall=0.5), MARKS, 1) == "memory"
    assert gauge.reason(MARKS).startswith("the machine is short of memory: 0 B are available")
    assert gauge.update(CALM._replace(memory_available=0), MARKS, 1) == "memory"
    assert gauge.update(CALM._replace(memory_stall=0.15), MARKS, 1) == "memory"
    assert gauge.update(CALM, MARKS, 1) == "none"


def test_a_nearly_full_disk_waits_for_a_tenth_more() -> None:
    gauge = Gauge()
    assert gauge.update(CALM._replace(disk_free=int(1.5 * GIB)), MARKS, 1) == "disk"
    assert gauge.reason(MARKS) == (
        "the engine's disk is nearly full: 1.5 GiB are free and 2 GiB must stay free; starts wait until "
        "2.1 GiB are (system_reserved.disk)"
    )
    assert gauge.update(CALM._replace(disk_free=int(2.15 * GIB)), MARKS, 1) == "disk"
    assert gauge.update(CALM._replace(disk_free=int(2.2 * GIB)), MARKS, 1) == "none"


def test_reason_is_another_only_when_its_figure_has_changed_by_a_tenth() -> None:
    """N3: whoever waits is told each reason once, and free memory and disk are never the same twice."""
    gauge, said = Gauge(), set()
    for step in range(100):
        sample = CALM._replace(disk_free=GIB + step * MIB, cpu_busy=step % 2, memory_available=step)
        gauge.update(sample, MARKS, 1)
        said.add(gauge.reason(MARKS))
    assert len(said) == 1
    gauge.update(CALM._replace(disk_free=GIB // 2), MARKS, 1)
    assert "512 MiB are free" in gauge.reason(MARKS)


def test_disk_comes_before_memory_before_cores() -> None:
    gauge, full = Gauge(), Sample(1.0, 0, 0, 1.0)
    assert gauge.update(full, MARKS, 1000) == "disk"
    assert gauge.update(full._replace(disk_free=GIB * 9), MARKS, 1) == "memory"
    assert gauge.update(CALM._replace(cpu_busy=1.0), MARKS, 1) == "cpu"
    assert gauge.update(CALM, MARKS, 1000) == "none"


def test_exactly_at_a_watermark_is_not_beyond_it() -> None:
    at = Sample(0.97, MARKS.memory, MARKS.disk, 0.2)
    assert Gauge().update(at, MARKS, 1e9) == "none"


def test_what_is_switched_off_never_presses() -> None:
    assert Gauge().update(Sample(1.0, 0, 0, 1.0), OFF, 1e9) == "none"


def test_watermarks_may_change_between_two_looks() -> None:
    gauge, sample = Gauge(), CALM._replace(memory_available=GIB, disk_free=5 * GIB, cpu_busy=0.9)
    assert gauge.update(sample, MARKS, 1000) == "none"
    assert gauge.update(sample, MARKS._replace(memory=2 * GIB), 1) == "memory"
    assert gauge.update(sample, MARKS, 1) == "none"
    assert gauge.update(sample, MARKS._replace(disk=6 * GIB), 1) == "disk"
    assert gauge.update(sample, MARKS._replace(cpu=0.5), 1) == "cpu"
    assert gauge.update(sample, MARKS._replace(cpu=None), 1) == "none"


def test_a_clock_that_stands_still_or_steps_back_changes_no_average() -> None:
    assert averaged(0.5, 1.0, 0.0) == 0.5
    assert averaged(0.5, 1.0, -3.0) == 0.5
