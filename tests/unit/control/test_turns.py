# SPDX-License-Identifier: MIT
"""How much of one connection is done at a time, and what is said to those who ask alike."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from operatord.config import Config
from operatord.control.backlog import SLICE
from operatord.control.connection import COST, TURN, Connection
from operatord_protocol.framing import split_lines

PING = b'{"jsonrpc":"2.0","id":%d,"method":"system.ping"}\n'
LOGIN = b'{"id":%d,"method":"auth.login","params":{"token":"t"}}\n'
MOST = TURN + SLICE // len(PING)
"""A turn ends after a whole slice."""


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and says so when it was asked to read no more."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self._sock = socket.socket(socket.AF_UNIX)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def replies(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in split_lines(b"".join(self.written))]

    def ids(self) -> list[int]:
        return [reply["id"] for reply in self.replies()]

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sock

    def close(self) -> None:
        self._sock.close()


class StepClock:
    """A clock that goes on by a second at each look."""

    seconds = 0

    def wall(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
async def wire() -> Any:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
async def connection(wire: Wire) -> Connection:
    services = SimpleNamespace(config=Config(), clock=StepClock())
    host: Any = SimpleNamespace(services=services, opened=lambda _: 1, closed=lambda _: None)
    connection = Connection(host)
    connection.connection_made(wire)
    return connection


async def one_round() -> None:
    await asyncio.sleep(0)


async def test_a_turn_is_bounded_and_the_next_one_waits_for_the_others(
    wire: Wire, connection: Connection
) -> None:
    connection.data_received(b"".join(PING % number for number in range(4000)))
    assert TURN <= len(wire.ids()) <= MOST
    assert not wire.reading
    before = len(wire.ids())
    await one_round()
    assert TURN <= len(wire.ids()) - before <= MOST
    while not wire.reading:
        await one_round()
    assert wire.ids() == list(range(4000))


async def test_what_takes_longer_fills_a_turn_sooner(wire: Wire, connection: Connection) -> None:
    connection.data_received(b"".join(LOGIN % number for number in range(1000)))
    assert len(wire.ids()) == TURN // (1 + COST)
    while not wire.reading:
        await one_round()
    assert wire.ids() == list(range(1000))


async def test_silent_requests_fill_a_turn_as_well(wire: Wire, connection: Connection) -> None:
    silent = b'{"jsonrpc":"2.0","method":"system.ping"}\n'
    connection.data_received(silent * (MOST + 1) + PING % 7)
    assert wire.written == []
    while not wire.reading:
        await one_round()
    assert wire.ids() == [7]


async def test_there_is_one_next_turn_however_often_it_is_asked_for(
    wire: Wire, connection: Connection
) -> None:
    connection.data_received(b"".join(PING % number for number in range(9000)))
    connection.pause_writing()
    for _ in range(5):
        connection.resume_writing()
    before = len(wire.ids())
    await one_round()
    assert len(wire.ids()) - before <= MOST


async def test_a_peer_that_does_not_read_is_answered_no_more(
    wire: Wire, connection: Connection
) -> None:
    connection.pause_writing()
    connection.data_received(b"".join(PING % number for number in range(3)))
    await one_round()
    assert wire.written == []
    assert not wire.reading
    connection.resume_writing()
    assert wire.ids() == [0, 1, 2]
    assert wire.reading


async def test_who_asks_alike_in_one_turn_hears_the_same_and_later_the_time_has_gone_on(
    wire: Wire, connection: Connection
) -> None:
    connection.data_received((PING % 1) * 3)
    connection.data_received(PING % 2)
    times = [reply["result"]["time"][-4:] for reply in wire.replies()]
    assert times == ["000Z"] * 4
    seconds = [reply["result"]["time"][17:19] for reply in wire.replies()]
    assert seconds == ["01", "01", "01", "02"]


MIXED = [
    b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}',
    b'{"method":"system.ping"}',
    b'{"method":"system.ping","id":"a:b","params":{}}',
    b'{"params":[],"method":"system.ping","id":"\\u0041"}',
    b'{"method":"system.ping","params":{"x":1},"id":2}',
    b'{"jsonrpc":"2.0","method":"system.ping"}',
    b'{"jsonrpc":"2.0","method":"system.pong"}',
    b'{"jsonrpc":"1.0","id":3,"method":"system.ping"}',
    b'{"id":4,"method":"system.ping","method":"system.ping"}',
    b'{"id":5,"method":"system.pong"}',
    b'{"method":"system.ping"}{"method":"system.ping"}',
    b"not json",
    b'  {"method":"system.ping","id":6} ',
    b'{"id":7,"method":"auth.login","params":{}}',
    b'{"jsonrpc":"2.0","id":8,"method":"system.ping","params":{}}',
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_a_mixed_batch_is_answered_like_its_lines_one_by_one(
    wire: Wire, connection: Connection, end: bytes
) -> None:
    for line in MIXED:
        connection.data_received(line + end)
    alone = wire.replies()
    wire.written.clear()
    connection.data_received(b"".join(line + end for line in MIXED))
    assert untimed(wire.replies()) == untimed(alone)
    assert len(wire.written) == 1, "one write for one batch"


def untimed(replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for reply in replies:
        if "time" in reply.get("result", {}):
            reply["result"]["time"] = "now"
    return replies
