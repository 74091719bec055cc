# SPDX-License-Identifier: MIT
"""operatorctl that is ended from outside: nothing that it has begun goes on for nobody."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from client_stub import (
    EVENT,
    LOG,
    QUEUED,
    RUNNING,
    SESSION_ID,
    Item,
    Run,
    StreamServer,
    StubDaemon,
    golden,
    located,
    stream_of,
)
from daemon_lab import PATIENCE

from operatord_client import operatorctl
from operatord_client.ctl import exits
from operatord_client.ctl.signals import SAME_WISH, Signals

SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
COMMAND = (sys.executable, "-m", "operatord_client.operatorctl")


FRAMES, _, _ = stream_of(4).rpartition(b'{"type": "end"')


class HeldStream(StreamServer):
    """Sends some frames, says that somebody takes them, and does not end."""

    def __init__(self, sent: bytes = FRAMES) -> None:
        self.taken = threading.Event()
        super().__init__(sent, hold=True)

    def serve(self, connection: Any) -> None:
        self.taken.set()
        super().serve(connection)


@pytest.fixture
def held(daemon: StubDaemon, request: pytest.FixtureRequest) -> Iterator[HeldStream]:
    """The stream of the session that the daemon starts."""
    stream = HeldStream(getattr(request, "param", FRAMES))
    daemon.on("session.start", located(stream))
    daemon.on("session.stop", golden("rpc: stopped"))
    yield stream
    stream.close()


def sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def spawn(daemon: StubDaemon, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    host, port = daemon.address
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = {**os.environ, "OPERATORD_ADDRESS": f"{host}:{port}"}
    return subprocess.Popen([*command], text=True, env=env, **{**pipes, **options})


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code, and what was said on standard error."""
    _, said = process.communicate(timeout=PATIENCE)
    return process.returncode, said


@pytest.mark.parametrize("number", SIGNALS)
def test_session_whose_frames_are_taken_is_stopped(
    daemon: StubDaemon, held: HeldStream, number: int
) -> None:
    """N17"""
    process = spawn(daemon, [*COMMAND, "start", "--frames"])
    assert held.taken.wait(PATIENCE)
    process.send_signal(number)
    assert daemon.asked("session.stop")["params"] == {"session_id": SESSION_ID}
    code, said = ended(process)
    assert code == exits.SIGNALLED + number
    assert said.strip() == ""


@pytest.mark.parametrize("held", [FRAMES, b""], ids=["in the middle", "at first"], indirect=True)
@pytest.mark.parametrize("pair", [os.pipe, sockets], ids=["pipe", "socket"])
def test_session_is_stopped_at_once_when_nobody_reads_what_is_printed(
    daemon: StubDaemon, held: HeldStream, pair: Callable[[], tuple[int, int]]
) -> None:
    """As below ``| head``: while no frame comes, and nothing is to be printed."""
    ours, theirs = pair()
    process = spawn(daemon, [*COMMAND, "start", "--frames"], stdout=theirs)
    os.close(theirs)
    assert held.taken.wait(PATIENCE)
    assert os.read(ours, 1)
    os.close(ours)
    assert daemon.asked("session.stop")["params"] == {"session_id": SESSION_ID}
    assert ended(process) == (exits.BROKEN_PIPE, "")


@pytest.mark.parametrize(
    ("method", "answer", "args"),
    [
        ("events.subscribe", "rpc: subscribed", ["events"]),
        ("events.subscribe", "rpc: subscribed", ["events", "--reconnect"]),
        ("events.subscribe", "rpc: subscribed", ["watch", SESSION_ID]),
        ("session.logs", "rpc: logs, followed", ["logs", "--follow", SESSION_ID]),
    ],
)
def test_who_follows_ends_when_nobody_reads_what_is_printed(
    daemon: StubDaemon, method: str, answer: str, args: list[str]
) -> None:
    """As below ``| head``: while nothing happens, and nothing is to be printed."""
    daemon.on(method, golden(answer))
    daemon.on("session.get", golden("rpc: started"))
    ours, theirs = os.pipe()
    process = spawn(daemon, [*COMMAND, *args], stdout=theirs)
    os.close(theirs)
    daemon.asked(method)
    os.close(ours)
    assert ended(process) == (exits.BROKEN_PIPE, "")


