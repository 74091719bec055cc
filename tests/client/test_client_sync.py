# SPDX-License-Identifier: MIT
"""The blocking client against a scripted daemon."""

from __future__ import annotations

import select
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
    RUNNING,
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

from operatord_client import Client, Event, Progress, RunningSession
from operatord_client.errors import (
    CallTimeout,
    ClientClosed,
    Conflict,
    ConnectionLost,
    DaemonUnreachable,
    NotFound,
    StreamError,
    TooManyRequests,
    UnexpectedAnswer,
)

# --- calls -----------------------------------------------------------------------------------------


def test_a_verb_returns_its_message(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    assert client.ping().pong is True
    assert daemon.asked("system.ping") == {"jsonrpc": "2.0", "id": 1, "method": "system.ping"}


def test_what_is_not_given_is_not_sent(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.list", golden("rpc: sessions"))
    sessions = client.list(phase="running").sessions
    assert daemon.asked("session.list")["params"] == {"phase": "running"}
    assert sessions[0].stages.keys() == {"probe", "stream", "segmentation"}


def test_a_daemon_s_timeout_is_a_param_like_any_other(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.wait", golden("rpc: completed"))
    daemon.on("system.drain", golden("rpc: draining"))
    client.wait(SESSION_ID, timeout=3)
    client.drain(timeout=4)
    assert daemon.asked("session.wait")["params"] == {"session_id": SESSION_ID, "timeout": 3}
    assert daemon.asked("system.drain")["params"] == {"timeout": 4}


def test_a_refusal_raises_the_class_of_its_type(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.get", golden("error: no such session"))
    with pytest.raises(NotFound, match="there is no session 0000000000000000"):
        client.get(SESSION_ID)


def test_a_plan_takes_what_a_start_takes(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.plan", golden("rpc: plan, queue"))
    plan = client.plan(count=5, lease={"ttl": 30}, env={"probe": {"fps": 30}})
    assert plan.decision == "queue"
    assert daemon.asked("session.plan")["params"]["lease"] == {"ttl": 30}


def test_a_call_that_times_out_is_cancelled(daemon: StubDaemon, client: Client) -> None:
    with pytest.raises(CallTimeout):
        client.start(call_timeout=0.01)
    assert daemon.asked("request.cancel")["params"] == {"id": 1}


def test_the_answer_to_a_cancelled_call_is_passed_over(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.ping", {"jsonrpc": "2.0", "method": "event", "params": {}})
    with pytest.raises(CallTimeout):
        client.ping(call_timeout=0.01)
    daemon.on("system.status", dump({**golden("rpc: ping"), "id": 1}), golden("rpc: status"))
    assert client.status().uptime == 86400.25


def test_calls_of_several_threads_overtake_each_other(daemon: StubDaemon, client: Client) -> None:
    waiting = threading.Event()

    def begin_to_wait(_: dict[str, Any]) -> list[Any]:
        waiting.set()
        return []

    daemon.on("session.wait", begin_to_wait)
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(client.wait(SESSION_ID)))
    waiter.start()
    assert waiting.wait(PATIENCE)
    request = daemon.asked("session.wait")
    completed = golden("rpc: completed") | {"id": request["id"]}
    daemon.on("system.ping", golden("rpc: ping"))
    assert client.ping().pong  # while the other thread is the one that reads
    daemon.on("system.reload", lambda _: [golden("rpc: reloaded"), dump(completed)])
    client.reload()
    waiter.join(PATIENCE)
    assert results[0].outcome == "completed"


def test_many_threads_on_one_client_each_get_their_own_answer(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.get", lambda r: [{"result": {**RUNNING, **r["params"]}}])
    wrong: list[str] = []

    def ask(thread: int) -> None:
        ids = [f"{thread:08X}{number:08X}" for number in range(50)]
        wrong.extend(id for id in ids if client.get(id).session_id != id)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []


# --- the connection ----------------------------------------------------------------------------------


def test_nothing_there_is_daemon_unreachable(daemon: StubDaemon) -> None:
    daemon.close()
    with pytest.raises(DaemonUnreachable, match=r"nothing answers at 127\.0\.0\.1:\d+: connection"):
        Client(daemon.address).ping()


def test_no_such_socket_is_daemon_unreachable(tmp_path: Any) -> None:
    with pytest.raises(DaemonUnreachable, match="no such file"):
        Client(f"unix:{tmp_path}/none.sock").connect()


def test_a_lost_connection_is_said_until_reconnect(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.status", CLOSE)
    daemon.on("system.ping", golden("rpc: ping"))
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            client.status()
    client.reconnect()
    assert client.ping().pong


def test_a_refused_connection_says_why(daemon: StubDaemon, client: Client) -> None:
    flood = dump(golden("error: flood"))
    daemon.on("system.ping", flood, CLOSE)
    with pytest.raises(TooManyRequests, match="at most 1000 connections"):
        client.ping()


def test_a_web_server_is_not_taken_for_a_daemon(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.ping", b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE)
    with pytest.raises(UnexpectedAnswer):
        client.ping()


def test_a_token_is_used_on_every_connection(daemon: StubDaemon) -> None:
    daemon.on("auth.login", {"result": {"user": "ada", "role": "operator"}})
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT)
    with Client(daemon.address, token="secret") as client:
        assert daemon.asked("auth.login")["params"] == {"token": "secret"}
        with client.events() as events:
            assert daemon.asked("auth.login")["params"] == {"token": "secret"}
            assert next(events).type == "session.running"


def test_closing_wakes_whoever_waits(daemon: StubDaemon, client: Client) -> None:
    waiting = threading.Event()

    def begin_to_wait(_: dict[str, Any]) -> list[Any]:
        waiting.set()
        return []

    daemon.on("session.wait", begin_to_wait)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            client.wait(SESSION_ID)
        except ConnectionLost as exc:
            caught.append(exc)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waiting.wait(PATIENCE)
    client.close()
    waiter.join(PATIENCE)
    assert len(caught) == 1


def test_a_closed_client_says_so_until_connect(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.ping", golden("rpc: ping"), golden("rpc: ping"))
    client.close()
    client.close()
    with pytest.raises(ClientClosed, match=r"call its connect\(\) first"):
        client.ping()
    with pytest.raises(ClientClosed):
        client.events(reconnect=True)
    with pytest.raises(ClientClosed):
        client.logs(SESSION_ID, follow=True)
    client.connect()
    assert client.ping().pong
    client.reconnect()
    assert client.ping().pong
    with Client(daemon.address) as other:
        pass
    with pytest.raises(ClientClosed):
        other.ping()


def test_feed_of_a_closed_client_goes_on_but_does_not_connect_anew(
    daemon: StubDaemon, client: Client
) -> None:
    hang_up = threading.Event()

    def until_told(_: dict[str, Any]) -> Iterator[Any]:
        yield from (golden("rpc: subscribed"), EVENT)
        assert hang_up.wait(PATIENCE)
        yield CLOSE

    daemon.on("events.subscribe", until_told)
    with client.events(reconnect=True) as events:
        client.close()
        assert next(events).type == "session.running"
        hang_up.set()
        with pytest.raises(ClientClosed):
            next(events)


# --- starts and their progress -----------------------------------------------------------------------


def test_a_start_reports_and_returns_a_running_session(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.start", QUEUED, STARTING, STARTED)
    reports: list[Progress] = []
    session = client.start(count=500, on_progress=reports.append)
    assert daemon.asked("session.start")["params"] == {"count": 500, "lease": "connection"}
    assert [(r.position, r.stage, r.reason) for r in reports] == REPORTS
    assert session.id == SESSION_ID
    assert session.location is not None
    assert session.location.url == "tcp://127.0.0.1:49153"


def test_start_progress_yields_reports_and_last_the_session(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.start", QUEUED, STARTED)
    report, session = client.start_progress()
    assert isinstance(report, Progress)
    assert isinstance(session, RunningSession)


def test_an_iterator_left_early_cancels_the_start(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.start", QUEUED)
    reports = client.start_progress()
    next(reports)
    reports.close()
    assert daemon.asked("request.cancel")["params"] == {"id": 1}


def test_an_exception_from_on_progress_cancels_the_start(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.start", QUEUED)

    def refuse(report: Progress) -> None:
        raise LookupError(report.reason)

    with pytest.raises(LookupError, match=REPORTS[0][2]):
        client.start(on_progress=refuse)
    assert daemon.asked("request.cancel")["params"] == {"id": 1}


# --- sessions ----------------------------------------------------------------------------------------


def test_a_session_that_fails_under_its_reader_says_why(
    daemon: StubDaemon, client: Client, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(3)[:-10])))
    daemon.on("session.wait", golden("rpc: failed"))
    daemon.on("session.stop", golden("rpc: stopped"))
    with (
        pytest.raises(StreamError, match="before its end: the stage segmentation needed") as caught,
        client.start() as session,
    ):
        _ = list(session.frames())
    assert type(caught.value) is StreamError
    assert session.info.outcome == "failed"
    assert "session.stop" not in [request["method"] for request in daemon.requests.queue]


def test_a_session_that_goes_on_after_its_stream_is_stopped_in_a_moment(
    daemon: StubDaemon,
    client: Client,
    serve: Callable[..., StreamServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("operatord_client.session.CUT_SECONDS", 0.05)
    daemon.on("session.start", located(serve(stream_of(3)[:-10])))
    daemon.on("session.stop", golden("rpc: stopped"))
    with pytest.raises(StreamError, match=r"before its end$"), client.start() as session:
        _ = list(session.frames())
    assert session.info.outcome == "stopped"


def test_a_reader_that_leaves_asks_for_no_reason(
    daemon: StubDaemon, client: Client, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(3)[:-10], hold=True)))
    daemon.on("session.stop", golden("rpc: stopped"))
    with client.start() as session:
        next(session.frames())
    asked = [request["method"] for request in daemon.requests.queue]
    assert asked == ["session.start", "session.stop"]


def test_leaving_a_session_stops_it(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.start", STARTED)
    daemon.on("session.stop", golden("rpc: stopped"))
    with client.start() as session:
        pass
    assert daemon.asked("session.stop")["params"] == {"session_id": SESSION_ID}
    assert session.info.outcome == "stopped"


def test_a_session_that_is_gone_needs_no_stop(daemon: StubDaemon, client: Client) -> None:
    daemon.on("session.start", STARTED)
    daemon.on("session.stop", {"error": {"code": 4, "message": "", "data": {"type": "conflict"}}})
    with client.start():
        pass
    with pytest.raises(Conflict):
        client.stop(SESSION_ID)


def test_a_stream_taken_to_its_end_lets_the_session_complete(
    daemon: StubDaemon, client: Client, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(3))))
    daemon.on("session.wait", golden("rpc: completed"))
    with client.start() as session:
        assert [frame.seq for frame in session.frames()] == [0, 1, 2]
    assert session.info.outcome == "completed"


def test_frames_of_a_queued_session_wait_for_its_location(
    daemon: StubDaemon, client: Client, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", golden("rpc: accepted and queued"))
    daemon.on("session.wait", located(serve(stream_of(1))))
    session = client.start(wait="accepted")
    assert len(list(session.frames())) == 1
    assert daemon.asked("session.wait")["params"]["phase"] == "running"


def test_a_session_that_ended_without_a_location_has_no_frames(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.get", golden("rpc: failed"))
    daemon.on("session.wait", golden("rpc: failed"))
    daemon.on("session.stop", golden("rpc: stopped"))
    with pytest.raises(StreamError, match="ended without a location"):
        client.attach("77F0C1A2B3D4E5F6").frames()


# --- feeds -------------------------------------------------------------------------------------------


def test_events_are_iterated_and_a_lost_daemon_is_no_end(
    daemon: StubDaemon, client: Client
) -> None:
    gap = golden("event: a gap", "notifications")
    daemon.on("events.subscribe", golden("rpc: subscribed"), gap, EVENT, CLOSE)
    with client.events(session_id=SESSION_ID, types=["session.running"], since=5) as events:
        assert next(events).lost == (17, 512)
        assert next(events).session_id == SESSION_ID
        with pytest.raises(ConnectionLost):
            next(events)
    assert daemon.asked("events.subscribe")["params"] == {
        "session_id": SESSION_ID,
        "types": ["session.running"],
        "since": 5,
    }


def test_take_returns_nothing_when_nothing_comes_in_time(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    with client.events() as events:
        assert events.take(0.01) is None
        assert not events.ended
    assert events.ended
    assert list(events) == []


def test_closing_a_feed_ends_it_for_whoever_waits(daemon: StubDaemon, client: Client) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    events = client.events()
    found: list[list[Event]] = []
    reader = threading.Thread(target=lambda: found.append(list(events)))
    reader.start()
    while events._connection._reader is None:
        threading.Event().wait(0.001)
    events.close()
    reader.join(PATIENCE)
    assert found == [[]]


def test_a_refused_subscription_raises_at_once(daemon: StubDaemon, client: Client) -> None:
    daemon.on("events.subscribe", golden("error: no such session"))
    with pytest.raises(NotFound):
        client.events(session_id=SESSION_ID)


def test_a_followed_log_ends_with_the_session(daemon: StubDaemon, client: Client) -> None:
    first = golden("rpc: logs")
    first["result"]["subscription"] = 4
    daemon.on("session.logs", first, LOG, LOG_END)
    with client.logs(SESSION_ID, tail=2, follow=True) as lines:
        assert [line.stage for line in lines] == ["stream", "probe", "stream"]
    params = {"session_id": SESSION_ID, "tail": 2, "follow": True}
    assert daemon.asked("session.logs")["params"] == params


def test_a_subscription_of_the_client_itself_is_read_by_notice(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT)
    assert client.subscribe().subscription == 1
    notice = client.notice(PATIENCE)
    assert notice is not None
    assert notice.subscription == 1
    assert client.notice(0.01) is None


def test_what_has_arrived_is_there_for_who_does_not_wait(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    client.ping()
    assert client.notice(0) is None
    assert client._connection is not None
    daemon.say(dump(EVENT))
    select.select([client._connection._socket], [], [], PATIENCE)
    assert client.notice(0) is not None
