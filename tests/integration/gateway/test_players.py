# SPDX-License-Identifier: MIT
"""A session's stream over HTTP for players, as at its location; who may have it."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest
from daemon_lab import Json, Wire, receive, until
from streams_lab import SIZE, Site

from operatord.gateway.pictures import contour

FAST = {"probe": {"fps": 0}}
MANY = 1000  # frames of 128 KiB: more than all buffers on the way hold, one of which may grow to 32 MiB
FRAME = re.compile(rb"FRAME Xseq=(\d+) Xpts=[\d.]+\n", re.DOTALL)


def path(session: Json, query: str = "") -> str:
    return f"/sessions/{session['session_id']}/stream.y4m{query}"


def cut(stream: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the first line, and the frames by their numbers."""
    first, _, rest = stream.partition(b"\n")
    frames, at = [], 0
    while at < len(rest):
        head = FRAME.match(rest, at)
        assert head is not None, rest[at : at + 40]
        frames.append((int(head[1]), rest[head.end() : head.end() + SIZE]))
        at = head.end() + SIZE
    return first, frames


@pytest.mark.parametrize(
    ("more", "stage"),
    [({}, "segmentation"), ({"plain_stream": True}, "stream"), ({"format": "y4m"}, "y4m")],
)
async def test_a_player_has_every_frame_as_the_stage_would_draw_it(
    wire: Wire, site: Site, more: Json, stage: str
) -> None:
    session = await wire.call("session.start", count=25, env=FAST, **more)
    status, headers, body = await site.get(path(session))
    assert (status, headers["Content-Type"]) == (200, "video/x-yuv4mpeg")
    first, frames = cut(body)
    assert first == b"YUV4MPEG2 W256 H256 F30:1 Ip A1:1 Cmono Xstream=" + stage.encode()
    assert [seq for seq, _ in frames] == list(range(25))
    more.pop("format", None)
    truth = await wire.call("session.start", count=25, env=FAST, **more)
    _, received, _ = await receive(truth["location"])
    for (_, pixels), (_, parts) in zip(frames, received, strict=True):
        mask = parts.get("mask")
        image = memoryview(parts["image"])
        assert pixels == contour.drawn(image, None if mask is None else memoryview(mask), 256)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["frames"]) == ("completed", 25)


async def test_a_player_that_pauses_is_waited_for(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=MANY, env=FAST)

    async def held() -> bool:
        stats = await wire.call("session.stats", session_id=session["session_id"])
        said = stats["stages"]["segmentation"]
        return said.get("consumers") == 1 and said.get("blocked") == 1

    async with site.http.get(site.url + path(session)) as response:
        beginning = await response.content.readexactly(10)
        await until(held, "nobody waits for the player")
        _, frames = cut(beginning + await response.read())
    assert [seq for seq, _ in frames] == list(range(MANY))


async def test_a_live_player_is_waited_for_by_nobody(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=MANY, env=FAST)
    async with site.http.get(site.url + path(session, "?policy=live")) as response:
        beginning = await response.content.readexactly(10)
        _, frames, end = await receive(session["location"])
        assert end["dropped"] == 0 and frames[-1][0]["seq"] == MANY - 1
        _, played = cut(beginning + await response.read())
    assert 0 < len(played) < MANY


async def test_a_player_that_leaves_leaves_the_location(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=5000, env={"probe": {"fps": 100}})

    def reads(count: int) -> object:
        async def told() -> bool:
            stats = await wire.call("session.stats", session_id=session["session_id"])
            return stats["stages"]["segmentation"].get("consumers") == count

        return until(told, f"the stage does not see {count}")

    async with site.http.get(site.url + path(session)) as response:
        await response.content.readexactly(10)
        await reads(1)
        response.close()
    await reads(0)
    await wire.call("session.stop", session_id=session["session_id"])


async def test_a_stream_that_breaks_off_breaks_off_for_the_player(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=5000, env={"probe": {"fps": 100}})
    async with site.http.get(site.url + path(session)) as response:
        await response.content.readexactly(10)
        await wire.call("session.stop", session_id=session["session_id"])
        with pytest.raises((aiohttp.ClientPayloadError, ConnectionResetError)):
            await response.read()


async def test_a_head_begins_nothing(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=10, env=FAST)
    status, headers, body = await site.get(path(session), "HEAD")
    assert (status, headers["Content-Type"], body) == (200, "video/x-yuv4mpeg", b"")
    assert len((await receive(session["location"]))[1]) == 10


async def test_an_old_client_of_http_is_sent_the_stream_to_its_close(
    wire: Wire, site: Site
) -> None:
    session = await wire.call("session.start", count=5, env=FAST)
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path(session)} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"chunked" not in head.lower()
    assert len(cut(body)[1]) == 5


async def test_a_policy_is_live_or_none(wire: Wire, site: Site) -> None:
    status, error = await site.refused("/sessions/0000000000000000/stream.y4m?policy=lossy")
    assert (status, error["message"]) == (400, "policy is live, not 'lossy'")
