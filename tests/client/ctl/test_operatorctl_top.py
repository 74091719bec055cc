# SPDX-License-Identifier: MIT
"""top: how it is, once and live."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_stub import CLOSE, EVENT, RUNNING, Run, StubDaemon, golden
from daemon_lab import PATIENCE

from operatord_client.ctl import exits
from operatord_client.ctl.verbs.overview import Overview, gauges, plain, rows

STATUS = golden("rpc: status")["result"]
METRICS = golden("rpc: metrics")["result"]["metrics"]
QUEUED = golden("rpc: accepted and queued")["result"]
NOW = "2024-05-17T09:31:00.120Z"
CTL = (sys.executable, "-m", "operatord_client.operatorctl")


def view(**changes: Any) -> Overview:
    status = {**STATUS, "sessions": {"running": 1, "queued": 1}, **changes}
    return Overview(status, [RUNNING, QUEUED], {each["name"]: each for each in METRICS}, NOW)


@pytest.fixture
def told(daemon: StubDaemon) -> StubDaemon:
    """A daemon with a session that runs and one that waits."""

    def listed(request: dict[str, Any]) -> list[dict[str, Any]]:
        sessions = {"running": [RUNNING], "queued": [QUEUED]}
        return [{"result": {"sessions": sessions.get(request["params"]["phase"], [])}}]

    daemon.on("system.status", {"result": view().status})
    daemon.on("session.list", listed)
    daemon.on("system.metrics", {"result": {"metrics": METRICS}})
    daemon.on("system.ping", golden("rpc: ping"))
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    return daemon


def test_pipe_gets_it_once(told: StubDaemon, ctl: Run) -> None:
    ran = ctl("top")
    assert (ran.code, ran.err) == (exits.OK, "")
    lines = ran.out.splitlines()
    assert "sessions  1 queued  1 running  0 starting  0 stopping" in lines
    assert "places    2 of 32" in lines
    assert "starts    5 warm, 0.25 s each" in lines
    assert any(line.startswith("segmented  2      2") for line in lines)
    assert any(RUNNING["session_id"] in line and "tcp://" in line for line in lines)
    assert any(QUEUED["session_id"] in line and QUEUED["reason"] in line for line in lines)


def test_without_rich_it_is_told_once(
    told: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "operatord_client.ctl.verbs.drawing.top", raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)  # as if it were not installed
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    ran = ctl("top")
    assert (ran.code, RUNNING["session_id"] in ran.out) == (exits.OK, True)
    assert "rich is not installed" in ran.err


def test_programs_get_what_the_daemon_said(told: StubDaemon, ctl: Run) -> None:
    found = ctl("top", "--once", "-o", "json").json
    assert found["status"] == view().status
    assert [each["session_id"] for each in found["sessions"]] == [
        RUNNING["session_id"],
        QUEUED["session_id"],
    ]
    assert found["metrics"] == METRICS


def test_no_daemon(ctl: Run, daemon: StubDaemon) -> None:
    daemon.on("system.status", CLOSE)
    assert ctl("top").code == exits.UNAVAILABLE


def test_of_very_many_it_says_how_many_more() -> None:
    many = view(sessions={"running": 1, "queued": 500})
    assert [row[0] for row in rows(many)] == [
        RUNNING["session_id"],
        QUEUED["session_id"],
        "… 499 more",
    ]
    assert [row[0] for row in rows(many, 2)] == [RUNNING["session_id"], "… 500 more"]
    assert [row[0] for row in rows(many, 1)] == ["… 501 more"]


def test_dimensions_that_are_not_there_have_no_gauge() -> None:
    found = gauges(view(capacity={"cpus": 2.0, "gpus": 0}, reserved={"cpus": 3.0}))
    assert [(each.name, each.text, each.share) for each in found] == [("cores", "3 of 2", 1.0)]


def test_trouble_is_shown() -> None:
    trouble = {"task": "the watch over use", "times": 3}
    text = plain(
        view(
            engine={"name": "docker", "state": "slow", "reason": "it is slow"},
            pressure="memory",
            draining=True,
            troubles=[trouble],
        )
    )
    for words in ("slow: it is slow", "SHORT OF MEMORY", "draining", "use broke 3 times"):
        assert words in text


def drawn(width: int, height: int) -> list[str]:
    from rich.console import Console

    from operatord_client.ctl.verbs.drawing.top import picture

    out = io.StringIO()
    many = view(sessions={"running": 1, "queued": 500})
    Console(file=out, width=width, height=height).print(picture(many, height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [14, 24, 60])
def test_picture_fits_into_the_terminal(width: int, height: int) -> None:
    lines = drawn(width, height)
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= height
    assert lines[-1] == "q leaves"
    assert any(re.match(r"… (499|500|501) ", line) for line in lines)


def test_only_the_last_column_is_cut_off() -> None:
    [line] = [line for line in drawn(80, 40) if line.startswith(QUEUED["session_id"])]
    assert "queued" in line
    assert line.endswith("…")


# --- on a terminal -----------------------------------------------------------------------------------


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(command[0], command)
        self.resize(30, 100)
        self.text = ""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def modes(self) -> int:
        """Return how the terminal treats what is typed."""
        found: int = termios.tcgetattr(self._end)[3]
        return found & (termios.ICANON | termios.ECHO)

    def until(self, shown: Callable[[str], bool]) -> None:
        """Read until what was drawn since the last time is as wanted."""
        self.text, deadline = "", time.monotonic() + PATIENCE
        while not shown(self.text):
            ready = select.select([self._end], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, self.text
            data = os.read(self._end, 65536).decode("utf-8", "replace")
            self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data)

    def wait(self) -> int:
        """Read on to the end of the program, and return its exit code."""
        while True:
            try:
                if not os.read(self._end, 65536):
                    break
            except OSError:  # nobody has the terminal any more
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def terminal(told: StubDaemon) -> Iterator[Terminal]:
    host, port = told.address
    found = Terminal(*CTL, "--address", f"{host}:{port}", "top")
    yield found
    found.close()


@pytest.mark.parametrize(("keys", "code"), [("q", exits.OK), ("\x03", exits.INTERRUPTED)])
def test_key_leaves_and_the_terminal_is_as_before(terminal: Terminal, keys: str, code: int) -> None:
    before = terminal.modes()
    terminal.until(lambda text: RUNNING["session_id"] in text)
    assert terminal.modes() != before
    terminal.type(keys)
    assert terminal.wait() == code
    assert terminal.modes() == before


def test_news_and_a_new_size_are_drawn(told: StubDaemon, terminal: Terminal) -> None:
    terminal.until(lambda text: "q leaves" in text)
    told.on("system.status", {"result": {**view().status, "draining": True}})
    told.say(json.dumps(EVENT).encode() + b"\n")
    terminal.until(lambda text: "no new sessions" in text)
    terminal.resize(18, 60)
    terminal.until(lambda text: re.search(r"\n\s*q leaves\s*\n", text) is not None)
    terminal.type("q")
    assert terminal.wait() == exits.OK


def test_daemon_that_is_away_is_waited_for(told: StubDaemon, terminal: Terminal) -> None:
    terminal.until(lambda text: "q leaves" in text)
    told.on("system.status", CLOSE)
    terminal.until(lambda text: "no news" in text)
    told.on("system.status", {"result": view().status})
    terminal.until(lambda text: "no news" in text or "q leaves" in text)
    terminal.until(lambda text: "q leaves" in text and "no news" not in text)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.wait() == 128 + signal.SIGTERM
