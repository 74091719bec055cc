# SPDX-License-Identifier: MIT
"""Readers that are slower than a stream: the newest frame, and nobody who waits for them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_stub import Listener, StreamServer, StubDaemon, located, stream_of

from operatord_client import (
    AsyncClient,
    Client,
    StreamError,
    async_open_frames,
    frames,
    open_frames,
)
from operatord_client._transport import reception
from operatord_protocol.messages import Location

Serve = Callable[..., StreamServer]
WHOLE = stream_of(5)
WITHOUT_END = WHOLE[: WHOLE.rindex(b'{"type": "end"')]


class Dictated(Listener):
    """Sends what it is told to, when it is told to, and keeps the first line that is sent to it."""

    def __init__(self) -> None:
        self.first_line = b""
        self.heard = threading.Event()
        self.connected = threading.Event()
        self._peer: socket.socket | None = None
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        self._peer = connection
        self.connected.set()
        with connection.makefile("rb") as lines:
            while line := lines.readline():
                self.first_line += line
                self.heard.set()

    def say(self, data: bytes) -> None:
        self.connected.wait()
        assert self._peer is not None
        self._peer.sendall(data)


@pytest.fixture
def dictated() -> Iterator[Dictated]:
    server = Dictated()
    yield server
    server.close()


def test_newest_frame_is_had_and_those_before_it_are_passed_over(serve: Serve) -> None:
    """N11."""
    with open_frames(serve(WITHOUT_END, hold=True).address) as stream:
        frame = stream.latest()
        assert frame is not None
        assert (frame.seq, stream.skipped, stream.received) == (4, 4, 1)


async def test_newest_frame_is_had_with_asyncio(serve: Serve) -> None:
    """N11."""
    async with async_open_frames(serve(WITHOUT_END, hold=True).address) as stream:
        frame = await stream.latest()
        assert frame is not None
        assert (frame.seq, stream.skipped, stream.received) == (4, 4, 1)


@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_after_the_end_there_is_none(serve: Serve, chunk: int) -> None:
    with open_frames(serve(WHOLE, chunk=chunk).address) as stream:
        seen = []
        while (frame := stream.latest()) is not None:
            seen.append(frame.seq)
        assert stream.latest() is None
    assert seen[-1] == 4
    assert stream.received + stream.skipped == 5
    assert stream.end is not None and stream.end.frames == 5


async def test_after_the_end_there_is_none_with_asyncio(serve: Serve) -> None:
    async with async_open_frames(serve(WHOLE).address) as stream:
        seen = []
        while (frame := await stream.latest()) is not None:
            seen.append(frame.seq)
    assert seen[-1] == 4
    assert stream.received + stream.skipped == 5
    assert stream.end is not None and stream.end.frames == 5


def test_error_comes_after_the_newest_frame_before_it(serve: Serve) -> None:
    with open_frames(serve(WITHOUT_END).address) as stream:
        while stream.received + stream.skipped < 5:
            assert stream.latest() is not None
        for _ in range(2):
            with pytest.raises(StreamError, match="cut off before its end"):
                stream.latest()


async def test_error_comes_after_the_newest_frame_before_it_with_asyncio(serve: Serve) -> None:
    async with async_open_frames(serve(WITHOUT_END).address) as stream:
        while stream.received + stream.skipped < 5:
            assert await stream.latest() is not None
        for _ in range(2):
            with pytest.raises(StreamError, match="cut off before its end"):
                await stream.latest()


def _pieces() -> list[bytes]:
    """Return a stream's hello, and each frame."""
    hello, *rest = WITHOUT_END.split(b'{"type": "frame"')
    return [hello, *(b'{"type": "frame"' + each for each in rest)]


def test_a_frame_is_waited_for_if_none_has_come(dictated: Dictated) -> None:
    hello, *rest = _pieces()
    stream = open_frames(dictated.address)
    dictated.say(hello + rest[0])
    frame = stream.latest()
    assert frame is not None and frame.seq == 0
    stream.before_read = lambda: dictated.say(rest[1])  # who reads has found nothing
    frame = stream.latest()
    assert frame is not None and frame.seq == 1
    stream.close()


def test_of_a_stream_that_is_faster_the_newest_so_far_is_had(
    dictated: Dictated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "SKIM", 0.01)
    hello, *rest = _pieces()
    stream = open_frames(dictated.address)
    dictated.say(hello)
    stream.before_read = lambda: dictated.say(rest[0])  # with each read there is more
    assert stream.latest() is not None
    stream.close()


def test_closed_stream_has_what_had_come_and_then_an_error(serve: Serve) -> None:
    stream = open_frames(serve(WITHOUT_END, hold=True).address)
    next(stream)
    stream.close()
    frame = stream.latest()
    assert frame is not None and frame.seq == 4
    with pytest.raises(StreamError, match="closed here"):
        stream.latest()


def test_live_reader_says_so(dictated: Dictated) -> None:
    """N11."""
    stream = open_frames(dictated.address, policy="live")
    assert dictated.heard.wait(20)
    assert json.loads(dictated.first_line) == {"type": "consume", "policy": "live"}
    stream.close()


def test_token_comes_before_that() -> None:
    place = Location(host="::1", port=7, url="tcp://[::1]:7", format="json", token="abc")
    opened, live = reception.first_words(place, "live").splitlines()
    assert json.loads(opened) == {"type": "open", "token": "abc"}
    assert json.loads(live) == {"type": "consume", "policy": "live"}


def test_session_is_read_so(client: Client, daemon: StubDaemon, dictated: Dictated) -> None:
    daemon.on("session.start", located(dictated))
    stream = client.start().frames(policy="live")
    assert dictated.heard.wait(20)
    assert b'"live"' in dictated.first_line
    stream.close()


async def test_session_is_read_so_with_asyncio(daemon: StubDaemon, dictated: Dictated) -> None:
    daemon.on("session.start", located(dictated))
    dictated_hello = threading.Thread(target=dictated.say, args=(_pieces()[0],))
    dictated_hello.start()
    async with AsyncClient(daemon.address) as client:
        session = await client.start()
        async with session.frames(policy="live"):
            pass
    dictated_hello.join()
    assert dictated.heard.wait(20)
    assert b'"live"' in dictated.first_line


@pytest.mark.parametrize("policy", ["lossless", "fastest", "Live", ""])
def test_another_policy_is_refused_with_where_it_is_set(policy: Any) -> None:
    for opening in (open_frames, async_open_frames):
        with pytest.raises(ValueError, match=r"policy is 'live', or None .* env="):
            opening(("127.0.0.1", 1), policy=policy)
