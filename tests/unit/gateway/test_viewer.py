# SPDX-License-Identifier: MIT
"""Stages that hang or lie, and viewers that stall: an application with the routes of streams only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from operatord.gateway.answers import refused
from operatord.gateway.streams import players, pulse, routes, snapshot, viewer
from operatord.gateway.streams.hub import HUB, Hub
from operatord.gateway.streams.reading import CONSUME, LIVE, WATCH
from operatord.gateway.upstream import UPSTREAM, Means, Upstream
from operatord_client.address import Tcp
from operatord_protocol.errors import WireError
from operatord_protocol.stream import CHECK
from stage import HEIGHT, PATIENCE, SIZE, WIDTH, Stage, a_stage, end, frame, hello, line

BIG = 1024
"""Pixels on a side: a frame is more than the kernel keeps for a viewer."""


class House:
    """The application, and whoever asks it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, hub: Hub) -> None:
        self.http, self.url, self.hub = http, url, hub

    def view(self) -> Any:
        return self.http.ws_connect(self.url + "/stream", max_msg_size=0)

    async def get(self, kind: str) -> tuple[int, bytes]:
        async with self.http.get(f"{self.url}/{kind}") as response:
            return response.status, await response.read()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with a_stage(hello(watch=True)) as running:
        yield running


