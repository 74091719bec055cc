# SPDX-License-Identifier: MIT
"""What operatorctl prints: the wire's JSON for programs, text for people."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client_stub import EVENT, QUEUED, REPORTS, SESSION_ID, STARTED, Item, Run, StubDaemon, golden
from daemon_lab import PATIENCE

from operatord_client.ctl import terminal
from operatord_client.ctl.verbs import bulletins
from operatord_client.ctl.verbs.receive import bar

OTHER_ID = "EE705B00000000AA"
QUERIES = [
    ("session.get", "rpc: completed", ["get", SESSION_ID]),
    ("session.list", "rpc: sessions", ["list"]),
    ("session.plan", "rpc: plan, start", ["plan"]),
    ("session.stop", "rpc: stopped", ["stop", SESSION_ID]),
    ("session.wait", "rpc: completed", ["wait", SESSION_ID]),
    ("session.extend", "rpc: extended", ["extend", SESSION_ID, "60"]),
    ("session.logs", "rpc: logs", ["logs", SESSION_ID]),
    ("session.stats", "rpc: stats", ["stats", SESSION_ID]),
    ("session.start", "rpc: started", ["start"]),
    ("system.status", "rpc: status", ["status"]),
    ("system.metrics", "rpc: metrics", ["metrics"]),
    ("system.ping", "rpc: ping", ["ping"]),
    ("system.describe", "rpc: describe", ["describe"]),
    ("system.drain", "rpc: draining", ["drain"]),
    ("system.undrain", "rpc: admitting again", ["undrain"]),
    ("system.reload", "rpc: reloaded", ["reload"]),
    ("pipeline.list", "rpc: pipelines", ["pipelines"]),
    ("probe.list", "rpc: probes", ["probe", "list"]),
    ("probe.remove", "rpc: probe removed", ["probe", "remove", "us-1"]),
    ("probe.remove", "rpc: probe removed", ["probe", "forget", "us-1"]),
]


@pytest.mark.parametrize(("method", "name", "args"), QUERIES, ids=str)
def test_json_is_the_wire_s_own_document(
    daemon: StubDaemon, ctl: Run, method: str, name: str, args: list[str]
) -> None:
    daemon.on(method, golden(name))
    for spelled in (["-o", "json", *args], [*args, "-o", "json"]):
        ran = ctl(*spelled)
        assert (ran.code, ran.err) == (0, "")
        assert ran.json == golden(name)["result"]
        assert ran.out.count("\n") == 1


@pytest.mark.parametrize(("method", "name", "args"), QUERIES, ids=str)
def test_text_says_something_and_leaves_no_blanks_at_line_ends(
    daemon: StubDaemon, ctl: Run, method: str, name: str, args: list[str]
) -> None:
    daemon.on(method, golden(name))
    ran = ctl(*args)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip()
    assert all(line == line.rstrip() for line in ran.out.replace("| \n", "|\n").splitlines())


RUNNING = {
    "session_id": SESSION_ID,
    "pipeline": "segmented",
    "phase": "running",
    "location": {"host": "127.0.0.1", "port": 1, "url": "tcp://127.0.0.1:1", "format": "json"},
    "created": "2024-05-17T09:30:00.120Z",
    "timings": {"network": 5.25, "start.probe": 20.0, "start": 40.0, "turn": 0.0, "total": 51.3},
    "warm": True,
    "probe": "a07fa236c7c646bb84cc622f240c3da0",
}
FAILED = {
    "session_id": OTHER_ID,
    "pipeline": "segmented",
    "phase": "ended",
    "outcome": "failed",
    "cause": "oom",
    "reason": "it needed more than its 128 MiB",
    "created": "2024-05-17T09:30:00.120Z",
    "exit_codes": {"probe": None, "segmentation": 137},
}


def test_a_table_of_sessions(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.list", {"result": {"sessions": [RUNNING, FAILED]}})
    assert ctl("list").out.splitlines() == [
        "SESSION           PIPELINE   PHASE           OUTCOME       CREATED (UTC)        OWNER  LOCATION",
        "EE705B6538693C50  segmented  running (warm)  -             2024-05-17 09:30:00  -      "
        "tcp://127.0.0.1:1",
        "EE705B00000000AA  segmented  ended           failed (oom)  2024-05-17 09:30:00  -      -",
    ]


def test_get_tells_a_person_everything(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.get", {"result": RUNNING})
    assert ctl("get", SESSION_ID).out.splitlines() == [
        "session   EE705B6538693C50",
        "phase     running (warm)",
        "location  tcp://127.0.0.1:1  json",
        "pipeline  segmented",
        "created   2024-05-17T09:30:00.120Z",
        "timings   51.3 ms (network 5.2, start 40.0)",
        "stages    probe  a07fa236c7c6",
    ]
    daemon.on("session.get", {"result": FAILED})
    assert ctl("get", OTHER_ID).out.splitlines() == [
        "session   EE705B00000000AA",
        "phase     ended",
        "outcome   failed (oom)",
        "reason    it needed more than its 128 MiB",
        "pipeline  segmented",
        "created   2024-05-17T09:30:00.120Z",
        "stages    probe         -",
        "          segmentation  -  exit 137",
    ]


def test_what_was_attached_later_is_not_among_the_steps_of_the_start(
    daemon: StubDaemon, ctl: Run
) -> None:
    timings = {"start": 40.0, "total": 41.0, "attach": 300.0, "start.segmentation": 299.0}
    daemon.on("session.get", {"result": {**RUNNING, "timings": timings}})
    assert "timings   41.0 ms (start 40.0)" in ctl("get", SESSION_ID).out.splitlines()


BURIED = {
    **FAILED,
    "timings": {"network": 5.25, "start.probe": 20.0, "start": 40.0},
    "post_mortem": {
        "phases": {
            "queued": "2024-05-17T09:30:00.120Z",
            "starting": "2024-05-17T09:30:00.121Z",
            "stopping": "2024-05-17T09:30:07.000Z",
            "ended": "2024-05-17T09:30:07.420Z",
        },
        "stage": "segmentation",
        "advice": "raise pipelines.segmented.stages.segmentation.memory_limit, now 128 MiB",
        "usage": {
            "probe": {"cpus": 0.021, "memory": 22_282_240},
            "segmentation": {"cpus": 0.9, "memory": 134_217_728},
        },
        "log": {"segmentation": ["one", "", "  two"], "probe": ["three"]},
    },
}


def test_get_tells_a_person_why_a_session_ended_and_what_to_do(
    daemon: StubDaemon, ctl: Run
) -> None:
    daemon.on("session.get", {"result": BURIED})
    assert ctl("get", OTHER_ID).out.splitlines() == [
        "session   EE705B00000000AA",
        "phase     ended",
        "outcome   failed (oom)",
        "reason    it needed more than its 128 MiB",
        "at fault  segmentation",
        "advice    raise pipelines.segmented.stages.segmentation.memory_limit, now 128 MiB",
        "pipeline  segmented",
        "phases    queued    2024-05-17T09:30:00.120Z",
        "          starting  2024-05-17T09:30:00.121Z",
        "          stopping  2024-05-17T09:30:07.000Z",
        "          ended     2024-05-17T09:30:07.420Z",
        "timings   45.2 ms (network 5.2, start 40.0)",
        "stages    probe         -",
        "          segmentation  -  exit 137",
        "peak use  probe         0.02 cores, 21.2 MiB",
        "          segmentation  0.90 cores, 128.0 MiB",
        "",
        "log of segmentation, the stage at fault",
        "  one",
        "",
        "    two",
        "",
        "log of probe",
        "  three",
    ]


def test_post_mortem_of_a_later_version_is_shown_as_far_as_it_is_known(
    daemon: StubDaemon, ctl: Run
) -> None:
    daemon.on("session.get", {"result": {**FAILED, "post_mortem": {"verdict": {"new": True}}}})
    daemon_said = ctl("get", OTHER_ID)
    assert (daemon_said.code, daemon_said.err) == (0, "")


def test_quiet_lists_ids_and_nothing_for_none(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.list", golden("rpc: sessions"))
    assert ctl("list", "-q").out.splitlines()[0] == SESSION_ID
    daemon.on("session.list", golden("rpc: no sessions"))
    assert ctl("list", "-q").out == ""


def _known(daemon: StubDaemon, *sessions: dict[str, Any]) -> None:
    """Answer `session.list` as a daemon does that knows these sessions."""

    def listed(request: dict[str, Any]) -> list[Item]:
        params = request.get("params", {})
        found = [s for s in sessions if params.get("phase", s["phase"]) == s["phase"]]
        return [{"result": {"sessions": found[: params.get("limit")]}}]

    daemon.on("session.list", listed)


WAITING = {**RUNNING, "session_id": "EE705B00000000BB", "phase": "queued"}


def test_list_leaves_out_those_that_have_ended(daemon: StubDaemon, ctl: Run) -> None:
    """N13: four hundred of the dead hide the few that live."""
    later = {**RUNNING, "created": "2024-05-17T09:30:01.000Z"}
    _known(daemon, WAITING, FAILED, later)
    newest_first = [SESSION_ID, WAITING["session_id"]]
    assert ctl("list", "-q").out.split() == newest_first
    assert [s["session_id"] for s in ctl("list", "-o", "json").json["sessions"]] == newest_first
    assert ctl("list", "-q", "--limit", "1").out.split() == newest_first[:1]
    assert OTHER_ID in ctl("list", "--all").out
    assert ctl("list", "-q", "--phase", "ended").out.split() == [OTHER_ID]


def test_session_that_moves_on_between_two_looks_is_listed_once(
    daemon: StubDaemon, ctl: Run
) -> None:
    """N13"""
    _known(daemon, WAITING, {**WAITING, "phase": "starting"})
    assert [s["phase"] for s in ctl("list", "-o", "json").json["sessions"]] == ["starting"]


@pytest.mark.parametrize("word", ["ls", "ps"])
def test_words_of_other_programs_are_taken_for_list(
    daemon: StubDaemon, ctl: Run, word: str
) -> None:
    """N13"""
    _known(daemon, RUNNING)
    assert ctl(word).out == ctl("list").out


def test_stop_all_stops_each_that_lives_and_that_one_may_stop(daemon: StubDaemon, ctl: Run) -> None:
    """N13: those that wait first, or they would start meanwhile; those of others are left alone."""
    others = {**RUNNING, "session_id": "EE705B00000000CC"}
    _known(daemon, others, RUNNING, FAILED, WAITING)
    asked: list[str] = []

    def stopped(request: dict[str, Any]) -> list[Item]:
        session_id = request["params"]["session_id"]
        asked.append(session_id)
        if session_id == others["session_id"]:
            return [golden("error: not yours")]
        return [{"result": {**RUNNING, "session_id": session_id, "outcome": "stopped"}}]

    daemon.on("session.stop", stopped)
    ran = ctl("rm", "--all")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.split() == [WAITING["session_id"], "stopped", SESSION_ID, "stopped"]
    assert asked[0] == WAITING["session_id"]
    assert set(asked) == {WAITING["session_id"], SESSION_ID, others["session_id"]}


@pytest.mark.parametrize("args", [["stop"], ["stop", SESSION_ID, "--all"]])
def test_stop_wants_ids_or_all(ctl: Run, args: list[str]) -> None:
    """N13"""
    ran = ctl(*args)
    assert (ran.code, ran.out) == (2, "")
    assert "the ids of sessions, or --all" in ran.err


def test_a_refusal_in_json_is_the_wire_s_error_on_stderr(daemon: StubDaemon, ctl: Run) -> None:
    error = golden("error: no room")["error"]
    daemon.on("session.start", {"error": error})
    ran = ctl("start", "-o", "json")
    assert ran.out == ""
    assert json.loads(ran.err) == {"error": error}


def test_a_refusal_says_when_to_try_again_and_shows_the_log(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.start", golden("error: no room"))
    assert "(try again in 12.5 s)" in ctl("start").err
    daemon.on("session.start", golden("error: start failed"))
    assert "\n  cannot reach probe:12345\n" in ctl("start").err


# --- at a terminal ---------------------------------------------------------------------------------


def test_progress_is_written_over_and_erased(
    daemon: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    daemon.on("session.start", QUEUED, STARTED)
    drawn = ctl("start", "-o", "json").err.split(terminal.ERASE)
    place = QUEUED["params"]["position"]
    assert f"queued at position {place}" in drawn[1]
    assert drawn[-1] == ""


def test_a_bar_grows_with_the_frames() -> None:
    assert bar(15, 30) == "[###############               ] 15/30 frames"
    assert bar(31, 30).startswith("[" + "#" * 30 + "]")
    assert bar(7, None) == "7 frames"


def test_the_version_is_printed(ctl: Run) -> None:
    ran = ctl("--version")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("operatorctl ")


# --- sessions that nobody reads -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "get", "watch"])
def test_session_that_nobody_has_read_for_minutes_shows(
    daemon: StubDaemon, ctl: Run, command: str
) -> None:
    """N2: whose sessions nobody wants is seen at a glance."""
    since = (datetime.now(UTC) - timedelta(minutes=12, seconds=5)).isoformat()
    session = {**STARTED["result"], "unread_since": since}
    gone = {**golden("rpc: completed")["result"], "session_id": SESSION_ID}
    answers = iter([session, gone])
    daemon.on("session.list", {"result": {"sessions": [session]}})
    daemon.on("session.get", lambda _: [{"result": next(answers)}])
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT)
    ran = ctl(*([command] if command == "list" else [command, SESSION_ID]))
    assert ran.code == 0
    assert "unread for 12m" in ran.out


def test_session_that_was_just_started_is_not_called_unread(daemon: StubDaemon, ctl: Run) -> None:
    """N2: everybody takes a moment to connect."""
    session = {**STARTED["result"], "unread_since": datetime.now(UTC).isoformat()}
    daemon.on("session.get", {"result": session})
    assert "unread" not in ctl("get", SESSION_ID).out


# --- a start that waits, where nothing can be written over -------------------------------------------


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Return what waits until so many lines were said on standard error; no line waits for long."""
    count = threading.Semaphore(0)
    note = terminal.note

    def noted(text: str) -> None:
        note(text)
        count.release()

    monkeypatch.setattr(terminal, "note", noted)
    for name in ("QUIET_SECONDS", "BETWEEN_SECONDS"):
        monkeypatch.setattr(bulletins, name, 0.001)

    def until_said(lines: int) -> None:
        for _ in range(lines):
            assert count.acquire(timeout=PATIENCE)

    return until_said


