# SPDX-License-Identifier: MIT
"""Whose turn it is, how long it lasts, and what is said to those who ask alike."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from operatord.access.audit import Audit
from operatord.access.logins import Credentials, Logins
from operatord.control.verbs import EventFeed
from operatord.control.wire.backlog import LONG
from operatord.control.wire.connection import Connection
from operatord.control.wire.intake import Intake
from operatord.control.wire.outbox import SYSTEM
from operatord.control.wire.turns import SLICE, VISIT, Turn, Turns
from operatord.control.wire.unread import Unread
from operatord.machine.clock import Clock
from operatord.settings.config import Config
from operatord.store.events import EventLog
from operatord_protocol.checking import convert_params
from operatord_protocol.framing import split_lines

PING = b'{"jsonrpc":"2.0","id":%d,"method":"system.ping"}\n'
WORK = b'{"jsonrpc":"2.0","id":%d,"method":"system.undrain"}\n'
TASK = b'{"jsonrpc":"2.0","id":%d,"method":"system.drain"}\n'
COST = 0.0003
"""Seconds that one takes which is not answered alike, by the time that these tests go by."""
IN_A_SLICE = round(SLICE / COST) + 1
"""How many of them fit into a slice; the last one may exceed it."""


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

    def get_write_buffer_size(self) -> int:
        return 0

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


class Side:
    """The daemon's side of some connections: time passes only where something is done."""

    def __init__(self) -> None:
        self.time = 1.0
        self.done = 0
        self.turns = Turns(lambda: self.time, lambda: self.time)
        supervisor = SimpleNamespace(
            drain=lambda _: self._work(), registry=SimpleNamespace(living=list)
        )
        self.services = SimpleNamespace(
            config=Config(),
            clock=StepClock(),
            reload=self._work,
            supervisor=supervisor,
            events=EventLog(Clock()),
            new_subscription=count(1).__next__,
            logins=Logins(Credentials(), Clock().now, Audit(Clock().now)),
            audit=Audit(Clock().now),
        )
        self._wires: list[Wire] = []

    def _work(self) -> None:
        self.time += COST
        self.done += 1

    def connect(self) -> tuple[Wire, Connection]:
        host: Any = SimpleNamespace(
            services=self.services,
            turns=self.turns,
            unread=Unread(lambda: 1 << 30),
            intake=Intake(),
            opened=lambda _: 1,
            known=lambda _: None,
            closed=lambda _: None,
        )
        wire, connection = Wire(), Connection(host)
        connection.connection_made(wire)
        self._wires.append(wire)
        return wire, connection

    def close(self) -> None:
        for wire in self._wires:
            wire.close()


@pytest.fixture
async def side() -> Any:
    side = Side()
    yield side
    side.close()


@pytest.fixture
async def pair(side: Side) -> tuple[Wire, Connection]:
    return side.connect()


@pytest.fixture
async def wire(pair: tuple[Wire, Connection]) -> Wire:
    return pair[0]


@pytest.fixture
async def connection(pair: tuple[Wire, Connection]) -> Connection:
    return pair[1]


async def one_round() -> None:
    """Let there be a slice, and the look at what has arrived that comes between two."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def rounds_until(done: Callable[[], bool]) -> int:
    for number in range(10_000):
        if done():
            return number
        await one_round()
    raise AssertionError("it never came to that")


def some(line: bytes, number: int) -> bytes:
    return b"".join(line % n for n in range(number))


async def test_a_slice_of_time_is_all_that_is_done_before_the_loop_has_its_turn(
    wire: Wire, connection: Connection
) -> None:
    """A1: what a turn may do is counted in time, whatever it is that takes it."""
    connection.data_received(some(WORK, 1000))
    assert len(wire.ids()) <= IN_A_SLICE
    assert not wire.reading
    while len(wire.ids()) < 1000:
        before = len(wire.ids())
        await one_round()
        assert len(wire.ids()) - before <= IN_A_SLICE
    assert wire.ids() == list(range(1000))
    assert wire.reading


async def test_the_slice_is_one_for_all_connections_together(side: Side) -> None:
    """A1: a hundred connections get no more time than one before signals and timers have their turn."""
    for _ in range(120):
        side.connect()[1].data_received(some(WORK, 80))
    assert side.done <= IN_A_SLICE
    while side.done < 120 * 80:
        before = side.done
        await one_round()
        assert 0 < side.done - before <= IN_A_SLICE


async def test_who_asks_for_little_is_served_before_those_who_ask_for_much(side: Side) -> None:
    """A1: a neighbour's ping is answered in the next slice, however many lines others have waiting."""
    for _ in range(120):
        side.connect()[1].data_received(some(WORK, 80))
    await rounds_until(lambda: side.done > 120 * 4)
    wire, neighbour = side.connect()
    for number in range(20):
        side.time += 0.01
        neighbour.data_received(PING % number)
        await one_round()
        assert wire.ids()[-1:] == [number]
    assert side.done < 120 * 80


