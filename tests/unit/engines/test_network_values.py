# SPDX-License-Identifier: MIT
"""What engines are asked for so that a network has a way out, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from operatord.engines.base import Network, NetworkPlan, StagePlan, StageRefused, WayOut
from operatord.engines.docker.engine import DockerEngine
from operatord.engines.docker.errors import refusal
from operatord.engines.docker.values.networks import (
    network_body,
    podman_closed_body,
    without_name_server,
)
from operatord.engines.options import Options

LABELS = {"operatord.session": "E6647"}
OPEN = NetworkPlan("network_E6647", "10.213.0.16/28", LABELS)
CLOSED = msgspec.structs.replace(OPEN, way_out="none")
REPLIES = msgspec.structs.replace(OPEN, way_out="replies")
POOL = {"Subnet": "10.213.0.16/28", "Gateway": "10.213.0.17"}
NO_ADDRESS = {"com.docker.network.bridge.enable_ip_masquerade": "false"}


@pytest.mark.parametrize(
    ("plan", "pool", "options"),
    [
        (OPEN, POOL, None),
        (REPLIES, POOL, NO_ADDRESS),
        (CLOSED, {**POOL, "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.213.0.30"}}, NO_ADDRESS),
    ],
)
def test_docker_is_asked_for_a_next_hop_that_is_nobody(
    plan: NetworkPlan, pool: Any, options: Any
) -> None:
    body = network_body(plan)
    assert body["ipam"]["Config"] == [pool]
    assert body.get("options") == options


def test_podman_is_asked_for_no_route_in_its_own_words() -> None:
    assert podman_closed_body(CLOSED) == {
        "name": "network_E6647",
        "driver": "bridge",
        "subnets": [{"subnet": "10.213.0.16/28", "gateway": "10.213.0.17"}],
        "labels": LABELS,
        "options": {"isolate": "true", "no_default_route": "true"},
        "dns_enabled": True,
        "network_dns_servers": ["255.255.255.255"],
    }


@pytest.mark.parametrize(
    ("way_out", "join", "own", "asked"),
    [
        ("none", None, (), ("127.0.0.1",)),
        ("replies", None, (), ("127.0.0.1",)),
        ("open", None, (), ()),
        ("none", None, ("10.0.0.1",), ("10.0.0.1",)),
        ("none", "owner", (), ()),
    ],
)
def test_stage_without_a_way_out_asks_no_name_server(
    way_out: WayOut, join: str | None, own: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    network = Network("id", "net", way_out=way_out)
    options = Options(dns=own)
    plan = StagePlan("c", "camera", "i", network, {}, {}, 1, join=join, options=options)
    assert without_name_server(plan).options.dns == asked


@pytest.mark.parametrize(
    ("status", "words"),
    [(500, "unsupported bridge network option no_default_route"), (404, "page not found")],
)
async def test_engine_that_closes_no_network_makes_an_open_one_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int, words: str
) -> None:
    engine = DockerEngine("unix:///nowhere.sock", "test")
    engine._clients.podman = True
    asked: list[bool] = []

    async def launch(during: str, subject: str, call: Callable[..., Any]) -> Any:
        asked.append(call.keywords["podman"])  # type: ignore[attr-defined]
        if asked[-1]:
            raise refusal("network", status, words, subject)
        return {"Id": "some"}

    monkeypatch.setattr(engine, "_launch", launch)
    try:
        assert (await engine.create_network(CLOSED)).id == "some"
        assert (asked, engine.capabilities.closes_networks) == ([True, False], False)
        assert "without a way out" in caplog.text
        await engine.create_network(CLOSED)
        assert asked == [True, False, False]
    finally:
        await engine.close()


def test_refusal_of_another_kind_is_none_of_it() -> None:
    assert not isinstance(refusal("network", 500, "something broke", "n"), StageRefused)
