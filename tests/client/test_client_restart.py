# SPDX-License-Identifier: MIT
"""Readers of events live through a restart of the daemon, and know what they have missed."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_stub import CLOSE, EVENT, StubDaemon, golden
from daemon_lab import PATIENCE, Served
from shared_host import free_port

from operatord_client import AsyncClient, Client, Event
from operatord_client._transport import resuming
from operatord_client._transport.resuming import FIRST_PAUSE, LONGEST_PAUSE, Bookmark
from operatord_client.errors import ConnectionLost, DaemonUnreachable, Forbidden

SUBSCRIBED = golden("rpc: subscribed")
GAP = {"jsonrpc": "2.0", "method": "event", "params": {"type": "events.lost", "from": 9, "to": 70}}
TERM, KILL = signal.SIGTERM, signal.SIGKILL


class Daemons:
    """One ``operatord serve`` after another, on the same port and state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.address = ("127.0.0.1", free_port())
        self._daemon: Served | None = None

    async def start(self) -> None:
        listen = "{}:{}".format(*self.address)
        arguments = ("--listen", listen, "--engine", "process")
        self._daemon = await Served.start(self._state_dir, *arguments)
        assert self._daemon.address == self.address

    async def stop(self, number: int = TERM) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            assert await daemon.stop(number) == (0 if number == TERM else -number)

    async def one_session(self) -> str:
        """Let a session come and go; return its id."""
        async with AsyncClient(self.address) as client:
            session = await client.start(plain_stream=True)
            await session.stop()
            return session.id


@pytest.fixture
async def daemons(tmp_path: Path) -> AsyncIterator[Daemons]:
    daemons = Daemons(tmp_path / "state")
    await daemons.start()
    yield daemons
    await daemons.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "LONGEST_PAUSE", 0.1)


class AsyncReader:
    """Reads events with the client for asyncio."""

    def __init__(self, address: Any, **options: Any) -> None:
        self._client = AsyncClient(address, timeout=PATIENCE)
        self.feed = self._client.events(reconnect=True, **options)

    async def open(self) -> None:
        await self.feed.open()

    async def take(self, timeout: float | None = PATIENCE) -> Event | None:
        return await self.feed.take(timeout)

    async def close(self) -> None:
        await self.feed.close()
        await self._client.close()


class SyncReader:
    """Reads events with the blocking client, on a thread."""

    def __init__(self, address: Any, **options: Any) -> None:
        self._client = Client(address, timeout=PATIENCE)
        self._options = options

    async def open(self) -> None:
        opened = asyncio.to_thread(self._client.events, reconnect=True, **self._options)
        self.feed = await opened

    async def take(self, timeout: float | None = PATIENCE) -> Event | None:
        return await asyncio.to_thread(self.feed.take, timeout)

    async def close(self) -> None:
        self.feed.close()
        self._client.close()


Reader = AsyncReader | SyncReader
READERS = pytest.mark.parametrize("kind", [AsyncReader, SyncReader], ids=["async", "sync"])


async def until_ended(reader: Reader, session_id: str) -> list[Event]:
    """Return all events up to the end of a session."""
    found: list[Event] = []
    while not found or (found[-1].type, found[-1].session_id) != ("session.ended", session_id):
        event = await reader.take()
        assert event is not None, f"nothing came after {found[-1:]}"
        found.append(event)
    return found


def gaps(events: list[Event], last: int) -> int:
    """Check that no number after ``last`` is left out or comes twice; return how many gaps were told."""
    told = 0
    for event in events:
        if event.lost is not None:
            assert event.lost[0] == last + 1
            last, told = event.lost[1], told + 1
        else:
            assert event.seq == last + 1
            last = event.seq
    return told


@READERS
async def test_nothing_is_missed_across_clean_restarts(
    daemons: Daemons, kind: type[Reader]
) -> None:
    reader = kind(daemons.address, since=0)
    await reader.open()
    sessions, events = [], []
    for _ in range(2):
        sessions.append(await daemons.one_session())
        events += await until_ended(reader, sessions[-1])
        await daemons.stop()
        await daemons.start()
    sessions.append(await daemons.one_session())
    events += await until_ended(reader, sessions[-1])
    assert gaps(events, 0) == 0
    starts = [event.session_id for event in events if event.type == "session.running"]
    assert starts == sessions
    await reader.close()


