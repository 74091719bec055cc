# SPDX-License-Identifier: MIT
"""Client and operatorctl against the real daemon, with stages as local processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from daemon_lab import PATIENCE

from operatord_client import AsyncClient, Client, Progress
from operatord_client.errors import (
    InvalidParams,
    NeverFits,
    NoCapacity,
    NotFound,
    UnsendableRequest,
)
from operatord_protocol.stream import End, Frame, Hello, StreamError, StreamParser

COUNT = 20
CTL = (sys.executable, "-m", "operatord_client.operatorctl")
README = re.findall(
    r"^```python\n(.*?)^```",
    (Path(__file__).parents[2] / "client" / "README.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)
LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")

FILTER = """
import operatord_stage as stage
def fail(frame):
    if frame.seq == 5:
        raise RuntimeError("frame 5 is too much")
    return {}
stage.serve(fail)
"""
PROBE = {"image": "demo-probe", "port": 12345, "late_bind": "native"}
FAILING = {
    "stages": {
        "probe": PROBE,
        "segmentation": {
            "image": "demo-segmentation",
            "port": 12347,
            "command": [sys.executable, "-c", FILTER],
        },
    }
}
"""A pipeline whose last stage exits with 1 in the middle of its stream."""
CUT = "the stream was cut off before its end: the stage 'segmentation' ended with code 1"


class Daemon(NamedTuple):
    address: str
    unix: str
    log: list[str]


SERVE = (
    *(sys.executable, "-m", "operatord", "serve"),
    *("--listen", "127.0.0.1:0", "--engine", "process"),
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of its own for this module, stopped in order at the end."""
    state = tmp_path_factory.mktemp("state")
    config = state / "operatord.yaml"
    config.write_text(json.dumps({"limits": {"sessions": 4}, "pipelines": {"failing": FAILING}}))
    unix = str(state / "o.sock")
    process = subprocess.Popen(
        [*SERVE, "--unix", unix, "--state-dir", str(state / "state"), "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log: list[str] = []
    address = None
    for line in process.stderr:
        log.append(line)
        if found := LISTENING.search(line):
            address = found[1]
            break
    rest = threading.Thread(target=log.extend, args=(process.stderr,))
    rest.start()
    try:
        assert address is not None, f"the daemon did not listen: {''.join(log)}"
        yield Daemon(address, f"unix:{unix}", log)
    finally:
        process.terminate()
        code = process.wait(PATIENCE)
        rest.join()
        process.stderr.close()
    assert code == 0, "".join(log)


@pytest.fixture
def client(live: Daemon) -> Iterator[Client]:
    with Client(live.address) as client:
        yield client


def ctl(live: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CTL, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "OPERATORD_ADDRESS": live.address},
    )


def test_a_segmented_session_delivers_every_frame_and_completes(client: Client) -> None:
    reports: list[Progress] = []
    with client.start(count=COUNT, on_progress=reports.append) as session:
        stream = session.frames()
        assert (stream.hello.width, stream.hello.height, stream.hello.count) == (256, 256, COUNT)
        frames = list(stream)
    assert [frame.seq for frame in frames] == list(range(COUNT))
    assert all(frame.mask is not None for frame in frames)
    assert stream.end is not None
    assert stream.end.dropped == 0
    assert session.info.outcome == "completed"
    assert {report.session_id for report in reports} == {session.id}


def test_a_plain_session_has_no_masks_and_no_segmentation(client: Client) -> None:
    with client.start(count=3, plain_stream=True) as session:
        assert set(session.info.stages) == {"probe", "stream"}
        assert [frame.mask for frame in session.frames()] == [None] * 3


def test_y4m_is_taken_raw(client: Client) -> None:
    with client.start(count=3, format="y4m") as session, session.open_raw() as raw:
        header = raw.readline()
        body = raw.read()
    assert header.startswith(b"YUV4MPEG2 W256 H256 ")
    assert body.count(b"FRAME Xseq=") == 3


def test_stream_is_recorded_and_read_back(client: Client, tmp_path: Path) -> None:
    with client.start(count=COUNT) as session:
        recorded = session.record(tmp_path / "s.stream")
    assert session.info.outcome == "completed"
    data = (tmp_path / "s.stream").read_bytes()
    hello, *frames, end = StreamParser().feed(data)
    assert isinstance(hello, Hello) and isinstance(end, End)
    assert (hello.count, end.frames, end.dropped) == (COUNT, COUNT, 0)
    assert recorded == (COUNT, 0, len(data), recorded.seconds, COUNT, True, None)
    masks = [frame.mask_array for frame in frames if isinstance(frame, Frame)]
    assert all(mask is not None and mask.shape == (256, 256) and mask.any() for mask in masks)


@pytest.mark.parametrize("format", ["json", "y4m"])
def test_pictures_are_recorded_for_players(
    client: Client, tmp_path: Path, ffmpeg: str, format: Literal["json", "y4m"]
) -> None:
    file = tmp_path / "s.y4m"
    with client.start(count=5, plain_stream=True, format=format) as session:
        assert session.record(file).frames == 5
    assert file.read_bytes().startswith(b"YUV4MPEG2 W256 H256 F30:1 ")
    command = [ffmpeg, "-v", "error", "-i", str(file), "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (len(done.stdout), done.stderr) == (5 * 256 * 256, b"")


def test_operatorctl_records_what_somebody_else_has_started(
    live: Daemon, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "s.y4m"
    with client.start(count=100_000) as session:
        done = ctl(live, "record", session.id[:8], str(file), "--frames", "7")
        assert (done.returncode, done.stderr) == (0, "")
        assert "recorded  7 frames" in done.stdout
        assert session.refresh().phase == "running"
    assert file.read_bytes().count(b"FRAME Xseq=") == 7


def test_stage_that_fails_under_its_reader_is_named(client: Client) -> None:
    with pytest.raises(StreamError, match=CUT), client.start(pipeline="failing") as session:
        assert [frame.seq for frame in session.frames()] == list(range(5))
    assert (session.info.outcome, session.info.cause) == ("failed", "exit")


async def test_the_async_twin_names_it_as_well(live: Daemon) -> None:
    async with AsyncClient(live.address) as client:
        with pytest.raises(StreamError, match=CUT):
            async with await client.start(pipeline="failing") as session:
                _ = [frame async for frame in session.frames()]
        assert session.info.outcome == "failed"


def test_operatorctl_shows_the_post_mortem_of_what_fails_under_it(live: Daemon) -> None:
    done = ctl(live, "start", "--pipeline", "failing", "--count", "20", "--frames")
    assert (done.returncode, done.stderr) == (1, f"operatorctl: {CUT}\n")
    for words in ("failed (exit)", "at fault", "advice", "frame 5 is too much"):
        assert words in done.stdout


def test_leaving_early_stops_the_session(client: Client) -> None:
    with client.start(count=100_000) as session:
        assert next(session.frames()).seq == 0
    assert session.info.outcome == "stopped"
    assert client.get(session.id).phase == "ended"


def test_events_logs_and_stats_of_a_session(client: Client) -> None:
    with client.events() as events, client.start(count=100_000) as session:
        types = [next(e for e in events if e.session_id == session.id).type for _ in range(3)]
        assert types == ["session.queued", "session.starting", "session.running"]
        with session.logs(follow=True) as lines:
            assert next(lines).stage in session.info.stages
            session.stop()
            list(lines)  # it ends, and says so
        assert session.info.phase == "ended"


def test_stats_name_every_stage(client: Client) -> None:
    with client.start(count=100_000) as session:
        assert set(session.stats().stages) == set(session.info.stages)


def test_errors_are_those_of_their_types(client: Client) -> None:
    with pytest.raises(NotFound):
        client.get("0000000000000000")
    with pytest.raises(InvalidParams) as caught:
        client.start(count=0)
    assert caught.value.data["path"] == "params.count"


def test_too_long_a_request_costs_no_session(client: Client) -> None:
    """F20: its lease is the connection's, which goes on."""
    with client.start(count=100_000, plain_stream=True) as session:
        frames = session.frames()
        next(frames)
        with pytest.raises(UnsendableRequest, match="at most 65536 bytes"):
            client.start(env={"probe": {"seed": "x" * 70_000}})
        next(frames)
        assert session.refresh().phase == "running"


def test_session_of_an_operatorctl_that_was_killed_ends(live: Daemon, client: Client) -> None:
    """N17: it was for as long as its frames are taken."""
    process = subprocess.Popen(
        [*CTL, "start", "--plain", "--count", "100000", "--frames", "-o", "json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "OPERATORD_ADDRESS": live.address},
    )
    assert process.stdout is not None
    with process.stdout:
        session_id = json.loads(process.stdout.readline())["session_id"]
        process.kill()
        process.wait(PATIENCE)
    ended = client.wait(session_id, timeout=PATIENCE)
    assert (ended.outcome, ended.cause) == ("expired", "lease")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_session_that_two_operatorctl_hold_by_one_key_ends_with_the_last(
    live: Daemon, client: Client, number: int
) -> None:
    key = ["--request-key", f"held by two, {number}", "--lease", "connection"]
    args = ["--address", live.address, "start", "--plain", "--count", "100000", "--frames"]
    one, other = [
        subprocess.Popen(
            [*CTL, *args, *key, "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ids = set()
    for process in (one, other):
        assert process.stdout is not None
        ids.add(json.loads(process.stdout.readline())["session_id"])
    [session_id] = ids
    one.send_signal(number)
    one.communicate(timeout=PATIENCE)
    assert other.poll() is None
    assert client.get(session_id).phase == "running"
    other.send_signal(number)
    other.communicate(timeout=PATIENCE)
    ended = client.wait(session_id, timeout=PATIENCE)
    assert (ended.outcome, ended.cause) == ("expired", "lease")


def test_a_start_that_finds_no_room_is_refused_or_cancelled(client: Client) -> None:
    sessions = []
    try:
        with pytest.raises((NoCapacity, NeverFits)):
            while True:
                sessions.append(client.start(count=100_000, on_shortage="refuse"))
        reports = client.start_progress(count=COUNT)
        first = next(reports)
        assert isinstance(first, Progress)
        reports.close()
        assert client.wait(first.session_id, timeout=PATIENCE).phase == "ended"
    finally:
        for session in sessions:
            session.stop()


def test_a_lease_is_extended_and_expires(client: Client) -> None:
    session = client.start(count=100_000, lease={"ttl": 30})
    before = session.info.expires
    assert session.extend(0.05).expires != before
    assert session.wait(timeout=PATIENCE).outcome == "expired"


async def test_the_async_client_does_the_same(live: Daemon) -> None:
    async with AsyncClient(live.address) as client:
        async with await client.start(count=COUNT) as session:
            assert len([frame async for frame in session.frames()]) == COUNT
        assert session.info.outcome == "completed"
        assert (await client.status()).draining is False
        assert (await client.describe()).protocol == 1


def test_session_that_is_shared_by_a_key_ends_with_the_last_connection(
    live: Daemon, client: Client
) -> None:
    with Client(live.address) as one, Client(live.address) as other:
        started = [
            each.start(count=100_000, request_key="shared", lease="connection")
            for each in (one, other)
        ]
        [session_id] = {session.id for session in started}
        one.close()
        assert client.get(session_id).phase == "running"
    assert client.wait(session_id, timeout=PATIENCE).cause == "lease"


async def test_block_of_a_session_that_is_shared_by_a_key_stops_it_for_all(
    live: Daemon, client: Client
) -> None:
    """The answer to a start does not tell whether it has joined a session."""
    session = client.start(count=100_000, request_key="sync")
    with client.start(count=100_000, request_key="sync") as joined:
        assert joined.id == session.id
    assert session.refresh().outcome == "stopped"
    session = client.start(count=100_000, request_key="async")
    async with (
        AsyncClient(live.address) as aclient,
        await aclient.start(count=100_000, request_key="async") as ajoined,
    ):
        assert ajoined.id == session.id
    assert session.refresh().outcome == "stopped"


@pytest.mark.parametrize("program", README)
def test_programs_of_the_readme_run(live: Daemon, program: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**os.environ, "OPERATORD_ADDRESS": live.address},
    )
    assert (ran.returncode, ran.stderr) == (0, "")


async def test_the_unix_socket_serves_as_well(live: Daemon) -> None:
    with Client(live.unix) as client:
        assert client.ping().pong
    async with AsyncClient(live.unix) as aclient:
        assert (await aclient.ping()).pong


def test_operatorctl_receives_frames_and_finds_the_session_again(live: Daemon) -> None:
    ran = ctl(live, "start", "--count", str(COUNT), "--frames", "-o", "json")
    assert ran.returncode == 0, ran.stderr  # which tells of a start that takes a while
    session, summary = map(json.loads, ran.stdout.splitlines())
    assert summary["frames"] == COUNT
    assert summary["mean_dice"] > 0.9
    got = ctl(live, "get", session["session_id"][:8].lower())
    assert "completed (done)" in got.stdout


def test_operatorctl_watches_a_session_to_its_end(live: Daemon, client: Client) -> None:
    session = client.start(count=100_000)
    watching = subprocess.Popen(
        [sys.executable, "-m", "operatord_client.operatorctl", "watch", session.id],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPERATORD_ADDRESS": live.address},
    )
    assert watching.stdout is not None
    with watching.stdout:
        first = watching.stdout.readline()
        session.stop()
        rest = watching.stdout.read()
    assert watching.wait(PATIENCE) == 0
    assert "running" in first
    assert "ended  stopped" in rest


@pytest.mark.parametrize(
    "args",
    [
        ["ping"],
        ["status"],
        ["pipelines"],
        ["describe"],
        ["list"],
        ["plan"],
        ["probe", "list"],
        ["undrain"],
    ],
)
def test_operatorctl_prints_what_the_daemon_says(live: Daemon, args: list[str]) -> None:
    text, document = ctl(live, *args), ctl(live, *args, "-o", "json")
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.strip()
    parsed: Any = json.loads(document.stdout)
    assert isinstance(parsed, dict)
