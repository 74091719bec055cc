# SPDX-License-Identifier: MIT
"""Frames from a location, whole and in pieces."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable

import pytest
from client_stub import StreamServer, golden_stream, stream_of
from daemon_lab import PATIENCE

from operatord_client import (
    AsyncFrameStream,
    LocationUnreachable,
    StreamError,
    async_frames,
    async_open_frames,
    async_open_raw,
    open_frames,
    open_raw,
)
from operatord_client._transport.reception import Reception, address_of
from operatord_protocol.messages import Location

Serve = Callable[..., StreamServer]
CLOSED = "this stream was closed here"
Y4M = b"YUV4MPEG2 W2 H2 F30:1 Ip A1:1 Cmono\nFRAME Xseq=0\n\x00\x01\x02\x03"


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_frames_hello_and_end_in_any_chunking(serve: Serve, chunk: int) -> None:
    server = serve(golden_stream("a whole stream"), chunk=chunk)
    with open_frames(server.address) as stream:
        assert (stream.hello.width, stream.hello.height, stream.hello.count) == (2, 2, 2)
        assert stream.end is None
        images = [frame.image for frame in stream]
    assert images == [b"\x00\x01\x02\x03", b'\n{"}']
    assert stream.end is not None
    assert (stream.end.frames, stream.end.dropped, stream.received) == (2, 0, 2)


def test_masks_come_with_what_was_found(serve: Serve) -> None:
    with open_frames(serve(stream_of(1, dice=0.9)).address) as stream:
        frame = next(stream)
    part = frame.part("mask")
    assert frame.mask == bytes(4)
    assert part is not None
    assert part.dice == 0.9


def test_an_ended_stream_stays_ended(serve: Serve) -> None:
    stream = open_frames(serve(stream_of(1)).address)
    assert len(list(stream)) == 1
    assert list(stream) == []


def test_a_stream_without_its_end_was_cut_off(serve: Serve) -> None:
    whole = stream_of(3)
    with open_frames(serve(whole[: whole.rindex(b'{"type": "end"')]).address) as stream:
        seen = [next(stream).seq for _ in range(3)]
        with pytest.raises(StreamError, match="cut off before its end"):
            next(stream)
    assert seen == [0, 1, 2]


def test_an_end_that_counts_more_frames_than_came_is_an_error(serve: Serve) -> None:
    lossy = stream_of(3).replace(b'"frames": 3', b'"frames": 5')
    with open_frames(serve(lossy).address) as stream:
        seen = [next(stream).seq for _ in range(3)]
        with pytest.raises(StreamError, match="has sent 5, and 3 have come"):
            next(stream)
    assert (seen, stream.end) == ([0, 1, 2], None)


def test_an_end_that_counts_fewer_frames_is_taken(serve: Serve) -> None:
    with open_frames(serve(stream_of(3).replace(b'"frames": 3', b'"frames": 2')).address) as stream:
        assert len(list(stream)) == 3


def test_a_port_without_a_hello_is_no_stream(serve: Serve) -> None:
    with (
        pytest.raises(
            StreamError, match=r"before its hello; most likely .* read .* `operatorctl get"
        ),
        open_frames(serve(b"").address),
    ):
        pass
    stream = open_frames(serve(b"").address)
    with pytest.raises(StreamError, match="before its hello"):
        stream.hello  # noqa: B018
    stream.close()


def test_silence_beyond_the_timeout_is_an_error(serve: Serve) -> None:
    server = serve(stream_of(3)[:40], hold=True)
    stream = open_frames(server.address, timeout=0.01)
    with pytest.raises(StreamError, match="fell silent"):
        next(stream)
    stream.close()


def test_y4m_is_taken_raw(serve: Serve) -> None:
    server = serve(Y4M)
    with open_raw(server.address) as raw:
        assert raw.readline().startswith(b"YUV4MPEG2 ")
        assert raw.read() == Y4M[Y4M.index(b"FRAME") :]
    with (
        pytest.raises(StreamError, match="open_raw"),
        open_frames(server.address),
    ):
        pass


def test_closing_a_stream_ends_it_for_whoever_waits(serve: Serve) -> None:
    whole = stream_of(3)
    held = serve(whole[: whole.rindex(b'{"type": "end"')], hold=True)
    stream = open_frames(held.address)
    seen: list[int] = []
    errors: list[BaseException] = []

    def read() -> None:
        try:
            seen.extend(frame.seq for frame in stream)
        except StreamError as exc:
            errors.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    while stream.received < 3:
        threading.Event().wait(0.001)
    stream.close()
    reader.join(PATIENCE)
    assert seen == [0, 1, 2]
    assert str(errors[0]) == CLOSED
    with pytest.raises(StreamError, match=CLOSED):
        next(stream)


async def test_closing_an_async_stream_ends_it_for_whoever_waits(serve: Serve) -> None:
    stream = async_open_frames(serve(stream_of(3)[:40], hold=True).address)
    reading = asyncio.ensure_future(anext(stream))
    while stream._raw is None:
        await asyncio.sleep(0.001)
    await stream.close()
    for read in (reading, anext(stream)):
        with pytest.raises(StreamError, match=CLOSED):
            await read


async def test_async_stream_that_is_closed_is_not_connected_any_more(serve: Serve) -> None:
    address = serve(stream_of(3)).address
    stream = async_open_frames(address)
    await stream.close()
    with pytest.raises(StreamError, match=CLOSED):
        await anext(stream)
    assert stream._raw is None

    async def connect() -> async_frames.RawStream:
        raw = await async_open_raw(address)
        await late.close()
        return raw

    late = AsyncFrameStream(connect)
    with pytest.raises(StreamError, match=CLOSED):
        await anext(late)
    assert late._raw is not None
    assert late._raw[1].is_closing()


def test_connection_that_breaks_is_told_with_the_reason() -> None:
    broken = Reception().broken
    reset = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert str(broken(reset)) == "the stream was cut off: connection reset by peer"
    assert str(broken(TimeoutError())) == "the stream fell silent"


def test_nobody_at_the_location_is_said(serve: Serve) -> None:
    server = serve(b"")
    server.close()
    with pytest.raises(LocationUnreachable, match="nothing answers at"):
        open_frames(server.address)


def test_a_location_is_a_message_a_url_or_a_pair() -> None:
    location = Location(host="10.0.0.1", port=7, url="tcp://10.0.0.1:7", format="json")
    assert address_of(location) == address_of("tcp://10.0.0.1:7") == address_of(("10.0.0.1", 7))
    assert address_of("[::1]:7").host == "::1"


async def test_the_async_twin_reads_the_same(serve: Serve) -> None:
    server = serve(golden_stream("a whole stream"), chunk=5)
    stream = async_open_frames(server.address)
    with pytest.raises(StreamError, match=r"has not come yet: .* await open\(\) first"):
        stream.hello  # noqa: B018
    async with stream:
        assert stream.hello.count == 2
        images = [frame.image async for frame in stream]
    assert images == [b"\x00\x01\x02\x03", b'\n{"}']
    assert stream.end is not None


async def test_the_async_twin_says_when_a_stream_is_cut_or_silent(serve: Serve) -> None:
    with pytest.raises(StreamError, match="before its hello"):
        await async_open_frames(serve(b"").address).__aenter__()
    silent = async_open_frames(serve(b"{", hold=True).address, timeout=0.01)
    with pytest.raises(StreamError, match="fell silent"):
        await anext(silent)
    await silent.close()


UNFIT = [
    b'{"type":"frame","seq":2,"parts":[{"name":"depth","bytes":4}]}\nABCD',
    b'{"type":"frame","seq":2,"parts":[{"name":"image","bytes":3}]}\nABC',
    b'{"type":"frame","seq":2,"parts":[{"name":"image","bytes":4},{"name":"mask","bytes":1}]}\nABCDE',
    b'{"type":"frame","parts":[]}\n',
    b"\xff\n",
]


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_frame_that_does_not_fit_is_a_stream_error_after_those_that_do(
    serve: Serve, unfit: bytes
) -> None:
    """A15: whole frames that came in the same packet are not lost over it."""
    whole = stream_of(2)
    said = whole[: whole.rindex(b'{"type": "end"')] + unfit
    with open_frames(serve(said, hold=True).address, timeout=20) as stream:
        assert [next(stream).seq, next(stream).seq] == [0, 1]
        for _ in range(2):
            with pytest.raises(StreamError):
                next(stream)


@pytest.mark.parametrize("unfit", UNFIT)
async def test_the_async_twin_says_the_same_of_it(serve: Serve, unfit: bytes) -> None:
    """A15: whole frames that came in the same packet are not lost over it."""
    whole = stream_of(2)
    said = whole[: whole.rindex(b'{"type": "end"')] + unfit
    async with async_open_frames(serve(said, hold=True).address, timeout=20) as stream:
        assert [(await anext(stream)).seq, (await anext(stream)).seq] == [0, 1]
        with pytest.raises(StreamError):
            await anext(stream)