@READERS
async def test_gap_is_told_or_nothing_is_missed_after_a_kill(
    daemons: Daemons, kind: type[Reader]
) -> None:
    reader = kind(daemons.address, since=0)
    await reader.open()
    events = await until_ended(reader, await daemons.one_session())
    await daemons.one_session()  # of which nothing is read before the daemon is gone
    await daemons.stop(KILL)
    await daemons.start()
    events += await until_ended(reader, await daemons.one_session())
    while len({each.session_id for each in events if each.type == "session.ended"}) < 3:
        if gaps(events, 0):
            break
        events += await until_ended(reader, await daemons.one_session())
    assert gaps(events, 0) == 1, "numbers that may have been used are not used again"
    await reader.close()


@READERS
async def test_reader_from_now_on_that_has_seen_nothing_yet_misses_nothing(
    daemons: Daemons, kind: type[Reader]
) -> None:
    await daemons.one_session()
    reader = kind(daemons.address, types=["session.ended"])
    await reader.open()
    await daemons.stop()
    await daemons.start()
    session_id = await daemons.one_session()
    [event] = await until_ended(reader, session_id)
    assert event.session_id == session_id
    await reader.close()


@READERS
async def test_waiting_has_its_limit_while_the_daemon_is_away(
    daemons: Daemons, kind: type[Reader]
) -> None:
    reader = kind(daemons.address, types=["session.ended"])
    await reader.open()
    await daemons.stop()
    for _ in range(3):
        assert await reader.take(0.02) is None
    await daemons.start()
    assert (await until_ended(reader, await daemons.one_session()))[-1].type == "session.ended"
    await reader.close()


async def test_iteration_ends_when_the_feed_is_closed_while_the_daemon_is_away(
    daemons: Daemons,
) -> None:
    async with AsyncClient(daemons.address) as client:
        feed = client.events(reconnect=True, types=["probe.up"])
        await feed.open()
        reading = asyncio.ensure_future(anext(feed))
        await daemons.stop()
        await feed.close()
        with pytest.raises(StopAsyncIteration):
            await reading


async def test_blocked_thread_comes_back_when_the_feed_is_closed(daemons: Daemons) -> None:
    with Client(daemons.address) as client:
        feed = client.events(reconnect=True, types=["probe.up"])
        found: list[list[Event]] = []
        thread = threading.Thread(target=lambda: found.append(list(feed)))
        thread.start()
        await daemons.stop()
        feed.close()
        await asyncio.to_thread(thread.join, PATIENCE)
        assert found == [[]]


async def test_operatorctl_prints_on_after_a_restart(daemons: Daemons) -> None:
    address = "{}:{}".format(*daemons.address)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "operatord_client.operatorctl", "--address", address, "-o", "json",
        "events", "--reconnect", "--since", "0", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    events: list[dict[str, Any]] = []
    for leave in (daemons.stop, None):
        session_id = await daemons.one_session()
        while (
            not events or events[-1].get("session_id") != session_id or "outcome" not in events[-1]
        ):
            events.append(json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE)))
        if leave is not None:
            await leave()
            await daemons.start()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    process.send_signal(signal.SIGINT)
    await process.communicate()  # or its pipe would be open when the loop is closed
    assert process.returncode == 130


# Against a daemon made of script


def in_turn(*answers: list[Any]) -> Callable[[dict[str, Any]], list[Any]]:
    """Give each answer once, and the last one from then on."""
    left = itertools.chain(answers[:-1], itertools.repeat(answers[-1]))
    return lambda _: next(left)


@pytest.fixture
def events(daemon: StubDaemon) -> Iterator[Any]:
    """Return the events of a feed that reconnects, read by the blocking client."""
    with Client(daemon.address, timeout=PATIENCE) as client:
        yield lambda **options: client.events(reconnect=True, **options)


def sinces(daemon: StubDaemon, count: int) -> list[int | None]:
    asked = [daemon.asked("events.subscribe").get("params", {}) for _ in range(count)]
    return [params.get("since") for params in asked]


def test_next_subscription_begins_after_what_was_read(daemon: StubDaemon, events: Any) -> None:
    answers = in_turn([SUBSCRIBED, CLOSE], [SUBSCRIBED, EVENT, CLOSE], [SUBSCRIBED, GAP, CLOSE])
    daemon.on("events.subscribe", answers)
    with events(types=["a"]) as feed:
        assert next(feed).seq == EVENT["params"]["seq"]
        assert next(feed).lost == (9, 70)
        next(feed)
    newest = SUBSCRIBED["result"]["seq"]
    assert sinces(daemon, 4) == [None, newest, EVENT["params"]["seq"], 70]


