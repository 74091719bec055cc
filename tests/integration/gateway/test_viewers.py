# SPDX-License-Identifier: MIT
"""Frames in a browser: whole sessions on the process engine, looked at through a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from daemon_lab import Json, Wire, receive, until
from streams_lab import SIZE, Site

FAST = {"probe": {"fps": 0}}


def paced(fps: int) -> Json:
    return {"probe": {"fps": fps}}


async def consumers(wire: Wire, session: Json) -> int:
    """Return how many the last stage has reported, once it has reported any."""
    found: list[int] = []

    async def reported() -> bool:
        stats = await wire.call("session.stats", session_id=session["session_id"])
        found.append(stats["stages"]["stream"].get("consumers", -1))
        return found[-1] >= 0

    await until(reported, "the stage reports nothing")
    return found[-1]


async def test_a_viewer_begins_a_session_and_sees_it_to_its_end(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=40, env=paced(100))
    async with site.viewer(session["session_id"]) as viewer:
        hello = await viewer.hello()
        frames, end = await viewer.rest()
        assert await viewer.close_code() == 1000
    assert (hello["stream"], hello["width"], hello["count"]) == ("segmentation", 256, 40)
    for header, parts in frames:
        assert [(part["name"], part["bytes"]) for part in header["parts"]] == [
            ("image", SIZE), ("mask", SIZE),
        ]  # fmt: skip
        assert header["parts"][1]["area"] == parts[SIZE:].count(255)
        assert len(parts) == 2 * SIZE
    assert end["frames"] == len(frames)
    assert frames[0][0]["seq"] + end["frames"] + end["dropped"] == frames[-1][0]["seq"] + 1
    assert viewer.notes[0] == {"type": "viewer", "dropped": 0, "viewers": 1}
    assert (await wire.call("session.wait", session_id=session["session_id"]))[
        "outcome"
    ] == "completed"


async def test_viewers_share_a_connection_and_see_the_same(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=2000, env=paced(50), plain_stream=True)
    async with contextlib.AsyncExitStack() as stack:
        viewers = [
            await stack.enter_async_context(site.viewer(session["session_id"])) for _ in range(3)
        ]
        for viewer in viewers:
            await viewer.hello()
            await viewer.frame()
        seen = [{(await viewer.frame())[0]["seq"] for _ in range(20)} for viewer in viewers]
        assert len(seen[0] & seen[1] & seen[2]) > 5
        assert await consumers(wire, session) == 1
    await wire.call("session.stop", session_id=session["session_id"])


async def test_a_viewer_that_does_not_read_costs_neither_reader_nor_other_viewers(
    wire: Wire, site: Site
) -> None:
    session = await wire.call("session.start", count=600, env=FAST)
    async with site.viewer(session["session_id"], watch=True) as slow:
        await slow.hello()
        async with site.viewer(session["session_id"], watch=True) as quick:
            await quick.hello()
            reading = asyncio.create_task(receive(session["location"]))
            seen, end = await quick.rest()
            _, frames, told = await reading
        assert (len(frames), told["dropped"]) == (600, 0)
        assert end["frames"] == len(seen) > 5
        late, end = await slow.rest()
        assert 0 < len(late) < len(seen) or end["dropped"] > 0
        assert late[0][0]["seq"] + end["frames"] + end["dropped"] == late[-1][0]["seq"] + 1


async def test_who_watches_begins_nothing_and_the_requester_has_every_frame(
    wire: Wire, site: Site
) -> None:
    session = await wire.call("session.start", count=60, env=paced(100))
    session_id = session["session_id"]
    async with site.viewer(session_id, watch=True) as viewer:
        assert (await viewer.hello())["watch"] is True
        await asyncio.sleep(0)
        assert "unread_since" in await wire.call("session.get", session_id=session_id)
        _, frames, end = await receive(session["location"])
        seen, _ = await viewer.rest()
    assert [header["seq"] for header, _ in frames] == list(range(60))
    assert end["dropped"] == 0
    assert seen


async def test_a_session_for_players_is_shown_as_well(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=30, env=paced(100), format="y4m")
    async with site.viewer(session["session_id"]) as viewer:
        hello = await viewer.hello()
        frames, _ = await viewer.rest()
        assert await viewer.close_code() == 1000
    assert (hello["width"], hello["height"], hello["fps"]) == (256, 256, 100)
    assert frames[-1][0]["seq"] == 29
    assert {len(parts) for _, parts in frames} == {SIZE}


async def test_a_session_that_is_about_to_run_is_waited_for(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=5, env=FAST, wait="accepted")
    async with site.viewer(session["session_id"]) as viewer:
        assert (await viewer.hello())["type"] == "hello"
        await viewer.rest()


async def test_a_session_that_is_stopped_closes_its_viewers(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=5000, env=paced(50))
    async with site.viewer(session["session_id"]) as viewer:
        await viewer.hello()
        await viewer.frame()
        await wire.call("session.stop", session_id=session["session_id"])
        while await viewer.message() is not None:
            pass
        assert viewer.ws.close_code == 1011
    async with site.viewer(session["session_id"]) as viewer:
        assert await viewer.close_code() == 4409
        assert "ended" in viewer.notes[0]["error"]["message"]


async def test_the_gateways_end_is_told(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=5000, env=paced(50))
    async with site.viewer(session["session_id"]) as viewer:
        await viewer.hello()
        await viewer.frame()
        ending = asyncio.create_task(site.runner.cleanup())
        while await viewer.message() is not None:
            pass
        assert viewer.ws.close_code == 1001
        await ending
    await wire.call("session.stop", session_id=session["session_id"])


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        ('{"type":"open"}', 4404, "there is no session"),
        ('{"type":"opne"}', 4400, "the first message is"),
        ('{"type":"open","tokn":"x"}', 4400, "tokn"),
        ('{"type":"open","token":5}', 4400, "token"),
        ("[" * 5000, 4400, "the first message is"),
        (b'{"type":"open"}', 4400, "the first message is"),
    ],
)
async def test_what_cannot_be_looked_at_is_told(
    site: Site, said: str | bytes, code: int, told: str
) -> None:
    async with site.http.ws_connect(site.url + "/sessions/0000000000000000/stream") as ws:
        await (ws.send_bytes(said) if isinstance(said, bytes) else ws.send_str(said))
        error = json.loads((await ws.receive()).data)["error"]
        assert told in error["message"]
        await ws.receive()
        assert ws.close_code == code


async def test_more_than_the_first_message_is_refused(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=500, env=paced(50))
    async with site.viewer(session["session_id"]) as viewer:
        await viewer.hello()
        await viewer.ws.send_str('{"type":"consume"}')
        while await viewer.message() is not None:
            pass
        assert viewer.ws.close_code == 4400
    await wire.call("session.stop", session_id=session["session_id"])


async def test_without_a_websocket_players_are_named(site: Site) -> None:
    status, error = await site.refused("/sessions/0000000000000000/stream")
    assert (status, "stream.y4m" in error["message"]) == (400, True)


async def test_when_all_have_left_the_location_is_left(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=5000, env=paced(100), plain_stream=True)
    async with site.viewer(session["session_id"]) as viewer:
        await viewer.hello()
        await viewer.frame()

    async def nobody_reads() -> bool:
        return await consumers(wire, session) == 0

    await until(nobody_reads, "the gateway still reads")
    await wire.call("session.stop", session_id=session["session_id"])
