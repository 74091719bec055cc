# SPDX-License-Identifier: MIT
"""watch: a session followed to its end."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_stub import EVENT, RUNNING, SESSION_ID, StubDaemon, golden

from operatord_client import operatorctl
from operatord_client.ctl import exits
from operatord_client.ctl.verbs.view import View
from operatord_client.ctl.verbs.watch import summary

ENDED_EVENT = golden("event: ended", "notifications")
COMPLETED = golden("rpc: completed")["result"]
STAGES = golden("rpc: stats")["result"]["stages"]


def in_turn(*results: dict[str, Any]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Answer with each result once, and with the last from then on."""
    left = list(results)

    def answer(_: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"result": left.pop(0) if len(left) > 1 else left[0]}]

    return answer


@pytest.fixture
def watched(daemon: StubDaemon) -> Iterator[list[str]]:
    """A session that is running, and then ends; returns the arguments to watch it."""
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT, ENDED_EVENT)
    daemon.on("session.get", in_turn(RUNNING, RUNNING, COMPLETED))
    host, port = daemon.address
    yield ["--address", f"{host}:{port}", "watch", SESSION_ID]


def test_a_pipe_gets_a_line_for_each_change(
    watched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert operatorctl.main(watched) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{SESSION_ID}  running  tcp://127.0.0.1:49153",
        f"{SESSION_ID}  ended  completed  {COMPLETED['frames']} frames  {COMPLETED['reason']}",
    ]


def test_json_is_the_session_at_each_change(
    watched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert operatorctl.main([*watched, "-o", "json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [RUNNING, COMPLETED]


def test_a_session_that_has_failed_is_a_failure(
    daemon: StubDaemon, watched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.on("session.get", golden("rpc: failed"))
    assert operatorctl.main(watched) == exits.FAILED
    assert "failed" in capsys.readouterr().out


def test_a_queued_session_shows_its_place() -> None:
    queued = golden("rpc: accepted and queued")["result"]
    assert f"queued  position {queued['position']}" in summary(View(queued, {}, ""))


def test_without_rich_it_says_so_and_how_to_get_it(
    watched: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """N5: a line for each change is not taken for all there is."""
    monkeypatch.delitem(sys.modules, "operatord_client.ctl.verbs.drawing.session", raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)  # as if it were not installed
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert operatorctl.main(watched) == 0
    said = capsys.readouterr()
    assert "running" in said.out
    assert "rich is not installed" in said.err
    assert "pip install 'operatord[cli]'" in said.err


def test_the_picture_shows_phase_location_stages_and_rate() -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from operatord_client.ctl.verbs.drawing.session import LiveScreen

    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=False)
    times = iter([10.0, 12.0])
    with LiveScreen(console, clock=lambda: next(times)) as screen:
        screen.show(View(RUNNING, STAGES, ""))
        more = {
            stage: {**use, "frames": use.get("frames", 0) + 60} for stage, use in STAGES.items()
        }
        screen.show(View(RUNNING, more, ""))
    text = out.getvalue()
    for words in (SESSION_ID, "running", "tcp://127.0.0.1:49153", "30.0/s", "14.0 MiB"):
        assert words in text


def test_the_picture_of_an_ended_session_shows_exit_codes() -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from operatord_client.ctl.verbs.drawing.session import LiveScreen

    out = io.StringIO()
    with LiveScreen(Console(file=out, width=100)) as screen:
        screen.show(View(COMPLETED, {}, ""))
    assert "ended completed" in out.getvalue()
    assert "a07fa236c7c6" in out.getvalue()
