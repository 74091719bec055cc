# SPDX-License-Identifier: MIT
"""Each call that a start and a stop make of a real engine, and its event stream, go wrong in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Refused, Wire, until
from docker_lab import DockerDaemon, docker_served
from engine_common import eventually, pinged, slowfault
from engine_proxy import WORDS, EngineProxy, Fault, engine_proxy

from operatord.monitors.exits import SETTLES

pytestmark = pytest.mark.engine

START = {
    "images": "GET /images/demo-stream/json",
    "list of networks": r"GET /networks\?filters=%7B%7D$",
    "network": "POST /networks/create",
    "creation of the first": "POST /containers/create.*_stream",
    "creation of the second": "POST /containers/create.*_probe",
    "start": r"POST /containers/\w+/start",
    "inspection": r"GET /containers/\w+/json",
}
LATE = {
    "attachment": r"POST /containers/\w+/attach",
    "leaving of no network": "POST /networks/none/disconnect",
    "connection": r"POST /networks/\w+/connect",
}
"""What a start can do without: it is made anew."""
STOP = {
    "inspection": r"GET /containers/\w+/json",
    "stop": r"POST /containers/\w+/stop",
    "logs": r"GET /containers/\w+/logs",
    "removal": r"DELETE /containers/\w+",
    "removal of the network": r"DELETE /networks/\w+",
}
FAULTS = [pytest.param("swallow", id="lost"), pytest.param("refuse", id="500")]
STOP_FAULTS = [FAULTS[0], pytest.param("refuse", id="500", marks=slowfault)]


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[EngineProxy]:
    async with engine_proxy(tmp_path) as made:
        yield made


async def start(wire: Wire) -> Json:
    session: Json = await wire.call("session.start", plain_stream=True)
    return session


async def nothing_is_left(daemon: DockerDaemon, wire: Wire) -> None:
    assert daemon.left() == []
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_start_fails_whole_and_says_why_whichever_call_goes_wrong(
    tmp_path: Path, proxy: EngineProxy, fault: Fault
) -> None:
    async with docker_served(tmp_path / "s", docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        async with pinged(await daemon.wire()) as pings:
            for name, requests in (START | (LATE if fault == "swallow" else {})).items():
                with proxy.rule(requests, fault) as rule:
                    refused = await wire.refusal("session.start", plain_stream=True)
                assert rule.met.is_set(), name
                assert (refused.type, refused.data["retryable"]) == ("engine_unavailable", True), (
                    name
                )
                assert WORDS not in str(refused)
                await nothing_is_left(daemon, wire)
        assert pings.quick
        await start(wire)


async def test_start_does_without_what_it_can(tmp_path: Path, proxy: EngineProxy) -> None:
    async with docker_served(tmp_path / "s", docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        for name, requests in LATE.items():
            with proxy.rule(requests, "refuse") as rule:
                session = await start(wire)
            assert (rule.met.is_set(), session["phase"]) == (True, "running"), name
            await wire.call("session.stop", session_id=session["session_id"])
            await nothing_is_left(daemon, wire)


async def test_stages_that_are_made_anew_may_go_one_by_one(
    tmp_path: Path, proxy: EngineProxy
) -> None:
    async with docker_served(tmp_path / "s", docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        with (
            proxy.rule(LATE["connection"], "refuse"),
            proxy.rule(r"DELETE /containers/\w+", "hold") as rule,
        ):
            request = wire.begin("session.start", plain_stream=True)
            await rule.met.wait()
            # Meanwhile the other one is gone: that it would be taken for a failure shows after a moment.
            asyncio.get_running_loop().call_later(3 * SETTLES, rule.go.set)
            session = await wire.reply(request)
        assert session["phase"] == "running"
        await wire.call("session.stop", session_id=session["session_id"])
        await nothing_is_left(daemon, wire)


@pytest.mark.parametrize("fault", STOP_FAULTS)
async def test_stop_takes_everything_away_whichever_call_goes_wrong(
    tmp_path: Path, proxy: EngineProxy, fault: Fault
) -> None:
    config = {"stop_grace": 0.5}
    async with docker_served(tmp_path / "s", config=config, docker_host=proxy.host) as daemon:
        wires = [await daemon.wire() for _ in STOP]
        sessions = await asyncio.gather(*map(start, wires))
        async with pinged(await daemon.wire()) as pings:
            for (name, requests), session in zip(STOP.items(), sessions, strict=True):
                with proxy.rule(requests, fault) as rule:
                    ended = await wires[0].call("session.stop", session_id=session["session_id"])
                assert rule.met.is_set(), name
                assert ended["outcome"] == "stopped", name
        assert pings.quick
        await nothing_is_left(daemon, wires[0])


SLOW = [
    pytest.param(call, marks=[] if call in ("network", "connection") else slowfault)
    for call in START | LATE
]


@pytest.mark.parametrize("call", SLOW)  # each on a daemon that has asked for nothing before
async def test_slow_engine_is_waited_for(tmp_path: Path, proxy: EngineProxy, call: str) -> None:
    async with docker_served(tmp_path / "s", docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        async with pinged(await daemon.wire()) as pings:
            with proxy.rule((START | LATE)[call], "hold") as rule:
                begun = time.monotonic()
                request = wire.begin("session.start", plain_stream=True)
                await rule.met.wait()
                asyncio.get_running_loop().call_later(4, rule.go.set)
                session = await wire.reply(request)
            assert time.monotonic() - begun >= 4
            ended = await wire.call("session.stop", session_id=session["session_id"])
            assert ended["outcome"] == "stopped"
        assert pings.quick
        await nothing_is_left(daemon, wire)


@slowfault
async def test_call_that_takes_effect_long_after_it_was_given_up_leaves_nothing(
    tmp_path: Path, proxy: EngineProxy
) -> None:
    config = {"engine_patience": 10}  # with which the engine has a minute for each call
    async with docker_served(tmp_path / "s", docker_host=proxy.host, config=config) as daemon:
        wire = await daemon.wire()
        with proxy.rule(START["network"], "hold"):
            request = wire.begin("session.start", plain_stream=True)
            with pytest.raises(Refused) as caught:
                await wire.reply(request, 130)
            refused = caught.value
            assert (refused.type, refused.data["step"]) == ("engine_unavailable", "network")
            await nothing_is_left(daemon, wire)
        await until(lambda: len(daemon.left()) == 1, "the engine makes it after all")
        await eventually(lambda: daemon.left() == [], 30)


async def test_start_goes_on_though_the_event_stream_is_cut(
    tmp_path: Path, proxy: EngineProxy
) -> None:
    async with docker_served(tmp_path / "s", docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        with proxy.rule(START["start"], "hold") as rule:
            request = wire.begin("session.start", plain_stream=True)
            await rule.met.wait()
            with proxy.rule("GET /events", "hold") as again:
                await proxy.cut("/events")
                await again.met.wait()
        assert (await wire.reply(request))["phase"] == "running"


async def test_exit_that_no_event_tells_of_is_noticed(tmp_path: Path, proxy: EngineProxy) -> None:
    async with docker_served(tmp_path / "s", docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        with proxy.rule("GET /events", "hold") as rule:
            await proxy.cut("/events")
            await rule.met.wait()
            session = await start(wire)
            daemon.engine.client.kill(session["probe"])
            # In every five seconds all is listed and compared.
            ended = await wire.call("session.wait", session_id=session["session_id"])
            assert (ended["outcome"], ended["cause"]) == ("failed", "exit")


async def test_requester_is_told_at_once_when_the_engine_goes_while_a_failed_start_is_undone(
    tmp_path: Path, proxy: EngineProxy
) -> None:
    config = {"shutdown_timeout": 3}
    async with docker_served(tmp_path / "s", config=config, docker_host=proxy.host) as daemon:
        wire = await daemon.wire()
        with (
            proxy.rule(START["creation of the first"], "swallow"),
            proxy.rule("GET /containers/json", "hold", times=float("inf")) as rule,
        ):
            request = wire.begin("session.start", plain_stream=True)
            await daemon.daemon.logged("the start failed at create")
            await rule.met.wait()
            await proxy.vanish()
        try:
            with pytest.raises(Refused) as caught:
                await wire.reply(request, 3)
            assert caught.value.type == "engine_unavailable"
        finally:
            await proxy.appear()
            await until(lambda: daemon.left() == [], "what was made of it is removed")
