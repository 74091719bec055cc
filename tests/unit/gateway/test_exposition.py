# SPDX-License-Identifier: MIT
"""`/metrics` as Prometheus reads it, by its own client's parser; and the dashboard that is drawn from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from operatord.gateway.metrics import OWN, exposition
from operatord.metering.families import FAMILIES
from operatord_protocol import messages as m

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"
TOLD = m.Metrics(
    metrics=[
        m.Metric(
            name="operatord_sessions",
            type="gauge",
            help='Sessions that "live", with a \\ in it.',
            samples=[
                m.MetricSample(labels={"pipeline": "a", "phase": "running"}, value=2),
                m.MetricSample(labels={"pipeline": "b", "phase": "queued"}, value=0),
            ],
        ),
        m.Metric(
            name="operatord_events_lost_total",
            type="counter",
            help="Events.",
            samples=[m.MetricSample(labels={}, value=7)],
        ),
        m.Metric(
            name="operatord_start_seconds",
            type="histogram",
            help="Starts.",
            samples=[m.MetricSample(labels={"warm": "true"}, buckets=[0, 3, 5], sum=1.25)],
            bounds=[0.1, 2.0],
        ),
        m.Metric(name="operatord_orphans", type="gauge", help="None yet.", samples=[]),
    ]
)


def whole() -> m.Metrics:
    """Return a sample of each family that there is."""
    metrics = []
    for name, family in FAMILIES.items():
        labels = dict.fromkeys(family.labels, "x")
        sample = m.MetricSample(labels=labels, value=1)
        bounds: Any = {}
        if family.type == "histogram":
            buckets = list(range(1, len(family.bounds) + 2))
            sample = m.MetricSample(labels=labels, buckets=buckets, sum=1.5)
            bounds = {"bounds": list(family.bounds)}
        metrics.append(
            m.Metric(name=name, type=family.type, help=family.help, samples=[sample], **bounds)
        )
    return m.Metrics(metrics=metrics)


def test_values_labels_and_types_are_those_of_the_daemon() -> None:
    body, kind = exposition(TOLD)
    assert kind.startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in parse(body.decode())}
    sessions = found["operatord_sessions"]
    assert sessions.type == "gauge"
    assert sessions.documentation == 'Sessions that "live", with a \\ in it.'
    assert [(each.labels, each.value) for each in sessions.samples] == [
        ({"pipeline": "a", "phase": "running"}, 2),
        ({"pipeline": "b", "phase": "queued"}, 0),
    ]
    lost = found["operatord_events_lost"]
    assert (lost.type, lost.samples[0].name, lost.samples[0].value) == (
        "counter",
        "operatord_events_lost_total",
        7,
    )


def test_histogram_has_its_buckets_sum_and_count() -> None:
    found = {family.name: family for family in parse(exposition(TOLD)[0].decode())}
    samples = found["operatord_start_seconds"].samples
    assert [(each.name, each.labels, each.value) for each in samples] == [
        ("operatord_start_seconds_bucket", {"warm": "true", "le": "0.1"}, 0),
        ("operatord_start_seconds_bucket", {"warm": "true", "le": "2.0"}, 3),
        ("operatord_start_seconds_bucket", {"warm": "true", "le": "+Inf"}, 5),
        ("operatord_start_seconds_count", {"warm": "true"}, 5),
        ("operatord_start_seconds_sum", {"warm": "true"}, 1.25),
    ]


def test_each_family_is_read_back_by_name_and_type() -> None:
    body = exposition(whole())[0].decode()
    found = {family.name: family.type for family in parse(body) if not family.name.startswith(OWN)}
    assert found == {name.removesuffix("_total"): each.type for name, each in FAMILIES.items()}


def test_who_reads_open_metrics_gets_that() -> None:
    body, kind = exposition(whole(), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert len(list(parse_open_metrics(body.decode()))) >= len(FAMILIES)


def test_this_process_is_told_apart_from_the_daemon() -> None:
    names = {family.name for family in parse(exposition(TOLD)[0].decode())}
    assert f"{OWN}_process_resident_memory_bytes" in names


# --- the dashboard -----------------------------------------------------------------------------------


def expressions() -> dict[str, str]:
    """Return what each panel asks for, by its title and place in it."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels
        for target in panel.get("targets", [])
    }


def series() -> set[str]:
    """Return the names of everything that can be asked for."""
    body = exposition(whole())[0].decode()
    return {sample.name for family in parse(body) for sample in family.samples}


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions().keys())
def test_dashboard_asks_for_what_there_is(expression: str) -> None:
    names = set(re.findall(r"\boperatord_[a-z_]+", expression))
    assert names
    assert names <= series()


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions().keys())
def test_dashboard_sorts_by_labels_that_there_are(expression: str) -> None:
    for name, chosen in re.findall(r"(operatord_[a-z_]+)\{([^}]*)\}", expression):
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        labels = set(re.findall(r"(\w+)=", chosen)) - {"instance"}
        own = name.startswith(OWN)
        assert own or labels <= set(FAMILIES[family].labels), name
    for grouped in re.findall(r"by \(([\w, ]+)\)", expression):
        [name, *_] = re.findall(r"operatord_[a-z_]+", expression)
        family = FAMILIES[re.sub(r"_(bucket|count|sum)$", "", name)]
        assert set(grouped.replace(" ", "").split(",")) - {"le"} <= set(family.labels)


def test_panels_of_the_dashboard_lie_beside_each_other() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
