# SPDX-License-Identifier: MIT
"""One picture of a session, which costs nobody a frame."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, Wire, in_process, receive
from streams_lab import SIZE, Site

from operatord.gateway.pictures import contour


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    stages = {"stream": {"allow_env": ["unread"]}}
    config = {"engine": "process", "pipelines": {"stream": {"stages": stages}}}
    async with in_process(tmp_path / "state", config) as running:
        yield running


def pixels(png: bytes) -> bytes:
    """Return the pixels of a grey PNG of 256×256 without filters."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">IIBB", png[16:26]) == (256, 256, 8, 0)
    [size] = struct.unpack(">I", png[33:37])
    rows = zlib.decompress(png[41 : 41 + size])
    return b"".join(rows[y * 257 + 1 : (y + 1) * 257] for y in range(256))


async def snapshot(site: Site, session: Json, more: str = "") -> bytes:
    status, headers, body = await site.get(f"/sessions/{session['session_id']}/snapshot.png{more}")
    assert (status, headers["Content-Type"]) == (200, "image/png"), body
    assert headers["Cache-Control"] == "no-store"
    return pixels(body)


def outlined(frame: tuple[Json, dict[str, bytes]]) -> bytes:
    _, parts = frame
    mask = parts.get("mask")
    image = memoryview(parts["image"])
    return bytes(contour.drawn(image, None if mask is None else memoryview(mask), 256))


@pytest.mark.parametrize("fps", [0, 100])
async def test_of_an_unread_session_it_is_the_first_frame_and_costs_none(
    wire: Wire, site: Site, fps: int
) -> None:
    session = await wire.call("session.start", count=40, env={"probe": {"fps": fps}})
    pictures = [await snapshot(site, session) for _ in range(3)]
    plain = await snapshot(site, session, "?mask=0")
    assert "unread_since" in await wire.call("session.get", session_id=session["session_id"])
    _, frames, end = await receive(session["location"])
    assert [header["seq"] for header, _ in frames] == list(range(40))
    assert end == {"type": "end", "frames": 40, "dropped": 0}
    assert set(pictures) == {outlined(frames[0])}
    assert plain == frames[0][1]["image"] != pictures[0]
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["frames"]) == ("completed", 40)


async def test_of_a_session_that_is_read_it_is_a_frame_of_now_and_the_reader_has_all(
    wire: Wire, site: Site
) -> None:
    session = await wire.call("session.start", count=100, env={"probe": {"fps": 50}})
    reading = asyncio.create_task(receive(session["location"]))
    pictures = []
    while not reading.done():
        status, _, body = await site.get(f"/sessions/{session['session_id']}/snapshot.png")
        if status == 200:
            pictures.append(pixels(body))
        else:  # it has come to its end
            assert status == 409 or b"stream" in body
            break
    _, frames, end = await reading
    assert (len(frames), end["dropped"]) == (100, 0)
    known = [outlined(frame) for frame in frames]
    assert [picture for picture in pictures if picture not in known] == []
    assert len(set(pictures)) > 2


async def test_of_a_session_that_is_read_slowly_it_is_waited_for(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=3, env={"probe": {"fps": 2}})
    reading = asyncio.create_task(receive(session["location"]))
    picture = await snapshot(site, session)
    _, frames, _ = await reading
    assert picture in [outlined(frame) for frame in frames]


async def test_where_somebody_looks_it_is_what_is_shown(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=2000, env={"probe": {"fps": 30}})
    async with site.viewer(session["session_id"]) as viewer:
        await viewer.hello()
        shown = [(await viewer.frame())[1]]
        picture = await snapshot(site, session, "?mask=0")
        while shown[-1][:SIZE] != picture:
            shown.append((await viewer.frame())[1])
            assert len(shown) < 100
    await wire.call("session.stop", session_id=session["session_id"])


@pytest.mark.parametrize("more", [{"plain_stream": True}, {"format": "y4m"}])
async def test_of_any_session(wire: Wire, site: Site, more: Json) -> None:
    session = await wire.call("session.start", count=10, env={"probe": {"fps": 0}}, **more)
    picture = await snapshot(site, session)
    other = await wire.call(
        "session.start", count=10, env={"probe": {"fps": 0}}, plain_stream="plain_stream" in more
    )
    _, frames, _ = await receive(other["location"])
    assert picture == outlined(frames[0])
    await wire.call("session.stop", session_id=session["session_id"])


async def test_of_a_stream_that_nobody_holds_it_is_the_present(wire: Wire, site: Site) -> None:
    env = {"probe": {"fps": 100}, "stream": {"unread": "drop"}}
    session = await wire.call("session.start", count=5000, env=env, plain_stream=True)
    first = await snapshot(site, session)
    assert await snapshot(site, session) != first
    await wire.call("session.stop", session_id=session["session_id"])


async def test_many_who_ask_share_one_look(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=10, env={"probe": {"fps": 0}})
    pictures = await asyncio.gather(*(snapshot(site, session) for _ in range(20)))
    assert len(set(pictures)) == 1
    assert len((await receive(session["location"]))[1]) == 10


async def test_a_head_is_answered_without_a_look(wire: Wire, site: Site) -> None:
    session = await wire.call("session.start", count=10, env={"probe": {"fps": 0}})
    path = f"/sessions/{session['session_id']}/snapshot.png"
    status, headers, body = await site.get(path, "HEAD")
    assert (status, headers["Content-Type"], body) == (200, "image/png", b"")
    await wire.call("session.stop", session_id=session["session_id"])


@pytest.mark.parametrize(
    ("query", "path", "told"),
    [
        ("?mask=2", "mask", "mask is 1 or 0, not '2'"),
        ("?maks=0", "maks", "did you mean 'mask'?"),
        ("?mask=0&mask=1", "mask", "there twice"),
    ],
)
async def test_a_query_is_taken_strictly(site: Site, query: str, path: str, told: str) -> None:
    status, error = await site.refused(f"/sessions/0000000000000000/snapshot.png{query}")
    assert (status, error["data"]["path"]) == (400, path)
    assert told in error["message"]


async def test_where_there_is_none_that_is_told(wire: Wire, site: Site) -> None:
    status, error = await site.refused("/sessions/0000000000000000/snapshot.png")
    assert (status, error["data"]["type"]) == (404, "not_found")
    status, error = await site.refused("/sessions/one/snapshot.png")
    assert (status, error["data"]["type"]) == (400, "invalid_params")
    session = await wire.call("session.start", count=10)
    await wire.call("session.stop", session_id=session["session_id"])
    status, error = await site.refused(f"/sessions/{session['session_id']}/snapshot.png")
    assert (status, error["message"]) == (
        409, f"session {session['session_id']} has ended, and its stream is gone; start another",
    )  # fmt: skip
