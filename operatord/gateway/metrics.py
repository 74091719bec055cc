# SPDX-License-Identifier: MIT
"""`GET /metrics`: what the daemon counts and measures (`system.metrics`), as Prometheus reads it; and what
this process itself uses, as ``operatord_gateway_process_…``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiohttp import web
from msgspec import UNSET
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from operatord_protocol import messages as m
from operatord_protocol.answers import decode_result

from .upstream import UPSTREAM

METHOD = "system.metrics"
OWN = "operatord_gateway"


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get("/metrics", told)]


async def told(request: web.Request) -> web.StreamResponse:
    """Ask the daemon as whoever sent ``request``, and answer in the format that they read."""
    async with request.app[UPSTREAM].daemon(request) as daemon:
        raw = await daemon.ask(METHOD)
    body, kind = exposition(decode_result(raw, m.Metrics), request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": kind})


def exposition(metrics: m.Metrics, accepted: str = "") -> tuple[bytes, str]:
    """Return all metrics as text, and its content type: one that is ``accepted``, or Prometheus' own."""
    registry = CollectorRegistry()
    registry.register(_Told(metrics))
    ProcessCollector(namespace=OWN, registry=registry)
    encode, kind = choose_encoder(accepted)
    return encode(registry), kind


class _Told:
    """What the daemon has told, as prometheus-client collects it."""

    def __init__(self, metrics: m.Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """Yield each metric with its samples."""
        for metric in self._metrics.metrics:
            yield _family(metric)


def _family(metric: m.Metric) -> Family:
    names = list(metric.samples[0].labels) if metric.samples else []
    if metric.type == "histogram":
        return _histogram(metric, names)
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name.removesuffix("_total"), metric.help, labels=names)
    for sample in metric.samples:
        if sample.value is not UNSET:
            family.add_metric([sample.labels[name] for name in names], sample.value)
    return family


def _histogram(metric: m.Metric, names: list[str]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=names)
    bounds = [] if metric.bounds is UNSET else metric.bounds
    edges = [*map(floatToGoString, bounds), "+Inf"]
    for sample in metric.samples:
        if sample.buckets is not UNSET and sample.sum is not UNSET:
            counted = list(zip(edges, sample.buckets, strict=True))
            family.add_metric([sample.labels[name] for name in names], counted, sample.sum)
    return family
