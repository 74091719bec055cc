# SPDX-License-Identifier: MIT
"""operatorctl against a scripted daemon: what it sends, and what it exits with."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import pytest
from client_stub import (
    CLOSE,
    EVENT,
    LOG,
    LOG_END,
    QUEUED,
    SESSION_ID,
    STARTED,
    Run,
    StreamServer,
    StubDaemon,
    golden,
    located,
    stream_of,
    vectors,
)
from daemon_lab import PATIENCE

from operatord_client.ctl import exits
from operatord_client.ctl.parser import LazyParser

OTHER_ID = "EE705B00000000AA"


# --- exit codes --------------------------------------------------------------------------------------

ERRORS = [
    v["name"]
    for v in vectors("replies")
    if "error" in v["expect"] and v["expect"]["id"] is not None
]


@pytest.mark.parametrize("name", ERRORS)
def test_every_golden_error_has_its_exit_code_and_sentence(
    daemon: StubDaemon, ctl: Run, name: str
) -> None:
    error = golden(name)["error"]
    daemon.on("session.get", {"error": error})
    ran = ctl("get", SESSION_ID)
    expected = exits.TRY_LATER if error["data"]["retryable"] else exits.FAILED
    special = {"not_found": exits.NOT_FOUND, "invalid_params": exits.USAGE}
    assert ran.code == special.get(error["data"]["type"], expected)
    assert ran.out == ""
    assert ran.err.startswith(f"operatorctl: {error['message']}")
    assert "Traceback" not in ran.err


def test_no_daemon_is_69(daemon: StubDaemon, ctl: Run) -> None:
    daemon.close()
    ran = ctl("ping")
    assert ran.code == exits.UNAVAILABLE
    assert ran.err.startswith("operatorctl: nothing answers at 127.0.0.1:")


def test_a_daemon_that_goes_away_is_69(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("system.status", CLOSE)
    assert ctl("status").code == exits.UNAVAILABLE


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nonsense"],
        ["get"],
        ["get", "not-hex"],
        ["start", "--lease", "ttl=soon"],
        ["start", "--env", "probe=1"],
        ["start", "--plain", "--pipeline", "x"],
        ["start", "--frames", "--format", "y4m"],
        ["start", "--frames", "--no-wait"],
        ["probe", "add", "us-1", "nowhere"],
        ["--address", "h:x", "ping"],
    ],
)
def test_usage_is_2_with_a_sentence(ctl: Run, args: list[str]) -> None:
    ran = ctl(*args)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "operatorctl" in ran.err


def test_an_interrupt_ends_with_130_and_a_clean_line(
    daemon: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("operatord_client.client.Client.request", interrupt)
    ran = ctl("status")
    assert (ran.code, ran.out, ran.err) == (exits.INTERRUPTED, "", "\n")


def test_an_interrupted_start_is_cancelled(daemon: StubDaemon, ctl: Run) -> None:
    process = spawn(daemon, "start", "--count", "5")
    daemon.asked("session.start")
    process.send_signal(2)
    assert daemon.asked("request.cancel")["params"] == {"id": 1}
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == exits.INTERRUPTED
    assert "Traceback" not in err


def test_a_reader_that_goes_away_ends_it_quietly(daemon: StubDaemon) -> None:
    daemon.on("events.subscribe", lambda _: [golden("rpc: subscribed"), *[EVENT] * 5000])
    process = spawn(daemon, "events")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == exits.BROKEN_PIPE
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""


def spawn(daemon: StubDaemon, *args: str) -> subprocess.Popen[str]:
    host, port = daemon.address
    return subprocess.Popen(
        [sys.executable, "-m", "operatord_client.operatorctl", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPERATORD_ADDRESS": f"{host}:{port}"},
    )


# --- what is sent ------------------------------------------------------------------------------------


def test_a_start_sends_what_was_typed_and_nothing_else(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.start", QUEUED, STARTED)
    assert ctl("start").code == 0
    assert "params" not in daemon.asked("session.start")
    ctl(
        *("start", "--plain", "--count", "5", "--probe", "us-1", "--format", "y4m"),
        *("--env", "probe.fps=30", "--env", "probe.size=256", "--env", "stream.policy=live"),
        *("--lease", "ttl=2m", "--on-shortage", "refuse", "--deadline", "1.5s", "--no-wait"),
        *("--priority", "-3", "--owner", "ada", "--request-key", "k"),
    )
    assert daemon.asked("session.start")["params"] == {
        "plain_stream": True,
        "count": 5,
        "probe": "us-1",
        "format": "y4m",
        "env": {"probe": {"fps": "30", "size": "256"}, "stream": {"policy": "live"}},
        "lease": {"ttl": 120.0},
        "on_shortage": "refuse",
        "deadline": 1.5,
        "wait": "accepted",
        "priority": -3,
        "owner": "ada",
        "request_key": "k",
    }


def test_a_token_logs_in_first(
    daemon: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATORD_TOKEN", "secret")
    daemon.on("auth.login", {"result": {"user": "ada", "role": "operator"}})
    daemon.on("system.ping", golden("rpc: ping"))
    assert ctl("ping").code == 0
    assert daemon.asked("auth.login")["params"] == {"token": "secret"}


def test_tokens_are_made_where_the_daemon_is(ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is there; a client that was installed alone says so."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    run = ctl("token", "list")
    assert (run.code, run.out) == (exits.FAILED, "")
    assert "run it on that machine" in run.err


@pytest.mark.parametrize("address", ["rtsp://u:p@h/1", "-"])
def test_a_probe_is_added_by_its_url_and_shown_without_credentials(
    daemon: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    shown = {"name": "cam", "host": "h", "port": 554, "url": "rtsp://h/1", "state": "up"}
    other = {**shown, "url": "tcp://[::1]:5"}
    daemon.on("probe.register", {"jsonrpc": "2.0", "id": 0, "result": shown})
    daemon.on("probe.list", {"jsonrpc": "2.0", "id": 0, "result": {"probes": [shown, other]}})
    monkeypatch.setattr("sys.stdin", io.StringIO("rtsp://u:p@h/1\n"))
    added = ctl("probe", "add", "cam", address)
    assert daemon.asked("probe.register")["params"] == {"name": "cam", "url": "rtsp://u:p@h/1"}
    assert "rtsp://h/1\n" in added.out
    first, second = ctl("probe", "list").out.splitlines()[1:]
    assert (first.split()[1], second.split()[1]) == ("rtsp://h/1", "[::1]:5")


def test_a_probe_is_added(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("probe.register", golden("rpc: probe removed"))
    assert ctl("probe", "add", "us-1", "[fe80::1]:12345", "--label", "room=4").code == 0
    assert daemon.asked("probe.register")["params"] == {
        "name": "us-1",
        "host": "fe80::1",
        "port": 12345,
        "labels": {"room": "4"},
    }


# --- ids written short -------------------------------------------------------------------------------


def listing(*ids: str) -> dict[str, Any]:
    return {"result": {"sessions": [{"session_id": id, "phase": "running"} for id in ids]}}


def test_the_beginning_of_an_id_will_do(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.list", listing(SESSION_ID, "00000000000000AA"))
    daemon.on("session.get", golden("rpc: completed"))
    assert ctl("get", "ee7").code == 0
    assert daemon.asked("session.get")["params"] == {"session_id": SESSION_ID}


def test_an_ambiguous_beginning_lists_the_sessions_it_could_be(
    daemon: StubDaemon, ctl: Run
) -> None:
    daemon.on("session.list", listing(SESSION_ID, OTHER_ID))
    ran = ctl("stop", "EE")
    assert ran.code == exits.FAILED
    assert ran.err == f"operatorctl: EE is the beginning of 2 sessions: {SESSION_ID}, {OTHER_ID}\n"


def test_the_beginning_of_nothing_is_not_found(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.list", listing())
    assert ctl("get", "EE").code == exits.NOT_FOUND


# --- streams -----------------------------------------------------------------------------------------


def test_frames_are_received_and_summed_up(
    daemon: StubDaemon, ctl: Run, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(4, dice=0.75))))
    daemon.on("session.wait", golden("rpc: completed"))
    ran = ctl("start", "--frames", "-o", "json")
    session, summary = map(json.loads, ran.out.splitlines())
    assert ran.code == 0
    assert session["session_id"] == SESSION_ID
    assert (summary["frames"], summary["dropped"], summary["mean_dice"]) == (4, 0, 0.75)
    assert summary["bytes"] == 4 * 2 * 4


def test_frames_cut_off_are_a_failure_and_the_session_is_stopped(
    daemon: StubDaemon, ctl: Run, serve: Callable[..., StreamServer]
) -> None:
    daemon.on("session.start", located(serve(stream_of(4)[:-10])))
    daemon.on("session.wait", golden("error: too late"))
    daemon.on("session.stop", golden("rpc: stopped"))
    ran = ctl("start", "--frames")
    assert ran.code == exits.FAILED
    assert ran.err == "operatorctl: the stream was cut off before its end\n"
    assert daemon.asked("session.stop")


@pytest.mark.parametrize("lease", ["connection", "pinned"])
def test_of_a_session_that_fails_under_its_reader_all_is_told(
    daemon: StubDaemon, ctl: Run, serve: Callable[..., StreamServer], lease: str
) -> None:
    last = {"stage": "probe", "advice": "raise it", "log": {"probe": ["out of memory"]}}
    failed = golden("rpc: failed")["result"]
    found = {"result": {**failed, "post_mortem": {"phases": {}, "usage": {}, **last}}}
    daemon.on("session.start", located(serve(stream_of(4)[:-10])))
    daemon.on("session.wait", found)
    daemon.on("session.stop", golden("rpc: stopped"))
    daemon.on("session.get", found)
    ran = ctl("start", "--frames", "--lease", lease)
    why = failed["reason"]
    assert ran.code == exits.FAILED
    assert ran.err == f"operatorctl: the stream was cut off before its end: {why}\n"
    for line in ("failed (oom)", why, "probe", "raise it", "log of probe", "out of memory"):
        assert line in ran.out
    assert "session.stop" not in [request["method"] for request in daemon.requests.queue]


def test_waiting_for_a_session_that_ends_badly_is_a_failure(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.wait", golden("rpc: failed"))
    assert ctl("wait", SESSION_ID, "--timeout", "5s").code == exits.FAILED


def test_a_plan_that_would_be_refused_is_a_failure(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.plan", {"result": {"decision": "refuse", "explanation": {"asked": 64}}})
    ran = ctl("plan")
    assert (ran.code, ran.out) == (exits.FAILED, "decision  refuse\nasked     64\n")


def test_logs_that_do_not_fit_into_one_answer_say_so(daemon: StubDaemon, ctl: Run) -> None:
    lines = [{"stage": "probe", "time": "t", "line": "the newest"}]
    daemon.on("session.logs", {"result": {"lines": lines, "truncated": True}})
    first, second = ctl("logs", SESSION_ID).out.splitlines()
    assert "--follow" in first
    assert second == "probe | the newest"


def stage_line(line: str, stage: str = "probe") -> dict[str, str]:
    return {"stage": stage, "time": "t", "line": line}


LISTENING = '{"type":"listening","stage":"probe","host":"10.0.0.2","port":12345}'
REPORT = '{"type":"report","stage":"probe","frames":812,"dropped":0}'
SAID = [
    *map(stage_line, ("begins", LISTENING, '{"type":"note"}', '{"type":', REPORT, "goes on", REPORT)),
    stage_line("alone", "stream"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "asked", "shown"),
    [
        ([], 10_000, ["begins", '{"type":"note"}', '{"type":', "goes on", "alone"]),
        (["--tail", "1"], 10_000, ["goes on", "alone"]),
        (["--tail", "0"], 10_000, []),
        (["--tail", "20000"], 20_000, ["begins", '{"type":"note"}', '{"type":', "goes on", "alone"]),
        (["--all", "--tail", "9"], 9, [line["line"] for line in SAID]),
        (["--all"], None, [line["line"] for line in SAID]),
    ],
)  # fmt: skip
def test_what_stages_say_to_the_daemon_is_shown_when_it_is_asked_for(
    daemon: StubDaemon, ctl: Run, options: list[str], asked: int | None, shown: list[str]
) -> None:
    """N18: a hundred reports alike hide what a stage has to say; ``--tail`` counts what is shown."""
    daemon.on("session.logs", {"result": {"lines": SAID}})
    ran = ctl("logs", SESSION_ID, *options)
    assert [line.partition(" | ")[2] for line in ran.out.splitlines()] == shown
    assert daemon.asked("session.logs")["params"].get("tail") == asked
    assert len(ctl("logs", SESSION_ID, *options, "-o", "json").json["lines"]) == len(SAID)


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ([], [], "no stage has written anything"),
        ([], ["--stage", "probe"], "probe has written nothing"),
        (
            ["probe", "stream", "probe"],
            [],
            "reports to the daemon was written, by probe, stream; --all",
        ),
        (["probe"], ["--all"], ""),
        (["probe"], ["--tail", "0"], ""),
        ([], ["-o", "json"], ""),
    ],
)
def test_logs_without_a_line_for_people_say_so(
    daemon: StubDaemon, ctl: Run, lines: list[str], options: list[str], said: str
) -> None:
    found = [stage_line(REPORT, stage) for stage in lines]
    daemon.on("session.logs", {"result": {"lines": found}})
    ran = ctl("logs", SESSION_ID, *options)
    assert (ran.code, said in ran.err, bool(ran.err)) == (0, True, bool(said))


@pytest.mark.parametrize(("options", "count"), [([], 1), (["-a"], 2)])
def test_reports_are_left_out_of_what_is_followed_too(
    daemon: StubDaemon, ctl: Run, options: list[str], count: int
) -> None:
    """N18"""
    report = {"method": "session.log", "params": {**LOG["params"], **stage_line(REPORT)}}
    daemon.on("session.logs", golden("rpc: logs, followed"), report, LOG, LOG_END)
    assert len(ctl("logs", "-f", SESSION_ID, *options).out.splitlines()) == count
    assert len(ctl("logs", "-f", SESSION_ID, "-o", "json").out.splitlines()) == 2


def test_logs_are_followed_to_their_end(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.logs", golden("rpc: logs, followed"), LOG, LOG_END)
    ran = ctl("logs", "-f", SESSION_ID)
    assert (ran.code, ran.out) == (0, "stream | first consumer \u00b7 10.0.0.2\n")
    ran = ctl("logs", "-f", SESSION_ID, "-o", "json")
    assert ran.json == {name: LOG["params"][name] for name in ("stage", "time", "line")}


@pytest.mark.parametrize(("since", "is_told"), [(10**6, True), (1, False)])
def test_number_that_no_event_has_had_is_told(
    daemon: StubDaemon, ctl: Run, since: int, is_told: bool
) -> None:
    gap = golden("event: a gap", "notifications")
    daemon.on("events.subscribe", golden("rpc: subscribed"), gap, EVENT, CLOSE)
    ran = ctl("events", "--since", str(since))
    assert ran.err.count(f"has had no event {since}: ") == is_told


def test_events_are_lines_and_a_lost_daemon_is_69(daemon: StubDaemon, ctl: Run) -> None:
    gap = golden("event: a gap", "notifications")
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT, gap, CLOSE)
    ran = ctl("events", "-o", "json", "--since", "0")
    assert ran.code == exits.UNAVAILABLE
    assert [json.loads(line) for line in ran.out.splitlines()] == [EVENT["params"], gap["params"]]
    assert daemon.asked("events.subscribe")["params"] == {"since": 0}
    text = ctl("events").out.splitlines()
    assert text[0].split()[2:4] == ["session.running", SESSION_ID]
    assert text[1] == "events.lost  from 17, to 512"


# --- cost --------------------------------------------------------------------------------------------


def test_a_commands_parser_that_is_looked_at_early_is_whole() -> None:
    """E1: Python's own parts may look at it when they make it, as argparse does from 3.14 on."""
    parser = LazyParser(prog="early")
    assert parser.prog == "early"
    parser.on_first_use(lambda made: made.add_argument("--late", action="store_true") and None)
    assert parser.parse_args(["--late"]).late


def test_nothing_is_asked_of_a_commands_parser_until_it_is_used() -> None:
    """E1: or two dozen parsers are made for the one that is wanted."""
    filled = []
    parsers = ArgumentParser().add_subparsers(parser_class=LazyParser)
    parsers.add_parser("word", help="for people").on_first_use(filled.append)
    assert filled == []


def test_help_loads_neither_messages_nor_sockets_nor_rich() -> None:
    script = (
        "import sys\n"
        "from operatord_client.operatorctl import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*{'msgspec', 'socket', 'asyncio', 'rich', 'typing', 'json'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded_anyway = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split()) - set(loaded_anyway.stdout.split())
    assert loaded == set()
