# SPDX-License-Identifier: MIT
"""operatorctl, strangely written to, and with strange things to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from client_stub import LOG, LOG_END, RUNNING, SESSION_ID, Run, StubDaemon, golden

from operatord_client import operatorctl
from operatord_client.address import parse_address
from operatord_client.ctl import exits
from operatord_protocol.visible import tidied, visible

COMMANDS = "\x1b]0;title\x07\x1b[2J\x1b]52;c;eA==\x07\rover\x08\x7f\x9b2J\u202egnp.exe\u2066\u200b"
"""Title, clear, clipboard, over the line; DEL, a C1 CSI, turned directions, nothing to be seen."""
UNFIT = set("\x00\x07\x08\r\x1b\x7f\x9b\u202e\u2066\u200b")


def daemon_with(daemon: StubDaemon, **members: Any) -> dict[str, Any]:
    """Have the stub show a session with these members; return it."""
    shown = {**RUNNING, **members}
    daemon.on("session.get", {"result": shown})
    daemon.on("session.list", {"result": {"sessions": [shown, shown]}})
    return shown


def fed(daemon: StubDaemon, *args: str | bytes, script: str = '"$@"', **env: str) -> Any:
    """Run operatorctl in a shell of its own."""
    host, port = daemon.address
    command = [sys.executable, "-m", "operatord_client.operatorctl", *args]
    return subprocess.run(
        ["sh", "-c", script, "sh", *command],
        capture_output=True,
        env={**os.environ, "OPERATORD_ADDRESS": f"{host}:{port}", **env},
        timeout=60,
        check=False,
    )


# --- what is shown -----------------------------------------------------------------------------------


def test_what_commands_a_terminal_is_shown_as_an_escape() -> None:
    """F14: C0, C1, and what turns or hides writing; joiners of emoji and scripts stay."""
    assert not set(visible(COMMANDS)) & UNFIT
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x1b[2J\r\x9b\u202e\ud800") == "\\x1b[2J\\r\\x9b\\u202e\\ud800"
    assert visible("m\u00fcller \u4e2d\u6587 \u0646\u06cc\u200c \U0001f469\u200d\U0001f52c") == (
        "m\u00fcller \u4e2d\u6587 \u0646\u06cc\u200c \U0001f469\u200d\U0001f52c"
    )
    assert tidied({"a\nb": ["c\nd", 1, None]}) == {"a\\nb": ["c\\nd", 1, None]}


@pytest.mark.parametrize("command", [["get", SESSION_ID], ["list", "--all"], ["watch", SESSION_ID]])
def test_nothing_that_a_session_says_reaches_the_terminal_raw(
    daemon: StubDaemon, ctl: Run, command: list[str]
) -> None:
    """F14: owner, reason, the last lines of its stages; a line end makes no second entry."""
    daemon_with(
        daemon,
        phase="ended",
        owner=f"a\n{COMMANDS}",
        reason=COMMANDS,
        post_mortem={"phases": {}, "advice": COMMANDS, "log": {"probe": [COMMANDS, "a\rb"]}},
    )
    daemon.on("events.subscribe", golden("rpc: subscribed"))
    ran = ctl(*command)
    assert not set(ran.out + ran.err) & UNFIT
    assert "\\x1b[2J" in ran.out
    if command == ["list", "--all"]:
        assert len(ran.out.splitlines()) == 3


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_log_lines_are_shown_with_escapes_and_in_json_as_they_are(
    daemon: StubDaemon, ctl: Run, follow: list[str]
) -> None:
    """F14"""
    line = {"stage": "probe", "time": "t", "line": f"a\tb {COMMANDS}"}
    if follow:
        note = {"method": "session.log", "params": {**LOG["params"], **line}}
        daemon.on("session.logs", golden("rpc: logs, followed"), note, LOG_END)
    else:
        daemon.on("session.logs", {"result": {"lines": [line]}})
    ran = ctl("logs", SESSION_ID, *follow)
    assert ran.out.startswith("probe | a\tb \\x1b]0;title\\x07")
    assert not set(ran.out) & UNFIT
    ran = ctl("logs", SESSION_ID, *follow, "-o", "json")
    shown = json.loads(ran.out)
    assert (shown if follow else shown["lines"][0])["line"] == line["line"]


def test_labels_errors_and_refusals_are_shown_with_escapes(daemon: StubDaemon, ctl: Run) -> None:
    """F14"""
    probe = {
        "name": "p", "host": "h", "port": 1, "state": "down", "error": COMMANDS,
        "labels": {COMMANDS: COMMANDS}, "lease": "pinned", "sessions": [],
    }  # fmt: skip
    daemon.on("probe.get", {"result": probe})
    daemon.on("probe.list", {"result": {"probes": [probe]}})
    error = {"code": 12, "message": COMMANDS, "data": {"type": "start_failed", "retryable": False}}
    daemon.on("session.start", {"error": {**error, "data": {**error["data"], "log": [COMMANDS]}}})
    for command in (["probe", "get", "p"], ["probe", "list"], ["start"]):
        ran = ctl(*command)
        assert not set(ran.out + ran.err) & UNFIT


# --- bytes and outputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
@pytest.mark.parametrize(
    "args", [[b"list", b"--owner", b"M\xfcller"], [b"start", b"--env", b"probe.fps=\xff"]]
)
def test_bytes_that_are_no_text_are_a_sentence(
    daemon: StubDaemon, args: list[bytes], locale: dict[str, str]
) -> None:
    """F13"""
    ran = fed(daemon, *args, **locale)
    assert (ran.returncode, ran.stdout) == (exits.USAGE, b"")
    assert b"UTF-8" in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ('"$@" >/dev/full', exits.OUTPUT_FAILED, "No space left"),
        ('"$@" >&-', exits.OUTPUT_FAILED, "closed"),
        ('"$@" 2>/dev/full', exits.OK, ""),
        ('"$@" 2>&-', exits.OK, ""),
        ('"$@" >/dev/full 2>/dev/full', exits.OUTPUT_FAILED, ""),
        ('"$@" >&- 2>&-', exits.OUTPUT_FAILED, ""),
    ],
)
@pytest.mark.parametrize("options", [[], ["-o", "json"]])
def test_output_that_cannot_be_written_is_a_sentence_and_a_code(
    daemon: StubDaemon, script: str, code: int, said: str, options: list[str]
) -> None:
    """F13"""
    daemon_with(daemon)
    ran = fed(daemon, "list", *options, script=script)
    assert ran.returncode == code
    assert said in ran.stderr.decode()
    assert b"Traceback" not in ran.stderr
    assert b"Exception" not in ran.stderr
    assert len(ran.stderr.splitlines()) == (1 if said else 0)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["start", "--help"]])
def test_help_that_cannot_be_written_is_one_too(daemon: StubDaemon, args: list[str]) -> None:
    """F13"""
    ran = fed(daemon, *args, script='"$@" >/dev/full')
    assert ran.returncode == exits.OUTPUT_FAILED
    assert len(ran.stderr.splitlines()) == 1


def test_refusal_is_said_though_there_is_no_standard_error(daemon: StubDaemon) -> None:
    """F13: by its code, at least."""
    daemon.on("session.get", {"error": golden("error: no such session")["error"]})
    for script in ('"$@" 2>&-', '"$@" 2>/dev/full'):
        assert fed(daemon, "get", SESSION_ID, script=script).returncode == exits.NOT_FOUND


def test_connection_takes_the_place_of_no_standard_stream(
    daemon: StubDaemon, tmp_path: Path
) -> None:
    """F13: what is closed is the null device before there is a socket."""
    pid, found = tmp_path / "pid", dict[str, str]()

    def answer(_: Any) -> list[Any]:
        proc = Path("/proc", pid.read_text().strip(), "fd")
        found.update({name: str((proc / name).readlink()) for name in "012"})
        return [{"result": {"sessions": []}}]

    daemon.on("session.list", answer)
    script = f'echo $$ >{pid}; exec "$@" <&- >&- 2>&-'
    assert fed(daemon, "list", script=script).returncode == exits.OUTPUT_FAILED
    assert found == dict.fromkeys("012", os.devnull)


def test_text_that_the_terminal_has_no_letters_for_is_escaped(daemon: StubDaemon) -> None:
    """F13"""
    daemon_with(daemon, owner="m\u00fcller \u4e2d")
    ran = fed(daemon, "get", SESSION_ID, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (exits.OK, b"")
    assert b"m\\xfcller \\u4e2d" in ran.stdout
    ran = fed(daemon, "get", SESSION_ID, "-o", "json", PYTHONIOENCODING="ascii")
    assert json.loads(ran.stdout)["owner"] == "m\u00fcller \u4e2d"


# --- addresses and options ---------------------------------------------------------------------------

ADDRESSES = [
    ("127.0.0.1:7733", "127.0.0.1:7733"), (":7733", "127.0.0.1:7733"), ("h", "h:7733"),
    ("tcp://h:1", "h:1"), ("tcp://h:1/", "h:1"), ("[::1]:7733", "[::1]:7733"), ("[::1]", "[::1]:7733"),
    ("unix:/a", "unix:/a"), ("unix:///a", "unix:/a"), ("unix:a", "unix:a"), ("/a/b.sock", "unix:/a/b.sock"),
    ("./b", "unix:./b"),
]  # fmt: skip
NO_ADDRESSES = [
    ("http://127.0.0.1:7733", "127.0.0.1:7733"), ("https://h:1/", "h:7733"), ("http://h", "h:7733"),
    ("ssh://h:22", "h:22"), ("7733", "127.0.0.1:7733"), ("::1:7733", "[::1]:7733"), ("::1", "[::1]:7733"),
    ("h:", "h:7733"), ("h:0", "h:7733"), ("h:65536", "h:7733"), ("h:x", "h:7733"), ("h:-1", "h:7733"),
    ("h:99999999999", "h:7733"), ("a..b:1", "127.0.0.1:7733"), (".", "127.0.0.1:7733"),
    ("op.sock", "unix:op.sock"), ("unix:", "unix:/"), ("unix://", "unix:/"), ("h :1", "127.0.0.1:7733"),
    ("[::1:7733", "[::1]:7733"), ("tcp://", "127.0.0.1:7733"), ("http://", "127.0.0.1:7733"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "means"), ADDRESSES)
def test_address_is_understood(text: str, means: str) -> None:
    """N14"""
    assert str(parse_address(text)) == means


@pytest.mark.parametrize(("text", "example"), NO_ADDRESSES)
def test_address_that_is_none_is_told_with_one_that_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, example: str
) -> None:
    """N14: on the command line, before and after the verb, and in the environment."""
    for args in (["--address", text, "ping"], ["ping", "--address", text]):
        assert operatorctl.main(args) == exits.USAGE
        said = capsys.readouterr()
        assert "is not the address of a daemon" in said.err
        assert f"such as {example}" in said.err
        assert (said.out, len(said.err.splitlines())) == ("", 1)
    monkeypatch.setenv("OPERATORD_ADDRESS", text)
    assert operatorctl.main(["ping"]) == exits.USAGE
    assert "OPERATORD_ADDRESS: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "usage", "meant"),
    [
        (["start", "--plian"], "operatorctl start", "--plain"),
        (["start", "--cuont=5"], "operatorctl start", "--count"),
        (["probe", "add", "p", "h:1", "--lable", "a=b"], "operatorctl probe add", "--label"),
        (["list", "--adress", "h:1"], "operatorctl list", "--address"),
        (["--tokn=t", "list"], "operatorctl list", "--token"),
        (["--adress", "h:1", "list"], "operatorctl", "; did you mean '--address'?"),
        (["-o", "json", "--tokn", "t", "list"], "operatorctl", "; did you mean '--token'?"),
        (["status", "--json"], "operatorctl status", "; did you mean '--output json'?"),
        (["list", "--jsn"], "operatorctl list", "; did you mean '--output json'?"),
        (
            ["start", "--json"],
            "operatorctl start",
            "did you mean '--format json' or '--output json'?",
        ),
        (["extend", "EE70", "--ttl", "30"], "operatorctl extend", "; known: --address, "),
        (["status", "now"], "operatorctl status", ""),
    ],
)
def test_slip_in_an_option_is_told_with_the_usage_of_its_command(
    ctl: Run, args: list[str], usage: str, meant: str
) -> None:
    """N14"""
    ran = ctl(*args)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert ran.err.startswith(f"usage: {usage} [")
    assert meant in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["probe", "add", "p", "nope"], "ADDRESS: expected HOST:PORT such as "),
        (["probe", "add", "p", "h:99999"], "ADDRESS: expected HOST:PORT such as "),
        (["probe", "add", "p", "h:1", "--label", "x"], "--label: expected KEY=VALUE such as room=4"),
        (["start", "--env", "fps=60"], "--env: expected STAGE.KEY=VALUE such as probe.fps=60"),
        (["start", "--lease", "ttl"], "--lease: expected pinned, connection, or a time such as ttl=30s"),
        (["start", "--lease", "ttl=x"], "--lease: expected a time such as 90, 90s, 5m, "),
        (["start", "--count", "x"], "--count: expected a whole number such as 100"),
        (["events", "--since", "1.5"], "--since: expected a whole number such as 100"),
        (["extend", "EE70", "5x"], "TTL: expected a time such as 90, 90s, 5m, 2h or 250ms"),
        (["get", "xyz"], "ID: expected a session's id, or how it begins: "),
    ],
)  # fmt: skip
def test_value_that_is_none_is_told_with_an_example(ctl: Run, args: list[str], said: str) -> None:
    ran = ctl(*args)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert f"argument {said}" in ran.err
    assert ran.err.endswith("'\n"), "and what was typed comes last"


def test_password_at_an_address_without_a_scheme_is_not_repeated(ctl: Run) -> None:
    ran = ctl("probe", "add", "p", "ada:geheim@192.168.1.20")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "argument ADDRESS: a user and a password belong into a URL" in ran.err
    assert "geheim" not in ran.err


@pytest.mark.parametrize(
    ("args", "meant"),
    [(["lsit"], "list"), (["probe", "lits"], "list"), (["start", "--format", "Y4M"], "y4m")],
)
def test_slip_in_a_word_is_told_with_what_was_meant(ctl: Run, args: list[str], meant: str) -> None:
    """N14"""
    ran = ctl(*args)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert ran.err.endswith(f"did you mean {meant!r}?\n")


def test_common_options_are_taken_before_and_after_the_verb(
    daemon: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N14: the one after the verb counts, should both be there."""
    host, port = daemon.address
    daemon_with(daemon)
    monkeypatch.setenv("OPERATORD_ADDRESS", "unix:/nowhere")
    daemon.on("auth.login", {"result": {"user": "u", "role": "operator"}})
    common = ["--address", f"{host}:{port}", "--token", "t", "-o", "json"]
    verb = ["list", "--all"]
    for args in ([*common, *verb], [*verb, *common], ["--address", "x", *common, *verb]):
        ran = ctl(*args)
        assert ran.code == exits.OK
        assert len(json.loads(ran.out)["sessions"]) == 2
        assert daemon.asked("auth.login")["params"] == {"token": "t"}
    assert ctl("--address", "7733", "list", *common).code == exits.OK