@pytest.mark.parametrize("each", [WORK % 1, b" " * 4000 + WORK % 1], ids=["little", "much"])
async def test_who_brings_little_is_served_before_hundreds_who_have_just_come(
    side: Side, each: bytes
) -> None:
    """A1: what a line takes is not known before, and all of them together ask for a second's work."""
    for _ in range(900):
        side.connect()[1].data_received(each)
    wire, neighbour = side.connect()
    neighbour.data_received(PING % 1)
    await one_round()
    assert wire.ids() == [1]
    assert side.done <= 2 * IN_A_SLICE


async def test_what_has_arrived_during_a_slice_is_answered_before_the_next(side: Side) -> None:
    """A1: a round of the event loop reads last, and what it has read goes before those who wait."""
    wire, neighbour = side.connect()
    side.connect()[1].data_received(some(WORK, 1000))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.get_running_loop().add_reader(ours, lambda: neighbour.data_received(PING % 1))
        before = side.done
        while side.done == before:
            await asyncio.sleep(0)
        theirs.send(b"x")  # in the middle of it, for all that the loop knows
        before = side.done
        await rounds_until(lambda: bool(wire.written))
        asyncio.get_running_loop().remove_reader(ours)
    assert side.done - before <= IN_A_SLICE


async def test_time_in_which_the_machine_did_something_else_is_nobodys_debt(side: Side) -> None:
    """A1: whoever was answered when the daemon had to wait for a core comes first the next time, too."""

    def wait_for_a_core(until: float) -> bool:
        side.time += 5
        return False

    turn = Turn(wait_for_a_core)
    Turns(lambda: side.time, lambda: 0.0).ask(turn, len(PING))
    assert turn.credit > 0


async def test_who_asks_for_much_is_not_forgotten_for_those_who_ask_for_little(side: Side) -> None:
    """A1: newcomers with little to do are many, and the others still get their share of the visits."""
    wire, greedy = side.connect()
    greedy.data_received(some(WORK, 200))
    for _ in range(100):
        for _ in range(IN_A_SLICE):
            side.connect()[1].data_received(WORK % 1)
        await one_round()
    assert len(wire.ids()) == 200


async def test_of_what_is_done_by_tasks_one_begins_in_each_round(side: Side) -> None:
    """A1: verbs that take their time are as costly to begin; hundreds of them do not begin all at once."""
    for _ in range(60):
        side.connect()[1].data_received(some(TASK, 60))
    while side.done < 60 * 60:
        before = side.done
        await asyncio.sleep(0)
        assert side.done - before <= 1
    await one_round()


async def test_ping_passes_hundreds_who_each_want_one_task(side: Side) -> None:
    """A1: whoever wants what takes no task does not wait for those who have just come and want one."""
    for _ in range(300):
        side.connect()[1].data_received(TASK % 1)
    wire, neighbour = side.connect()
    neighbour.data_received(PING % 2)
    await one_round()
    await one_round()
    assert wire.ids() == [2]
    neighbour.data_received(some(PING, 100) + some(WORK, 100))
    await rounds_until(lambda: len(wire.ids()) == 201)
    assert side.done < 120, "the neighbour has used much, too, and wants no task all the same"
    await rounds_until(lambda: side.done == 400)
    await one_round()


async def test_what_tasks_take_is_charged_to_who_began_them(side: Side) -> None:
    """A1: whoever has tasks begun comes after a neighbour who asks for little."""
    for _ in range(60):
        side.connect()[1].data_received(some(TASK, 60))
    await rounds_until(lambda: side.done > 60 * 10)
    wire, neighbour = side.connect()
    for number in range(20):
        side.time += 0.01
        neighbour.data_received(PING % number)
        await rounds_until(lambda number=number: wire.ids()[-1:] == [number])
    assert side.done < 60 * 20
    await rounds_until(lambda: side.done == 60 * 60)
    await one_round()


async def test_nothing_is_done_for_who_has_gone(side: Side) -> None:
    """A1: what a client had still waiting when its connection was lost is never worked out."""
    connection = side.connect()[1]
    connection.data_received(some(WORK, 5000))
    done = side.done
    assert 0 < done < 5000
    connection.connection_lost(None)
    await one_round()
    await one_round()
    assert side.done == done


