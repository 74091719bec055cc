# SPDX-License-Identifier: MIT
"""Sums and distributions, and the table of what is counted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from operatord.core.scheduling.actions import RefusalType
from operatord.metering.families import FAMILIES, REFUSALS, Family
from operatord.metering.instruments import Counter, Distribution
from operatord.metering.meters import Meters
from operatord.metering.sessions import ENDINGS, SessionMeter
from operatord_protocol import messages as m

PROTOCOL = Path(__file__).parents[3] / "protocol" / "PROTOCOL.md"


def test_counter_keeps_a_sum_for_each_combination() -> None:
    counter = Counter("outcome", "cause")
    assert counter.sums == {}
    counter.add("failed", "oom")
    counter.add("failed", "oom", by=2)
    counter.add("stopped", "client")
    assert counter.sums == {("failed", "oom"): 3, ("stopped", "client"): 1}


def test_counter_without_labels_is_told_from_the_beginning() -> None:
    assert Counter().sums == {(): 0}


def test_distribution_counts_up_to_each_bound_which_is_still_in() -> None:
    distribution = Distribution((1.0, 2.0), "step")
    for amount in (0.5, 1.0, 1.5, 2.0, 9.0):
        distribution.observe(amount, "verify")
    assert list(distribution.read()) == [(("verify",), [2, 4, 5], 14.0)]


def test_session_is_in_one_phase_and_nowhere_when_it_has_ended() -> None:
    meter = SessionMeter()
    for phase in ("queued", "starting", "running"):
        meter.moved("A", "stream", phase)
    meter.moved("B", "stream", "running")
    assert meter.living.sums["stream", "running"] == 2
    assert meter.living.sums["stream", "queued"] == meter.living.sums["stream", "starting"] == 0
    for phase in ("stopping", "ended", "ended"):
        meter.moved("A", "stream", phase)
    assert sum(meter.living.sums.values()) == 1


def test_steps_within_steps_are_not_counted_beside_them() -> None:
    meter = SessionMeter()
    meter.started("stream", {"create": 20.0, "start.probe": 5.0, "total": 30.0}, warm=False)
    counted = [values for values, buckets, _ in meter.steps.read() if buckets[-1]]
    assert counted == [("create", "false")]
    assert [(v, round(total, 3)) for v, _, total in meter.starts.read()] == [
        (("stream", "false"), 0.03)
    ]


@pytest.mark.parametrize("name, family", FAMILIES.items())
def test_families_keep_to_the_conventions(name: str, family: Family) -> None:
    assert re.fullmatch(r"operatord(_[a-z]+)+", name)
    assert name.endswith("_total") == (family.type == "counter")
    assert bool(family.bounds) == (family.type == "histogram")
    assert list(family.bounds) == sorted(set(family.bounds))
    assert family.help.endswith(".")
    assert not {"session_id", "owner", "user", "address", "le"} & set(family.labels)
    assert not re.search(r"_(ms|milliseconds|mib|percent|count|sum|bucket)(_|$)", name)


@pytest.mark.parametrize("name, family", FAMILIES.items())
def test_each_family_is_in_the_protocol_with_its_labels(name: str, family: Family) -> None:
    section = (
        PROTOCOL.read_text("utf-8").partition("### `system.metrics`")[2].partition("\n### ")[0]
    )
    rows = [line for line in section.splitlines() if f"`{name}`" in line]
    assert len(rows) == 1
    assert [label for label in family.labels if f"`{label}`" not in rows[0]] == []


def test_what_has_not_happened_is_told_as_well() -> None:
    """A server that collects them sees only what grows from one look to the next."""
    meters = Meters(lambda: 0.0)
    meters.sessions.expect(["stream"])
    assert meters.sessions.ended.sums["stream", "failed", "oom"] == 0
    assert meters.sessions.refused.sums["no_capacity",] == 0
    assert meters.events.published.sums["session.stalled",] == 0
    assert [(values, buckets[-1]) for values, buckets, _ in meters.sessions.starts.read()] == [
        (("stream", "false"), 0),
        (("stream", "true"), 0),
    ]
    before = len(meters.sessions.ended.sums)
    meters.sessions.ended.add("stream", "failed", "oom")
    meters.sessions.expect(["stream"])
    assert len(meters.sessions.ended.sums) == before
    assert meters.sessions.ended.sums["stream", "failed", "oom"] == 1


def test_what_is_told_from_the_beginning_is_what_there_can_be() -> None:
    assert set(REFUSALS) == set(get_args(RefusalType))
    for outcome, causes in ENDINGS.items():
        assert outcome in get_args(m.Outcome)
        assert set(causes) <= set(get_args(m.Cause))
    for family in FAMILIES.values():
        assert {len(values) for values in family.known} <= {len(family.labels)}


def test_instruments_are_those_of_their_families() -> None:
    for name, instrument in Meters(lambda: 0.0).instruments():
        family = FAMILIES[name]
        assert instrument.labels == family.labels
        if isinstance(instrument, Distribution):
            assert instrument.bounds == family.bounds
        else:
            assert family.type != "histogram"
