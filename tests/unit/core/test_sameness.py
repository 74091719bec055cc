# SPDX-License-Identifier: MIT
"""Requests with one key: the same is what means the same, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.core.pipelines import shipped
from operatord.core.plans import Upstream, make_plan
from operatord.core.sameness import differing
from operatord_protocol.errors import InvalidParams
from operatord_protocol.messages import SessionStartParams

DEFAULT_COUNT = 100
PROBE = Upstream("bed-3", "192.0.2.7", 5000)


def compared(
    first: dict[str, Any], again: dict[str, Any], default_count: int = DEFAULT_COUNT
) -> list[str]:
    """Return what differs in a request that comes when the count's default is ``default_count``."""
    params = SessionStartParams(**first)
    plan = make_plan(params, shipped(), DEFAULT_COUNT, PROBE if "probe" in first else None)
    return differing(params, plan, SessionStartParams(**again), default_count)


def fps(value: object) -> dict[str, Any]:
    return {"env": {"probe": {"fps": value}}}


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"plain_stream": False}),
    ({}, {"pipeline": "segmented"}),
    ({"plain_stream": False}, {"pipeline": "segmented"}),
    ({"plain_stream": True}, {"pipeline": "stream"}),
    ({}, {"env": {}}),
    ({}, {"env": {"probe": {}}}),
    (fps(1), fps("1")),
    (fps(1.5), fps("1.5")),
    (fps(True), fps("True")),
    ({}, {"count": DEFAULT_COUNT}),
    ({"owner": "local"}, {"owner": "somebody that a login has overridden"}),
    ({"wait": "ready", "request_key": "k"}, {"wait": "accepted", "request_key": "k"}),
    ({}, {"lease": "pinned", "format": "json", "priority": 0, "on_shortage": "queue"}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_requests_that_mean_the_same_do_not_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert compared(one, other) == []
    assert compared(other, one) == []


OTHER: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {"plain_stream": True}, ["plain_stream"]),
    ({}, {"pipeline": "stream"}, ["pipeline"]),
    ({"plain_stream": False}, {"pipeline": "stream"}, ["pipeline"]),
    ({"plain_stream": True}, {"pipeline": "segmented"}, ["plain_stream", "pipeline"]),
    (fps(1), fps(True), ["env"]),
    (fps(1), fps(1.0), ["env"]),
    (fps("True"), fps("true"), ["env"]),
    ({}, fps(1), ["env"]),
    ({}, {"count": 5}, ["count"]),
    ({"probe": "bed-3"}, {"probe": "bed-3", "count": DEFAULT_COUNT}, ["count"]),
    ({}, {"lease": "connection", "priority": 3}, ["priority", "lease"]),
    ({}, {"deadline": 5.0}, ["deadline"]),
]


@pytest.mark.parametrize(("one", "other", "names"), OTHER)
def test_requests_that_mean_something_else_differ_by_name(
    one: dict[str, Any], other: dict[str, Any], names: list[str]
) -> None:
    assert compared(one, other) == names
    assert compared(other, one) == names


def test_default_that_has_changed_is_what_a_request_without_a_count_means_now() -> None:
    assert compared({}, {}, default_count=7) == [], "it was sent again as it was"
    assert compared({}, {"count": DEFAULT_COUNT}, default_count=7) == []
    assert compared({"count": DEFAULT_COUNT}, {}, default_count=7) == ["count"]


def test_pipeline_that_is_no_longer_configured_is_still_the_same() -> None:
    params = SessionStartParams(pipeline="x")
    plan = make_plan(params, {"x": shipped()["stream"]}, DEFAULT_COUNT)
    assert differing(params, plan, params, DEFAULT_COUNT) == []


def test_choice_of_two_pipelines_is_refused_as_without_a_key() -> None:
    with pytest.raises(InvalidParams, match="not both"):
        compared({"plain_stream": True}, {"plain_stream": True, "pipeline": "stream"})