async def test_a_subscription_is_one_object_and_none_is_left_to_the_garbage_collector(
    side: Side,
) -> None:
    """It would stop the daemon for as long as it looks at all that thousands are made of."""
    wire, connection = side.connect()
    most = side.services.config.limits.subscriptions
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        connection.data_received(b'{"method":"events.subscribe"}\n' * most)
        while len(wire.replies()) < most:
            await asyncio.sleep(0)
        assert len(gc.get_objects()) - before < 2 * most
        connection.connection_lost(None)
        del connection
        await asyncio.sleep(0)
        assert not [each for each in gc.get_objects() if isinstance(each, (Connection, EventFeed))]
    finally:
        gc.enable()


async def test_a_line_for_which_all_breaks_ends_its_connection_only(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5: running out of memory while answering one peer leaves the others as they are."""
    wire, connection = side.connect()
    other_wire, other = side.connect()

    def broken(data: bytes) -> None:
        raise MemoryError

    aborted: list[bool] = []
    monkeypatch.setattr(wire, "write", broken)
    monkeypatch.setattr(wire, "abort", lambda: aborted.append(True), raising=False)
    connection.data_received(PING % 1)
    other.data_received(PING % 2)
    await one_round()
    assert aborted == [True]
    assert other_wire.ids() == [2]


async def test_who_has_half_closed_is_looked_after_though_its_lines_wait_for_long(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What subscribes may be among them: nothing else would tell that nobody is there."""
    monkeypatch.setattr(Turns, "ask", lambda *_: None)
    connection.data_received(PING % 1)
    connection.eof_received()
    assert connection._presence is not None
    connection._presence._knock()
    assert connection._presence._timer is not None
    connection._presence.end()


async def test_a_long_first_line_is_looked_at_where_it_begins_and_where_it_ends(
    wire: Wire, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: to look through all of it with each of its pieces costs more than to read them."""
    looked: list[bytes] = []
    monkeypatch.setattr(
        "operatord.control.wire.arrival.stranger", lambda begin: looked.append(begin[:1])
    )
    for piece in (
        b" ",
        b"\n ",
        b'{"id":1,',
        *[b" " * 4096] * 10,
        b'"method":"system.ping"}\n',
        PING % 2,
    ):
        connection.data_received(piece)
    assert looked == [b"{", b"{"]
    assert wire.ids() == [1, 2]


async def test_what_is_wrong_with_a_question_is_found_out_once(
    wire: Wire, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: for a long line this takes milliseconds."""
    looked: list[Any] = []

    def counted(params: Any, type_: Any) -> Any:
        looked.append(params)
        return convert_params(params, type_)

    monkeypatch.setattr("operatord.control.params.convert_params", counted)
    wrong = b'{"jsonrpc":"2.0","id":%d,"method":"system.ping","params":{"x":1}}\n'
    connection.data_received(PING % 1 + wrong % 2 + PING % 3)
    assert wire.ids() == [1, 2, 3]
    assert [list(reply)[-1] for reply in wire.replies()] == ["result", "error", "result"]
    assert looked.count({"x": 1}) == 1


async def test_the_system_keeps_little_for_who_does_not_read(
    wire: Wire, connection: Connection
) -> None:
    """A5: megabytes for each of a thousand take long to write, and to forget."""
    kept = wire.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert kept <= 2 * SYSTEM, "the kernel doubles what is asked for (socket(7))"


async def test_silent_requests_use_up_time_as_well(
    side: Side, wire: Wire, connection: Connection
) -> None:
    silent = b'{"jsonrpc":"2.0","method":"system.undrain"}\n'
    connection.data_received(silent * 500 + PING % 7)
    assert side.done <= IN_A_SLICE
    assert wire.written == []
    await rounds_until(lambda: wire.ids() == [7])
    assert side.done == 500


async def test_there_is_one_next_turn_however_often_it_is_asked_for(side: Side) -> None:
    """S5: whoever stops and goes on reading again and again gets no more turns for it."""
    wire, connection = side.connect()
    other_wire, other = side.connect()
    connection.data_received(some(WORK, 5000))
    other.data_received(some(WORK, 5000))
    for _ in range(20):
        connection.pause_writing()
        connection.resume_writing()
    ours, others = len(wire.ids()), len(other_wire.ids())
    for _ in range(20):
        await one_round()
    done = len(wire.ids()) - ours, len(other_wire.ids()) - others
    assert abs(done[0] - done[1]) <= 2 * (VISIT / COST + 1), done
    assert sum(done) <= 20 * IN_A_SLICE


async def test_a_peer_that_does_not_read_is_answered_no_more(
    wire: Wire, connection: Connection
) -> None:
    connection.pause_writing()
    connection.data_received(some(PING, 3))
    await one_round()
    assert wire.written == []
    assert wire.reading, "it may be about to read, and the system would have to be asked twice"
    connection.data_received(some(PING, LONG // len(PING)))
    assert not wire.reading
    connection.resume_writing()
    await rounds_until(lambda: wire.reading)
    await one_round()
    assert wire.ids() == [0, 1, 2, *range(LONG // len(PING))]


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
