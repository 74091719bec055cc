# SPDX-License-Identifier: MIT
"""`GET /metrics` of a gateway before a running daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from daemon_lab import Lab
from guarded_lab import guarded
from prometheus_client.parser import text_string_to_metric_families as parse

from operatord.gateway.app import make_app
from operatord.gateway.upstream import Means, Upstream
from operatord_client.address import Tcp

Gateway = tuple[ClientSession, str]


@asynccontextmanager
async def gateway(address: tuple[str, int]) -> AsyncIterator[Gateway]:
    """Yield a client of HTTP, and where the metrics are."""
    runner = web.AppRunner(make_app(Upstream(Means(Tcp(*address)))), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as client:
            yield client, f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


async def test_what_happens_can_be_read(lab: Lab) -> None:
    session = await (await lab.wire()).call("session.start")
    async with gateway(lab.address) as (client, url), client.get(url) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    found = {
        (each.name, *sorted(each.labels.values())): each.value
        for family in parse(text)
        for each in family.samples
    }
    assert found["operatord_sessions", "running", "segmented"] == 1
    assert ("operatord_gateway_process_open_fds",) in found
    assert session["session_id"] not in text


async def test_open_metrics_for_who_asks(lab: Lab) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    async with gateway(lab.address) as (client, url), client.get(url, headers=accept) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize("role", [None, "viewer"])
async def test_who_may_look_needs_a_token(tmp_path: Path, role: str | None) -> None:
    async with guarded(tmp_path) as door:
        headers = {}
        if role is not None:
            _, token = door.token("vic", "viewer")
            await door.lab.daemon.reloading.reload()
            headers = {"Authorization": f"Bearer {token}"}
        async with (
            gateway(door.lab.address) as (client, url),
            client.get(url, headers=headers) as answer,
        ):
            assert answer.status == (401 if role is None else 200)
            assert (await answer.text()).startswith("{" if role is None else "#")


async def test_daemon_that_is_gone(lab: Lab) -> None:
    async with gateway(("127.0.0.1", 1)) as (client, url), client.get(url) as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["data"]["type"] == "daemon_unavailable"


async def test_it_is_only_read(lab: Lab) -> None:
    async with gateway(lab.address) as (client, url), client.post(url, json={}) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