def test_filters_are_kept(daemon: StubDaemon, events: Any) -> None:
    daemon.on("events.subscribe", in_turn([SUBSCRIBED, CLOSE], [SUBSCRIBED, EVENT]))
    with events(types=["a"], session_id="F00D", since=3) as feed:
        next(feed)
    for _ in range(2):
        params = daemon.asked("events.subscribe")["params"]
        assert params == {"types": ["a"], "session_id": "F00D", "since": 3}


def refusal(kind: str, code: int, retryable: bool) -> dict[str, Any]:
    data = {"type": kind, "retryable": retryable}
    return {"jsonrpc": "2.0", "error": {"code": code, "message": "no", "data": data}}


def test_refusal_that_would_come_again_is_raised(daemon: StubDaemon, events: Any) -> None:
    answers = in_turn([SUBSCRIBED, CLOSE], [refusal("forbidden", 2, False)])
    daemon.on("events.subscribe", answers)
    with events() as feed, pytest.raises(Forbidden):
        next(feed)


def test_refusal_that_passes_is_waited_out(daemon: StubDaemon, events: Any) -> None:
    busy = refusal("too_many_requests", 14, True)
    daemon.on("events.subscribe", in_turn([SUBSCRIBED, CLOSE], [busy], [SUBSCRIBED, EVENT]))
    with events() as feed:
        assert next(feed).seq == EVENT["params"]["seq"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_caller_with_less_time_than_a_pause_is_connected_again(
    daemon: StubDaemon, events: Any, aclient: AsyncClient, kind: str
) -> None:
    """Who looks in now and then, between other work, has what is left of the pause run on meanwhile."""
    busy = refusal("too_many_requests", 14, True)
    daemon.on("events.subscribe", in_turn([SUBSCRIBED, CLOSE], [busy], [SUBSCRIBED, EVENT]))
    found = None
    if kind == "sync":
        with events() as feed:
            for _ in range(200):
                found = found or feed.take(FIRST_PAUSE / 4)
    else:
        async with aclient.events(reconnect=True) as afeed:
            for _ in range(200):
                found = found or await afeed.take(FIRST_PAUSE / 4)
    assert found is not None
    assert found.seq == EVENT["params"]["seq"]


async def test_async_feed_does_the_same(daemon: StubDaemon, aclient: AsyncClient) -> None:
    busy, forbidden = refusal("too_many_requests", 14, True), refusal("forbidden", 2, False)
    answers = in_turn([SUBSCRIBED, CLOSE], [busy], [SUBSCRIBED, EVENT, CLOSE], [forbidden])
    daemon.on("events.subscribe", answers)
    async with aclient.events(reconnect=True) as feed:
        assert (await anext(feed)).seq == EVENT["params"]["seq"]
        with pytest.raises(Forbidden):
            await anext(feed)
    newest = SUBSCRIBED["result"]["seq"]
    assert sinces(daemon, 4) == [None, newest, newest, EVENT["params"]["seq"]]


@READERS
async def test_daemon_that_is_not_there_to_begin_with_is_said(kind: type[Reader]) -> None:
    reader = kind(("127.0.0.1", free_port()))
    with pytest.raises(DaemonUnreachable):
        await reader.open()


async def test_without_reconnect_a_lost_daemon_is_said(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("events.subscribe", SUBSCRIBED, CLOSE)
    async with aclient.events() as feed:
        with pytest.raises(ConnectionLost):
            await anext(feed)


def test_pauses_grow_to_a_limit_and_begin_anew_once_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resuming, "LONGEST_PAUSE", LONGEST_PAUSE)
    bookmark = Bookmark({})
    pauses = [bookmark.pause() for _ in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    bookmark.subscribed(3)
    assert bookmark.pause() == FIRST_PAUSE


def test_numbers_that_begin_anew_are_followed() -> None:
    """A daemon with another state directory says that it knows nothing of ours, and tells all it has."""
    bookmark = Bookmark({"since": 500})
    bookmark.read(Event("events.lost", None, "", None, {"from": 501, "to": 501}))
    bookmark.read(Event("session.queued", 1, "", None, {}))
    assert bookmark.params() == {"since": 1}
