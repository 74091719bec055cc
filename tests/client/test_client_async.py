# SPDX-License-Identifier: MIT
"""The client for asyncio against a scripted daemon."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_stub import (
    CLOSE,
    EVENT,
    LOG,
    LOG_END,
    QUEUED,
    REPORTS,
    SESSION_ID,
    STARTED,
    STARTING,
    StreamServer,
    StubDaemon,
    dump,
    golden,
    located,
    stream_of,
)
from daemon_lab import PATIENCE

from operatord_client import AsyncClient, AsyncRunningSession, Progress
from operatord_client.errors import (
    CallTimeout,
    ClientClosed,
    ConnectionLost,
    DaemonUnreachable,
    NotFound,
    StreamError,
)


async def asked(daemon: StubDaemon, method: str) -> dict[str, Any]:
    return await asyncio.to_thread(daemon.asked, method)


async def test_a_verb_returns_its_message(daemon: StubDaemon, aclient: AsyncClient) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    assert (await aclient.ping()).pong


async def test_a_refusal_raises_the_class_of_its_type(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("session.get", golden("error: no such session"))
    with pytest.raises(NotFound):
        await aclient.get(SESSION_ID)


async def test_calls_of_several_tasks_overtake_each_other(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    waiting = asyncio.create_task(aclient.wait(SESSION_ID))
    request = await asked(daemon, "session.wait")
    pings = await asyncio.gather(*(aclient.ping() for _ in range(5)))
    assert all(ping.pong for ping in pings)
    completed = {**golden("rpc: completed"), "id": request["id"]}
    daemon.on("system.reload", lambda r: [dump(completed), {**golden("rpc: reloaded")}])
    await aclient.reload()
    assert (await waiting).outcome == "completed"


async def test_the_reader_s_cancellation_leaves_the_others_an_answer(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    reader = asyncio.create_task(aclient.start())
    await asked(daemon, "session.start")
    other = asyncio.create_task(aclient.wait(SESSION_ID))
    request = await asked(daemon, "session.wait")
    reader.cancel()
    assert (await asked(daemon, "request.cancel"))["params"] == {"id": 1}
    daemon.on(
        "system.reload",
        golden("rpc: reloaded"),
        dump({**golden("rpc: completed"), "id": request["id"]}),
    )
    await aclient.reload()
    assert (await other).outcome == "completed"
    assert reader.cancelled()


async def test_a_call_that_times_out_is_cancelled(daemon: StubDaemon, aclient: AsyncClient) -> None:
    with pytest.raises(CallTimeout):
        await aclient.ping(call_timeout=0.01)
    assert (await asked(daemon, "request.cancel"))["params"] == {"id": 1}


async def test_nothing_there_is_daemon_unreachable(daemon: StubDaemon) -> None:
    daemon.close()
    with pytest.raises(DaemonUnreachable, match="nothing answers at"):
        await AsyncClient(daemon.address).ping()


async def test_a_lost_connection_is_said_until_reconnect(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("system.status", CLOSE)
    daemon.on("system.ping", golden("rpc: ping"))
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await aclient.status()
    await aclient.reconnect()
    assert (await aclient.ping()).pong


async def test_a_closed_client_says_so_until_connect(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("system.ping", golden("rpc: ping"), golden("rpc: ping"))
    await aclient.close()
    await aclient.close()
    with pytest.raises(ClientClosed, match=r"call its connect\(\) first"):
        await aclient.ping()
    with pytest.raises(ClientClosed):
        aclient.events(reconnect=True)
    with pytest.raises(ClientClosed):
        aclient.logs(SESSION_ID, follow=True)
    await aclient.connect()
    assert (await aclient.ping()).pong
    async with AsyncClient(daemon.address) as other:
        pass
    with pytest.raises(ClientClosed):
        await other.ping()


async def test_feed_that_is_opened_after_its_client_was_closed_says_so(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    feeds = (aclient.events(), aclient.events(reconnect=True), aclient.logs("", follow=True))
    await aclient.close()
    for feed in feeds:
        with pytest.raises(ClientClosed):
            await feed.take()
    assert daemon.requests.empty()


async def test_feed_of_a_closed_client_goes_on_but_does_not_connect_anew(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    hang_up = threading.Event()

    def until_told(_: dict[str, Any]) -> Iterator[Any]:
        yield from (golden("rpc: subscribed"), EVENT)
        assert hang_up.wait(PATIENCE)
        yield CLOSE

    daemon.on("events.subscribe", until_told)
    async with aclient.events(reconnect=True) as events:
        await aclient.close()
        assert (await anext(events)).type == "session.running"
        hang_up.set()
        with pytest.raises(ClientClosed):
            await anext(events)


async def test_a_start_reports_and_returns_a_running_session(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("session.start", QUEUED, STARTING, STARTED)
    reports: list[Progress] = []
    session = await aclient.start(on_progress=reports.append)
    assert [(r.position, r.stage, r.reason) for r in reports] == REPORTS
    assert session.id == SESSION_ID


async def test_start_progress_yields_reports_and_last_the_session(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("session.start", QUEUED, STARTED)
    items = [item async for item in aclient.start_progress(count=3)]
    assert [type(item) for item in items] == [Progress, AsyncRunningSession]


async def test_a_stream_taken_to_its_end_lets_the_session_complete(
    daemon: StubDaemon, aclient: AsyncClient, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(3))))
    daemon.on("session.wait", golden("rpc: completed"))
    async with await aclient.start() as session:
        assert [frame.seq async for frame in session.frames()] == [0, 1, 2]
    assert session.info.outcome == "completed"


async def test_a_session_that_fails_under_its_reader_says_why(
    daemon: StubDaemon, aclient: AsyncClient, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(3)[:-10])))
    daemon.on("session.wait", golden("rpc: failed"))
    daemon.on("session.stop", golden("rpc: stopped"))
    with pytest.raises(
        StreamError, match="before its end: the stage segmentation needed"
    ) as caught:
        async with await aclient.start() as session:
            _ = [frame async for frame in session.frames()]
    assert type(caught.value) is StreamError
    assert session.info.outcome == "failed"
    assert "session.stop" not in [request["method"] for request in daemon.requests.queue]


async def test_a_session_that_goes_on_after_its_stream_is_stopped_in_a_moment(
    daemon: StubDaemon,
    aclient: AsyncClient,
    serve: Callable[..., StreamServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("operatord_client.async_session.CUT_SECONDS", 0.05)
    daemon.on("session.start", located(serve(stream_of(3)[:-10])))
    daemon.on("session.stop", golden("rpc: stopped"))
    with pytest.raises(StreamError, match=r"before its end$"):
        async with await aclient.start() as session:
            _ = [frame async for frame in session.frames()]
    assert session.info.outcome == "stopped"


async def test_a_reader_that_leaves_asks_for_no_reason(
    daemon: StubDaemon, aclient: AsyncClient, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(3)[:-10], hold=True)))
    daemon.on("session.stop", golden("rpc: stopped"))
    async with await aclient.start() as session:
        await anext(session.frames())
    asked = [request["method"] for request in daemon.requests.queue]
    assert asked == ["session.start", "session.stop"]


async def test_leaving_a_session_stops_it(daemon: StubDaemon, aclient: AsyncClient) -> None:
    daemon.on("session.start", STARTED)
    daemon.on("session.stop", golden("rpc: stopped"))
    async with await aclient.start() as session:
        pass
    assert session.info.outcome == "stopped"


async def test_a_session_that_ended_without_a_location_has_no_frames(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("session.get", golden("rpc: failed"))
    daemon.on("session.wait", golden("rpc: failed"))
    session = await aclient.attach("77F0C1A2B3D4E5F6")
    with pytest.raises(StreamError, match="ended without a location"):
        await anext(session.frames())


async def test_events_are_iterated_and_a_lost_daemon_is_no_end(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT, CLOSE)
    async with aclient.events() as events:
        assert (await anext(events)).type == "session.running"
        with pytest.raises(ConnectionLost):
            await anext(events)


async def test_take_returns_nothing_when_nothing_comes_in_time(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    async with aclient.events() as events:
        assert await events.take(0.01) is None
    assert [event async for event in events] == []


async def test_closing_a_feed_ends_it_for_whoever_waits(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    events = aclient.events()
    await events.open()
    waiting = asyncio.ensure_future(events.take())
    await asyncio.sleep(0)
    await events.close()
    assert await waiting is None


async def test_feed_that_is_closed_while_it_is_subscribed_ends(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    events = aclient.events()
    taking = asyncio.ensure_future(events.take())
    request = await asked(daemon, "events.subscribe")
    await events.close()
    daemon.say(dump({**golden("rpc: subscribed"), "id": request["id"]}))
    assert await taking is None
    assert events.ended


async def test_a_followed_log_ends_with_the_session(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("session.logs", golden("rpc: logs, followed"), LOG, LOG_END)
    lines = [line.line async for line in aclient.logs(SESSION_ID, follow=True)]
    assert lines == ["first consumer \u00b7 10.0.0.2"]


async def test_logs_without_follow_are_awaited(daemon: StubDaemon, aclient: AsyncClient) -> None:
    daemon.on("session.logs", golden("rpc: logs"))
    logs = await aclient.logs(SESSION_ID)
    assert len(logs.lines) == 2


async def test_a_subscription_of_the_client_itself_is_read_by_notice(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT)
    assert (await aclient.subscribe()).subscription == 1
    notice = await aclient.notice()
    assert notice is not None
    assert notice.subscription == 1
    assert await aclient.notice(0.01) is None


async def test_what_has_arrived_is_there_for_who_does_not_wait(
    daemon: StubDaemon, aclient: AsyncClient
) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    await aclient.ping()
    assert await aclient.notice(0) is None
    daemon.say(dump(EVENT))
    while await aclient.notice(0) is None:
        pass