def waiting(reason: str, estimate: float) -> Item:
    params = {**QUEUED["params"], "reason": reason, "estimate": estimate}
    return {**QUEUED, "params": params}


def test_piped_start_that_waits_says_why_once_for_each_reason(
    daemon: StubDaemon, ctl: Run, said: Callable[[int], Any]
) -> None:
    """N3: a line on standard error, terminal or not, and no flood of estimates."""

    def answer(_: dict[str, Any]) -> Iterator[Item]:
        yield waiting("3 of 3 sessions live", 40.0)
        said(1)
        yield from (waiting("3 of 3 sessions live", estimate) for estimate in (30.0, 20.0))
        yield waiting("the daemon is draining", 20.0)
        said(1)
        yield STARTED

    daemon.on("session.start", answer)
    ran = ctl("start")
    assert ran.code == 0
    first, second = ran.err.splitlines()
    assert first.startswith(f"{QUEUED['params']['session_id']}  queued at position")
    assert first.endswith("3 of 3 sessions live")
    assert second.endswith("the daemon is draining")


def test_piped_start_that_is_quick_says_nothing(daemon: StubDaemon, ctl: Run) -> None:
    """N3: who does not wait is not told about waiting."""
    daemon.on("session.start", QUEUED, STARTED)
    ran = ctl("start")
    assert (ran.code, ran.err) == (0, "")
    assert REPORTS[0][2] not in ran.out


def test_start_that_waits_is_refused_with_one_sentence_after_its_lines(
    daemon: StubDaemon, ctl: Run, said: Callable[[int], Any]
) -> None:
    """N3: nothing more is said about waiting once that is over."""

    def answer(_: dict[str, Any]) -> Iterator[Item]:
        yield QUEUED
        said(1)
        yield golden("error: no such session")

    daemon.on("session.start", answer)
    ran = ctl("start")
    assert ran.code != 0
    assert len(ran.err.splitlines()) == 2