@pytest.fixture
async def house(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async def find(*_: object) -> object:
        return stage.location

    for module in (viewer, players, snapshot):
        monkeypatch.setattr(module, "find", find)

    @web.middleware
    async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except WireError as exc:
            return refused(exc)

    app = web.Application(middlewares=[errors])
    app[UPSTREAM] = Upstream(Means(Tcp("127.0.0.1", 1)))
    app.add_routes(routes.routes(app))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/sessions/ONE"
        async with aiohttp.ClientSession() as http:
            yield House(http, url, app[HUB])
    finally:
        await runner.cleanup()


async def told(ws: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """Return all that comes until the close: lines of headers, and notes."""
    found = []
    async with asyncio.timeout(PATIENCE):
        while (message := await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data if isinstance(message.data, str) else message.data.split(b"\n")[0]
            found.append(json.loads(data))
    return found


async def test_messages_are_those_of_the_stream(house: House, stage: Stage) -> None:
    async with house.view() as ws:
        await ws.send_str('{"type":"open"}')
        assert await ws.receive_bytes(timeout=PATIENCE) == stage.first
        assert json.loads(await ws.receive_str()) == {"type": "viewer", "dropped": 0, "viewers": 1}
        await stage.hears(LIVE)
        stage.say(frame(3))
        assert await ws.receive_bytes() == frame(3)
        stage.say(frame(7, mask=bytes(SIZE)))
        assert await ws.receive_bytes() == frame(7, mask=bytes(SIZE))
        stage.say(end(1))
        found = await told(ws)
    assert {"type": "end", "frames": 2, "dropped": 3} in found
    assert ws.close_code == 1000


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (end(99), "has sent 99, and 0 have come"),
        (b"nonsense\n", "this is not a header of the stream format"),
        (line(type="frame", seq=0, parts=[{"name": "image", "bytes": 1}]), "has 1 bytes"),
        (b'{"type":"error","message":"say the token"}\n', "say the token"),
    ],
)
async def test_a_stage_that_lies_closes_its_viewers(
    house: House, stage: Stage, lie: bytes, why: str
) -> None:
    async with house.view() as ws:
        await ws.send_str('{"type":"open"}')
        await stage.hears(LIVE)
        stage.say(lie)
        await told(ws)
        assert ws.close_code == 1011
    await stage.has(0)


async def test_a_stage_without_a_hello_is_waited_for_a_while(
    house: House, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operatord.gateway.streams.reading.HELLO_SECONDS", 0.05)
    stage.first = b""
    async with house.view() as ws:
        await ws.send_str('{"type":"open"}')
        assert await told(ws) == []
        assert ws.close_code == 1011
    for kind in ("stream.y4m", "snapshot.png"):
        status, body = await house.get(kind)
        assert (status, b"no hello" in body) == (409, True)


async def test_who_says_nothing_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "OPEN_SECONDS", 0.05)
    async with house.view() as ws:
        [error] = await told(ws)
        assert "within 0.05 s" in error["error"]["message"]
        assert ws.close_code == 4400


async def test_who_stalls_is_let_go_and_cost_the_others_nothing(
    house: House, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "STALLED", 0.5)
    stage.first = hello(width=BIG, height=BIG, watch=True)
    head = {"type": "frame", "parts": [{"name": "image", "bytes": BIG * BIG}]}
    whole = house.hub.opener.budget.free
    async with house.view() as stalls, house.view() as looks:
        reader = stalls._response.connection.transport  # it takes nothing more from here on
        reader.pause_reading()
        for ws in (stalls, looks):
            await ws.send_str('{"type":"open"}')
        await stage.hears(LIVE)
        sent = 0
        async with asyncio.timeout(PATIENCE):
            while (await looks.receive()).type is not WSMsgType.TEXT:
                pass
            while (source := house.hub._sources[stage.location.url]).viewers == 2:
                stage.say(line(**head, seq=sent) + bytes(BIG * BIG))
                sent += 1
                while (await looks.receive()).type is not WSMsgType.BINARY:
                    pass
        assert source.viewers == 1 and sent > 2
        reader.resume_reading()
        await told(stalls)
    await stage.has(0)
    assert house.hub.opener.budget.free == whole


async def test_a_frame_for_which_there_is_no_memory_has_passed_by(
    house: House, stage: Stage
) -> None:
    async with house.view() as ws:
        await ws.send_str('{"type":"open"}')
        assert await ws.receive_bytes(timeout=PATIENCE) == stage.first
        await stage.hears(LIVE)
        stage.say(frame(0))
        while (await ws.receive()).type is not WSMsgType.BINARY:
            pass
        free, house.hub.opener.budget.free = house.hub.opener.budget.free, 10
        source = house.hub._sources[stage.location.url]
        stage.say(frame(1))
        async with asyncio.timeout(PATIENCE):
            await source.after(1)
            while source.viewers and source._changed._waiters == []:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        house.hub.opener.budget.free = free
        stage.say(frame(2), end(3))
        found = await told(ws)
    assert {"type": "end", "frames": 2, "dropped": 1} in found


async def test_pixels_that_are_not_grey_are_for_viewers_only(house: House, stage: Stage) -> None:
    stage.first = hello(format="gray16", watch=True)
    picture = line(type="frame", seq=0, parts=[{"name": "image", "bytes": 2 * SIZE}])
    stage.first += picture + bytes(2 * SIZE)
    for kind in ("stream.y4m", "snapshot.png"):
        status, body = await house.get(kind)
        assert (status, b"gray16" in body) == (409, True)
    async with house.view() as ws:
        await ws.send_str('{"type":"open"}')
        assert b"gray16" in await ws.receive_bytes(timeout=PATIENCE)
        while (message := await ws.receive()).type is not WSMsgType.BINARY:
            pass
        assert message.data == picture + bytes(2 * SIZE)


async def test_a_snapshot_is_a_guest_that_was_only_a_check(house: House, stage: Stage) -> None:
    stage.first += frame(5) + frame(6)
    status, body = await house.get("snapshot.png")
    assert (status, body[16:24]) == (200, WIDTH.to_bytes(4) + HEIGHT.to_bytes(4))
    await stage.hears(CHECK)
    await stage.has(0)


async def test_where_a_guest_sees_nothing_it_watches_for_a_while(
    house: House, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.create_task(house.get("snapshot.png"))
    await stage.hears(WATCH)
    stage.say(frame(0))
    assert (await asked)[0] == 200
    monkeypatch.setattr(snapshot, "PATIENCE", 0.05)
    status, body = await house.get("snapshot.png")
    assert (status, b"no picture has come" in body) == (409, True)


async def test_a_stage_that_was_too_busy_for_a_guest_is_visited_again(
    house: House, stage: Stage
) -> None:
    asked = asyncio.create_task(house.get("snapshot.png"))
    await stage.hears(WATCH)
    stage.first += frame(0)
    assert (await asked)[0] == 200
    assert stage.connections == 2


async def test_a_stage_that_knows_no_spectators_is_only_visited(
    house: House, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PATIENCE", 0.3)
    stage.first = hello()
    status, _ = await house.get("snapshot.png")
    assert status == 409
    assert stage.connections > 1
    assert set(stage.heard) == {CHECK}


async def test_a_player_says_that_it_consumes(house: House, stage: Stage) -> None:
    stage.first += frame(1) + end(1)
    status, body = await house.get("stream.y4m")
    await stage.hears(CONSUME)
    first = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F5:1 Ip A1:1 Cmono Xstream=s\n".encode()
    assert (status, body) == (200, first + b"FRAME Xseq=1 Xpts=0.2\n" + b"\1" * SIZE)


async def test_players_are_bounded(
    house: House, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operatord.gateway.streams.hub.VIEWERS", 1)
    async with house.http.get(house.url + "/stream.y4m") as response:
        await response.content.readany()
        status, body = await house.get("stream.y4m")
        assert (status, b"players already" in body) == (429, True)
        response.close()
    await stage.has(0)


async def test_a_player_whose_system_is_silent_is_let_go(
    house: House, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "LOST_AFTER", 0.05)
    silent = False
    monkeypatch.setattr(pulse, "_unanswered", lambda _: silent)
    async with house.http.get(house.url + "/stream.y4m") as response:
        await response.content.readany()
        silent = True
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    await stage.has(0)