def test_terminal_that_is_closed_stops_it_too(daemon: StubDaemon, held: HeldStream) -> None:
    """N17: where nothing can be written any more, not even that the session is stopped."""
    ours, theirs = pty.openpty()
    files = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = spawn(daemon, ["setsid", "--ctty", *COMMAND, "start", "--frames"], **files)
    os.close(theirs)
    assert held.taken.wait(PATIENCE)
    os.close(ours)
    assert daemon.asked("session.stop")
    assert process.wait(PATIENCE) == exits.SIGNALLED + signal.SIGHUP


@pytest.mark.parametrize("output", ["file", "/dev/null"])
def test_output_that_nobody_needs_to_read_does_not_end_it(
    daemon: StubDaemon, serve: Callable[..., StreamServer], tmp_path: Path, output: str
) -> None:
    daemon.on("session.start", located(serve(stream_of(4))))
    daemon.on("session.wait", golden("rpc: completed"))
    script = {"file": f'"$@" >{tmp_path}/out', "/dev/null": '"$@" >/dev/null'}
    process = spawn(daemon, ["sh", "-c", script[output], "sh", *COMMAND, "start", "--frames"])
    assert ended(process) == (exits.OK, "")


OTHER_LEASES = [
    ["--lease", "pinned"],
    ["--lease", "ttl=30"],
    ["--request-key", "k"],
    ["--request-key", "k", "--lease", "connection"],
]


def asked_for(daemon: StubDaemon) -> list[str]:
    """Return the methods of all requests that have come."""
    return [daemon.requests.get()["method"] for _ in range(daemon.requests.qsize())]


@pytest.mark.parametrize("options", OTHER_LEASES)
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_session_with_another_lease_is_left_to_that_however_the_command_ends(
    daemon: StubDaemon, held: HeldStream, options: list[str], number: int
) -> None:
    process = spawn(daemon, [*COMMAND, "start", "--frames", *options])
    assert held.taken.wait(PATIENCE)
    process.send_signal(number)
    code, said = ended(process)
    assert code == (-number if number == signal.SIGKILL else exits.SIGNALLED + number)
    assert said.strip() == ""
    assert asked_for(daemon) == ["session.start"], "who else has the session keeps it"


@pytest.mark.parametrize("options", OTHER_LEASES)
def test_session_with_another_lease_is_left_to_that_when_nobody_reads_what_is_printed(
    daemon: StubDaemon, held: HeldStream, options: list[str]
) -> None:
    process = spawn(daemon, [*COMMAND, "start", "--frames", *options])
    assert held.taken.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(PATIENCE) == exits.BROKEN_PIPE
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert asked_for(daemon) == ["session.start"]


@pytest.mark.parametrize("options", OTHER_LEASES)
def test_session_with_another_lease_is_left_to_that_when_its_stream_is_cut_off(
    daemon: StubDaemon, ctl: Run, serve: Callable[..., StreamServer], options: list[str]
) -> None:
    daemon.on("session.start", located(serve(stream_of(4)[:-10])))
    daemon.on("session.wait", golden("error: too late"))
    daemon.on("session.stop", golden("rpc: stopped"))
    assert ctl("start", "--frames", *options).code == exits.FAILED
    assert asked_for(daemon) == ["session.start", "session.wait"]


@pytest.mark.parametrize("options", OTHER_LEASES)
def test_session_with_another_lease_is_seen_to_its_end_and_not_stopped_for_those_who_still_read(
    daemon: StubDaemon, ctl: Run, serve: Callable[..., StreamServer], options: list[str]
) -> None:
    daemon.on("session.start", located(serve(stream_of(4))))
    daemon.on("session.wait", golden("error: too late"))
    daemon.on("session.stop", golden("rpc: stopped"))
    ran = ctl("start", "--frames", *options)
    assert (ran.code, ran.err) == (exits.OK, "")
    assert "received  4 frames" in ran.out
    assert asked_for(daemon) == ["session.start", "session.wait"]


