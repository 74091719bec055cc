# SPDX-License-Identifier: MIT
"""How much one connection may ask for, and that those beside it do not notice."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import psutil
import pytest
from daemon_lab import Lab, Wire, in_process, until

from operatord.control.wire.backlog import ASIDE, LONG, SLICE
from operatord.control.wire.connection import Connection


async def test_pipelined_requests_are_all_answered(lab: Lab) -> None:
    wire = await lab.wire()
    ids = [wire.begin("system.ping") for _ in range(1000)]
    assert [(await wire.line())["id"] for _ in ids] == ids


async def test_id_of_a_pending_request_cannot_be_used_again(lab: Lab) -> None:
    wire = await lab.wire()
    gate = lab.fake.script.hold("start")
    wire.send('{"jsonrpc":"2.0","id":1,"method":"session.start"}')
    await gate.reached.wait()
    wire.send('{"jsonrpc":"2.0","id":1,"method":"session.start"}')
    while "method" in (reply := await wire.line()):
        pass
    assert reply["error"]["code"] == -32600
    gate.open.set()
    assert (await wire.reply(1))["phase"] == "running"
    assert len((await wire.call("session.list"))["sessions"]) == 1


async def test_daemon_stops_reading_past_the_in_flight_bound(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"in_flight": 4}}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        session = await other.call("session.start")
        for number in range(5):
            wire.send({"method": "session.wait", "id": number, "params": {
                "session_id": session["session_id"]}})  # fmt: skip
        wire.send('{"method":"system.drain","id":9}')
        for _ in range(3):
            assert (await other.call("system.status"))["draining"] is False
        await other.call("session.stop", session_id=session["session_id"])
        ids = [(await wire.line())["id"] for _ in range(6)]
        assert sorted(ids) == [0, 1, 2, 3, 4, 9]
        assert (await other.call("system.status"))["draining"] is True


@pytest.mark.parametrize("form", ["plain", "rpc", "notification", "with escapes"])
async def test_cancel_and_ping_pass_the_in_flight_bound(lab: Lab, form: str) -> None:
    """A13: with 64 requests pending and more behind them, one can be cancelled and a ping is answered."""
    wire, other = await lab.wire(), await lab.wire()
    session = await other.call("session.start")
    wait = {"method": "session.wait", "params": {"session_id": session["session_id"]}}
    wire.send(*({**wait, "id": f"w{number}"} for number in range(64 + 40)))
    wire.send('{"method":"system.ping","id":"p"}')
    assert (await wire.line())["id"] == "p"
    cancel: dict[str, str | bytes] = {
        "plain": '{"method":"request.cancel","id":"c","params":{"id":"w7"}}',
        "rpc": '{"jsonrpc":"2.0","method":"request.cancel","id":"c","params":{"id":"w7"}}',
        "notification": '{"jsonrpc":"2.0","method":"request.cancel","params":{"id":"w7"}}',
        "with escapes": '{"method":"request.canc\\u0065l","id":"c","params":{"id":"w7"}}',
    }
    wire.send(cancel[form])
    replies = [await wire.line() for _ in range(1 if form == "notification" else 2)]
    refused = next(reply for reply in replies if reply["id"] == "w7")
    assert refused["error"]["data"]["type"] == "cancelled"
    await other.call("session.stop", session_id=session["session_id"])
    rest = {(await wire.line())["id"] for _ in range(64 + 40 - 1)}
    assert rest == {f"w{number}" for number in range(64 + 40)} - {"w7"}


async def test_request_that_waits_for_room_is_cancelled_and_never_begins(lab: Lab) -> None:
    """A13: what is behind the 64 pending ones can be cancelled, too, each by its own id."""
    wire, other = await lab.wire(), await lab.wire()
    session = await other.call("session.start")
    wait = {"method": "session.wait", "params": {"session_id": session["session_id"]}}
    wire.send(*[wait] * 64)
    for number in (100, 101, 102):
        wire.send({"jsonrpc": "2.0", "method": "session.start", "id": number})
    for number in (101, 100, 102):
        refused = await wire.cancel(number)
        assert refused.type == "cancelled"
    await other.call("session.stop", session_id=session["session_id"])
    assert all(["result" in await wire.line() for _ in range(64)])
    assert len((await other.call("session.list"))["sessions"]) == 1


async def test_what_is_put_aside_for_others_to_pass_is_bounded(lab: Lab) -> None:
    """A13: behind the bound the daemon reads on for a ping, but not without end."""
    wire, other = await lab.wire(), await lab.wire()
    session = await other.call("session.start")
    wait = {"method": "session.wait", "params": {"session_id": session["session_id"]}}
    wire.send(*[wait] * 64)
    await wire.ask('{"method":"system.ping"}')
    wire.send(*[{"method": "system.drain"}] * 100_000)
    await other.call("system.ping")
    [mine] = [c for c in lab.daemon.server._connections if c.dispatcher._pending]
    await until(lambda: not mine._reading, "the daemon reads no more")
    assert sum(map(len, mine._backlog.aside)) < ASIDE + 2 * SLICE
    assert (await other.call("system.status"))["draining"] is False
    wire.reset()


async def test_flood_does_not_starve_a_neighbour(lab: Lab) -> None:
    wire, other = await lab.wire(), await lab.wire()
    wire.send(*['{"method":"system.ping"}'] * 50_000)
    flood = asyncio.ensure_future(lines(wire, 50_000))
    assert (await other.call("system.ping"))["pong"]
    assert not flood.done(), "the neighbour was answered after all of it"
    await flood


async def lines(wire: Wire, count: int) -> None:
    """Read so many lines."""
    for _ in range(count):
        await wire.reader.readline()


@pytest.mark.slow
async def test_reader_that_never_reads_does_not_grow_the_daemon(lab: Lab) -> None:
    for _ in range(30):
        session = await (wire := await lab.wire()).call("session.start")
        await wire.call("session.stop", session_id=session["session_id"])
    greedy, other = await lab.wire(), await lab.wire()
    greedy.writer.transport.pause_reading()  # nothing leaves the kernel's buffers
    before = psutil.Process(os.getpid()).memory_info().rss
    request = b'{"method":"session.list"}\n'
    raw = greedy.writer.transport.get_extra_info("socket")
    sent = 0
    for _ in range(200):  # until the daemon does not take any more
        try:
            sent += os.write(raw.fileno(), request * 2000)
        except BlockingIOError:
            assert (await other.call("system.ping"))["pong"]
    assert sent > len(request) * 2000
    grown = psutil.Process(os.getpid()).memory_info().rss - before
    assert grown < 64 * 1024**2, f"{grown >> 20} MiB for {sent >> 10} KiB of requests"
    greedy.reset()


async def test_one_batch_of_answers_is_bounded_as_well(tmp_path: Path) -> None:
    overlay = {"limits": {"output_bytes": "256KiB"}}
    async with in_process(tmp_path / "s", overlay) as lab:
        wire = await lab.wire()
        for _ in range(20):
            session = await wire.call("session.start")
            await wire.call("session.stop", session_id=session["session_id"])
        written: list[int] = []
        connection = next(iter(lab.daemon.server._connections))
        write = connection._transport.write
        connection._transport.write = lambda data: (written.append(len(data)), write(data))[1]
        wire.send(*[{"method": "session.list", "id": n} for n in range(500)])
        for number in range(500):
            assert (await wire.line())["id"] == number
        assert max(written) < 512 * 1024


async def test_connections_over_the_limit_get_one_clear_error(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"connections": 3}}) as lab:
        wires = [await lab.wire() for _ in range(3)]
        for wire in wires:
            await wire.call("system.ping")
        late = await lab.wire()
        error = (await late.line())["error"]
        assert error["data"]["type"] == "too_many_requests"
        assert error["data"]["retryable"] is True
        assert await late.at_end()
        assert (await wires[0].call("system.status"))["connections"] == 3
        await wires[1].close()
        await until(lambda: lab.daemon.server.connections == 2, "room again")
        assert (await (await lab.wire()).call("system.ping"))["pong"]


async def test_connection_without_requests_costs_no_thread_or_task(lab: Lab) -> None:
    await lab.daemon.journal.settled()
    before = len(asyncio.all_tasks())
    wires = [await lab.wire() for _ in range(50)]
    await wires[-1].call("system.ping")
    assert len(asyncio.all_tasks()) == before


async def test_line_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"line_timeout": 0.1}}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        assert (await wire.call("system.ping"))["pong"]
        wire.writer.write(b'{"method":"system.dra')
        error = (await wire.line())["error"]
        assert error["code"] == -32700
        assert "limits.line_timeout" in error["message"]
        wire.writer.write(b'in"}\n')
        assert await wire.at_end()
        assert (await other.call("system.status"))["draining"] is False


async def test_idle_connection_is_left_alone(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"line_timeout": 0.01}}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        session = await wire.call("session.start")
        await other.refusal("session.wait", session_id=session["session_id"], timeout=0.1)
        assert (await wire.call("system.ping"))["pong"]


async def test_line_may_take_its_time_while_the_daemon_does_not_read(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"in_flight": 1}}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        session = await other.call("session.start")
        params = {"session_id": session["session_id"]}
        wait = json.dumps({"method": "session.wait", "params": params}, separators=(",", ":"))
        puts_aside, puts_off = ASIDE // len(wait) + 2, LONG // len(wait) + 1
        wire.send(*[wait] * puts_aside)
        await until(lambda: any(_is_full(c) for c in lab.daemon.server._connections), "full")
        # In one piece, so that the half line has been read when the reading stops.
        wire.writer.write(f"{wait}\n".encode() * puts_off + b'{"method":"system.')
        await until(lambda: any(_is_put_off(c) for c in lab.daemon.server._connections), "it waits")
        [mine] = filter(_is_put_off, lab.daemon.server._connections)
        assert mine._late_line is not None
        mine._late_line.cancel()
        mine._line_is_late()
        assert mine._late_line is not None, "it is given its time anew"
        wire.writer.write(b'ping"}\n')
        await other.call("session.stop", session_id=session["session_id"])
        replies = [await wire.line() for _ in range(puts_aside + puts_off + 1)]
        assert sum("pong" in reply["result"] for reply in replies) == 1


def _is_full(connection: Connection) -> bool:
    """Tell whether no more requests are put aside."""
    return connection._backlog._aside_bytes >= ASIDE


def _is_put_off(connection: Connection) -> bool:
    """Tell whether more has been asked than is read before something of it is answered."""
    return bool(connection.dispatcher._pending) and not connection._reading
