# SPDX-License-Identifier: MIT
"""record: what is written, what is said of it, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from client_stub import SESSION_ID, Run, StreamServer, StubDaemon, golden, located, stream_of
from daemon_lab import PATIENCE

from operatord_client.ctl import exits
from operatord_client.options import Recorded
from operatord_protocol.stream import End, StreamParser

Serve = Callable[..., StreamServer]
CTL = (sys.executable, "-m", "operatord_client.operatorctl")


@pytest.fixture
def session(daemon: StubDaemon, serve: Serve) -> StubDaemon:
    daemon.on("session.get", located(serve(stream_of(3))))
    return daemon


def begun(daemon: StubDaemon, *args: str) -> subprocess.Popen[bytes]:
    host, port = daemon.address
    return subprocess.Popen(
        [*CTL, "--address", f"{host}:{port}", "record", SESSION_ID, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_file_and_summary(session: StubDaemon, ctl: Run, tmp_path: Path) -> None:
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert (ran.code, ran.err) == (exits.OK, "")
    assert "recorded  3 frames" in ran.out
    assert "the stream's own" in ran.out
    assert (tmp_path / "f").read_bytes() == stream_of(3)


def test_summary_for_programs(session: StubDaemon, ctl: Run, tmp_path: Path) -> None:
    found = ctl("record", SESSION_ID, str(tmp_path / "f.y4m"), "-o", "json", "--frames", "2").json
    assert found.keys() == set(Recorded._fields)
    assert (found["frames"], found["ended"], found["expected"]) == (2, False, 3)
    assert (tmp_path / "f.y4m").read_bytes().count(b"FRAME ") == 2


def test_standard_output_gets_the_stream_and_nothing_else(session: StubDaemon) -> None:
    out, err = begun(session, "-").communicate(timeout=PATIENCE)
    assert out == stream_of(3)
    assert b"recorded  3 frames" in err


def test_file_that_is_there_stays(session: StubDaemon, ctl: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"precious")
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert ran.code == exits.FAILED
    assert "--force" in ran.err
    assert (tmp_path / "f").read_bytes() == b"precious"
    assert ctl("record", SESSION_ID, str(tmp_path / "f"), "--force").code == exits.OK
    assert (tmp_path / "f").read_bytes() == stream_of(3)


def test_file_without_a_name_is_refused(session: StubDaemon, ctl: Run) -> None:
    ran = ctl("record", SESSION_ID, "")
    assert (ran.code, ran.err.count("the name of the file is empty")) == (exits.FAILED, 1)


def test_file_that_cannot_be_made(session: StubDaemon, tmp_path: Path) -> None:
    process = begun(session, str(tmp_path / "nowhere" / "f"))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == exits.OUTPUT_FAILED
    assert b"cannot be written: No such file or directory" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_is_said(session: StubDaemon) -> None:
    process = begun(session, "/dev/full")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == exits.OUTPUT_FAILED
    assert b"/dev/full cannot be written: No space left on device" in err


def test_stream_that_is_cut_off(daemon: StubDaemon, serve: Serve, ctl: Run, tmp_path: Path) -> None:
    daemon.on("session.get", located(serve(stream_of(3)[:-60])))
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert ran.code == exits.FAILED
    assert "was cut off before its end; the " in ran.err
    assert "are kept" in ran.err


def test_stream_that_is_cut_off_because_its_session_failed_says_why(
    daemon: StubDaemon, serve: Serve, ctl: Run, tmp_path: Path
) -> None:
    failed = golden("rpc: failed")
    daemon.on("session.get", located(serve(stream_of(3)[:-60])))
    daemon.on("session.wait", failed)
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert ran.code == exits.FAILED
    assert f"was cut off before its end: {failed['result']['reason']}; the 2 frames" in ran.err


def test_rate_that_a_stream_does_not_say_is_named_and_given(
    daemon: StubDaemon, serve: Serve, ctl: Run, tmp_path: Path
) -> None:
    assert b"fps" not in stream_of(3)
    daemon.on("session.get", located(serve(stream_of(3))))
    usual = ctl("record", SESSION_ID, str(tmp_path / "a.y4m"))
    assert "rate      30 frames/s for players; the stream says none, and --fps another" in usual.out
    given = ctl("record", SESSION_ID, str(tmp_path / "b.y4m"), "--fps", "12.5", "-o", "json")
    assert given.json["assumed_fps"] == 12.5
    assert (tmp_path / "b.y4m").read_bytes().startswith(b"YUV4MPEG2 W4 H1 F12500:1000 ")
    assert "rate" not in ctl("record", SESSION_ID, str(tmp_path / "c")).out


def test_session_that_waits_for_its_turn(
    daemon: StubDaemon, serve: Serve, ctl: Run, tmp_path: Path
) -> None:
    running = located(serve(stream_of(3)))
    daemon.on("session.get", golden("rpc: accepted and queued"))
    daemon.on("session.wait", running)
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert ran.code == exits.OK
    assert "is queued; the recording begins with its stream" in ran.err
    assert (tmp_path / "f").read_bytes() == stream_of(3)


def test_a_stage_that_delivers_nothing_any_more_is_told(
    daemon: StubDaemon, serve: Serve, tmp_path: Path
) -> None:
    stalled = {
        "method": "event",
        "params": {
            "type": "session.stalled", "session_id": SESSION_ID, "stage": "probe", "seconds": 10,
            "subscription": 1, "seq": 7, "time": "2026-11-30T12:00:00Z",
        },
    }  # fmt: skip
    daemon.on("session.get", located(serve(stream_of(3)[:-60], hold=True)))
    daemon.on("events.subscribe", golden("rpc: subscribed"), stalled)
    process = begun(daemon, str(tmp_path / "f"))
    assert process.stderr
    said = process.stderr.readline().decode()
    assert said == f"probe has delivered nothing for 10 s; {SESSION_ID} waits for it\n"
    asked = daemon.asked("events.subscribe")["params"]
    assert asked == {"session_id": SESSION_ID, "types": ["session.stalled"]}
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert b"recorded  2 frames" in out


@pytest.mark.parametrize("expected", [None, 100])
def test_bar_on_a_terminal(expected: int | None) -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from operatord_client.ctl.verbs.drawing.record import RecordBar

    out = io.StringIO()
    with RecordBar(Console(file=out, width=80, force_terminal=True)) as bar:
        bar.show(Recorded(40, 0, 3 << 20, 1.0, expected, ended=False))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert ("40 of 100 frames" if expected else "40 frames") in text
    assert "3.0 MiB" in text


def test_session_that_has_ended(daemon: StubDaemon, serve: Serve, ctl: Run, tmp_path: Path) -> None:
    daemon.on("session.get", located(serve(stream_of(3)), phase="ended", outcome="stopped"))
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert (ran.code, "has ended" in ran.err) == (exits.FAILED, True)


def test_session_that_is_not(daemon: StubDaemon, ctl: Run, tmp_path: Path) -> None:
    daemon.on("session.get", golden("error: no such session"))
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"))
    assert (ran.code, (tmp_path / "f").exists()) == (exits.NOT_FOUND, False)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--frames", "0"), "a whole number from 1 on"),
        (("--until", "0"), "a time such as 90s or 5m, or end"),
        (("--until", "noon"), "expected a time such as"),
        (("--format", "mp4"), "invalid choice"),
    ],
)
def test_what_cannot_be_meant(ctl: Run, tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"), *args)
    assert (ran.code, said in ran.err) == (exits.USAGE, True), ran.err


def test_time_that_is_up(daemon: StubDaemon, serve: Serve, ctl: Run, tmp_path: Path) -> None:
    daemon.on("session.get", located(serve(stream_of(3)[:-60], hold=True)))
    ran = ctl("record", SESSION_ID, str(tmp_path / "f"), "--until", "200ms")
    assert (ran.code, "stopped before the stream's" in ran.out) == (exits.OK, True)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, 143)]
)
def test_signal_leaves_a_whole_file(
    daemon: StubDaemon, serve: Serve, tmp_path: Path, number: int, code: int
) -> None:
    daemon.on("session.get", located(serve(stream_of(3)[:-60], hold=True)))
    path = tmp_path / "pipe"
    os.mkfifo(path)
    process = begun(daemon, str(path), "-o", "json")
    with path.open("rb") as pipe:
        head = pipe.readline()  # so it has been connected, and writes
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        items = StreamParser().feed(head + pipe.read())
    assert process.returncode == code, err
    frames = json.loads(out)["frames"]
    assert items[-1] == End(frames=frames)
    assert len(items) == frames + 2