@pytest.mark.parametrize("number", SIGNALS)
def test_start_that_is_under_way_is_taken_back(daemon: StubDaemon, number: int) -> None:
    """N17: while it is in the queue, or being made."""
    daemon.on("session.start", QUEUED)
    process = spawn(daemon, [*COMMAND, "start"])
    daemon.asked("session.start")
    process.send_signal(number)
    assert daemon.asked("request.cancel")["params"] == {"id": 1}
    code, said = ended(process)
    assert code == exits.SIGNALLED + number
    assert "Traceback" not in said


ENDLESS: list[tuple[list[str], str, list[Item]]] = [
    (["wait", SESSION_ID], "session.wait", []),
    (["drain", "--timeout", "1h"], "system.drain", []),
    (["stop", SESSION_ID], "session.stop", []),
    (["events"], "events.subscribe", [golden("rpc: subscribed"), EVENT]),
    (["events", "--reconnect"], "events.subscribe", [golden("rpc: subscribed"), EVENT]),
    (["logs", "-f", SESSION_ID], "session.logs", [golden("rpc: logs, followed"), LOG]),
    (["watch", SESSION_ID], "session.get", [{"result": RUNNING}]),
]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("args", "method", "answers"), ENDLESS)
def test_what_goes_on_ends_with_the_signals_code_and_without_a_word(
    daemon: StubDaemon, args: list[str], method: str, answers: list[Item], number: int
) -> None:
    """N17"""
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    daemon.on(method, *answers)
    process = spawn(daemon, [*COMMAND, *args])
    daemon.asked(method)
    process.send_signal(number)
    code, said = ended(process)
    assert (code, said.strip()) == (exits.SIGNALLED + number, "")


def test_signal_that_is_ignored_stays_ignored(daemon: StubDaemon) -> None:
    """N17: as below nohup."""
    sent = threading.Event()

    def answer(_: dict[str, Any]) -> Iterator[Item]:
        assert sent.wait(PATIENCE)
        yield golden("rpc: completed")

    daemon.on("session.wait", answer)
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND, "wait", SESSION_ID]
    process = spawn(daemon, ignoring)
    daemon.asked("session.wait")
    process.send_signal(signal.SIGHUP)
    sent.set()
    assert ended(process) == (exits.OK, "")


@pytest.mark.parametrize(
    ("options", "lease"),
    [
        ([], "connection"),
        (["--lease", "pinned"], "pinned"),
        (["--lease", "ttl=30"], {"ttl": 30.0}),
        (["--request-key", "k"], None),
    ],
)
def test_session_is_for_as_long_as_its_frames_are_taken_unless_something_else_is_said(
    daemon: StubDaemon,
    ctl: Run,
    serve: Callable[..., StreamServer],
    options: list[str],
    lease: Any,
) -> None:
    """N17: so it ends as well with a program that was killed."""
    daemon.on("session.start", located(serve(stream_of(1))))
    daemon.on("session.wait", golden("rpc: completed"))
    assert ctl("start", "--frames", *options).code == exits.OK
    assert daemon.asked("session.start").get("params", {}).get("lease") == lease


def test_signal_that_comes_twice_at_once_is_one_wish() -> None:
    """N17: the cleaning up is not disturbed; later it is not to be waited for."""
    before = [signal.getsignal(number) for number in SIGNALS]
    now = [0.0]
    signals = Signals(clock=lambda: now[0])
    with signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        now[0] = SAME_WISH
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
    assert signals.came == signal.SIGTERM
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_command_runs_in_any_thread(daemon: StubDaemon) -> None:
    """Only the main one is signalled, or may say what a signal does."""
    daemon.on("system.ping", golden("rpc: ping"))
    host, port = daemon.address
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(operatorctl.main(["--address", f"{host}:{port}", "ping"]))
    )
    thread.start()
    thread.join(PATIENCE)
    assert codes == [exits.OK]
