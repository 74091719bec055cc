# SPDX-License-Identifier: MIT
"""A process that is forked has connections of its own, and the parent's go on as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from client_stub import (
    EVENT,
    QUEUED,
    STARTED,
    StreamServer,
    StubDaemon,
    dump,
    golden,
    located,
    stream_of,
)

from operatord_client import AsyncClient, Client, ConnectionLost, StreamError

SUBSCRIBED = golden("rpc: subscribed")
PARENTS = "this connection belongs to the parent process: after a fork, make a new one"


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a process that is forked now; return how it exits: 0 if all went well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_child_talks_on_a_connection_of_its_own(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    client.ping()

    def talk() -> None:
        assert client.ping().pong
        client.close()

    assert in_a_child(talk) == 0
    assert client.ping().pong, "the parent's goes on"
    ids = [daemon.asked("system.ping")["id"] for _ in range(3)]
    assert ids == [1, 1, 2], "each counts what goes out on a connection"


def test_child_takes_back_nothing_that_the_parent_has_begun(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.start", QUEUED)
    daemon.on("system.ping", golden("rpc: ping"))
    reports = client.start_progress()
    next(reports)

    def leave() -> None:
        with pytest.raises(ConnectionLost):
            next(reports)
        client.close()

    assert in_a_child(leave) == 0
    assert client.ping().pong
    assert [daemon.requests.get()["method"] for _ in range(2)] == ["session.start", "system.ping"]
    reports.close()


def test_locks_of_other_threads_do_not_hold_up_the_child(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    connection = client._connection
    assert connection is not None
    with client._connecting, connection._lock, connection._out._writing:
        assert in_a_child(client.ping) == 0


def test_child_is_refused_what_the_parent_reads(
    daemon: StubDaemon, client: Client, serve: Callable[..., StreamServer]
) -> None:
    whole = stream_of(2)
    daemon.on("session.start", located(serve(whole[: whole.rindex(b'{"type": "end"')], hold=True)))
    daemon.on("events.subscribe", SUBSCRIBED)
    frames, events = client.start().frames(), client.events()
    assert [next(frames).seq, next(frames).seq] == [0, 1]

    def read() -> None:
        with pytest.raises(StreamError, match=PARENTS):
            next(frames)
        with pytest.raises(ConnectionLost, match=PARENTS):
            next(events)
        frames.close()
        events.close()

    assert in_a_child(read) == 0
    daemon.say(dump(EVENT))
    assert next(events).type == "session.running"
    assert frames.fileno() >= 0
    frames.close()
    events.close()


def test_feed_that_reconnects_goes_on_in_the_child_with_a_connection_of_its_own(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("events.subscribe", SUBSCRIBED, EVENT)
    with client.events(reconnect=True) as events:
        next(events)
        with events._renewing:  # type: ignore[attr-defined]
            assert in_a_child(lambda: next(events)) == 0
        for since in (None, EVENT["params"]["seq"]):
            assert daemon.asked("events.subscribe").get("params", {}).get("since") == since
        daemon.say(dump(EVENT))
        assert next(events).type == "session.running"


def test_session_is_not_ended_by_a_child_that_leaves_its_block(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.start", STARTED)
    daemon.on("session.stop", golden("rpc: stopped"))
    daemon.on("system.ping", golden("rpc: ping"))
    session = client.start()

    def leave() -> None:
        with pytest.raises(SystemExit), session:
            sys.exit()

    assert in_a_child(leave) == 0
    client.ping()
    assert [daemon.requests.get()["method"] for _ in range(2)] == ["session.start", "system.ping"]
    with session:
        pass
    assert session.info.outcome == "stopped"


# --- asyncio, which itself wants a loop of its own in a process that is forked ------------------------


def in_a_child_s_loop(work: Callable[[], Awaitable[object]]) -> int:
    async def run() -> None:
        await work()

    return in_a_child(lambda: asyncio.run(run()))


async def test_child_of_an_async_client_talks_on_a_connection_of_its_own(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    await aclient.ping()

    async def talk() -> None:
        assert (await aclient.ping()).pong
        await aclient.close()

    async with aclient._connecting:
        assert in_a_child_s_loop(talk) == 0
    assert (await aclient.ping()).pong, "the parent's goes on"
    ids = [(await asyncio.to_thread(daemon.asked, "system.ping"))["id"] for _ in range(3)]
    assert ids == [1, 1, 2], "each counts what goes out on a connection"


async def test_child_is_refused_what_an_async_parent_reads(
    daemon: StubDaemon, aclient: AsyncClient, serve: Callable[..., StreamServer]
) -> None:
    whole = stream_of(2)
    daemon.on("session.start", located(serve(whole[: whole.rindex(b'{"type": "end"')], hold=True)))
    daemon.on("events.subscribe", SUBSCRIBED)
    frames, events = (await aclient.start()).frames(), aclient.events()
    await events.open()
    assert [(await anext(frames)).seq, (await anext(frames)).seq] == [0, 1]

    async def read() -> None:
        with pytest.raises(StreamError, match=PARENTS):
            await anext(frames)
        with pytest.raises(ConnectionLost, match=PARENTS):
            await anext(events)
        await frames.close()
        await events.close()

    assert in_a_child_s_loop(read) == 0
    daemon.say(dump(EVENT))
    assert (await anext(events)).type == "session.running"
    await frames.close()
    await events.close()


async def test_async_feed_that_reconnects_goes_on_in_the_child(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("events.subscribe", SUBSCRIBED, EVENT)
    async with aclient.events(reconnect=True) as events:
        await anext(events)
        assert in_a_child_s_loop(events.take) == 0
        for since in (None, EVENT["params"]["seq"]):
            asked: dict[str, Any] = await asyncio.to_thread(daemon.asked, "events.subscribe")
            assert asked.get("params", {}).get("since") == since
        daemon.say(dump(EVENT))
        assert (await anext(events)).type == "session.running"


async def test_session_is_not_ended_by_a_child_that_leaves_its_async_block(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("session.start", STARTED)
    daemon.on("session.stop", golden("rpc: stopped"))
    daemon.on("system.ping", golden("rpc: ping"))
    session = await aclient.start()

    async def leave() -> None:
        async with session:
            pass

    assert in_a_child_s_loop(leave) == 0
    await aclient.ping()
    assert [daemon.requests.get()["method"] for _ in range(2)] == ["session.start", "system.ping"]
    async with session:
        pass
    assert session.info.outcome == "stopped"
