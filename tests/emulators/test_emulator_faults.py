# SPDX-License-Identifier: MIT
"""What stages do when something is wrong, late or over: exit codes, sentences, signals."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import (
    HOST,
    PICTURE,
    Consumer,
    Launcher,
    frame,
    hello,
    play,
    receive,
    sequence,
    unused_port,
)

STAGES = ["probe", "streaming", "segmentation"]
RELAYS = ["streaming", "segmentation"]
IMAGE = {"name": "image", "bytes": 256}
SENTENCES = re.compile(
    r"malformed (hello|header): (the line|it is|it has|parts|a part|no end of line"
    r"|(width or height|format|fps|count|seq|pts|bytes|dropped|spacing|depth|orientation|origin|meta)"
    r" (is|has)) "
)
"""What is said of a line: never in the words of Python for a member that is missing or of another kind."""


@pytest.mark.parametrize(
    ("script", "name", "value"),
    [
        ("probe", "count", "0"),
        ("probe", "count", "2147483648"),
        ("probe", "fps", "-1"),
        ("probe", "width", "0"),
        ("probe", "height", "1921"),
        ("probe", "probe_port", "many"),
        ("streaming", "probe_port", "0"),
        ("streaming", "policy", "hopeful"),
        ("streaming", "plain_stream", "perhaps"),
        ("streaming", "stream_port", "65536"),
        ("segmentation", "format", "avi"),
        ("segmentation", "connect_timeout", "soon"),
    ],
)
def test_a_bad_setting_is_named_in_one_sentence(launch, script, name, value) -> None:
    ended = launch(script, **{name: value}).ended()

    assert ended.code == 2
    assert ended.sentence.startswith(f"{script}: {name} must be ")
    assert repr(value) in ended.sentence
    assert ended.sentence.count("\n") == 1


@pytest.mark.parametrize("script", STAGES)
def test_a_port_in_use_is_said_at_once(launch: Launcher, script: str) -> None:
    own = {"probe": "probe_port", "streaming": "stream_port"}.get(script, "segmentation_port")
    with socket.create_server((HOST, 0)) as server:
        ended = launch(script, **{own: server.getsockname()[1]}).ended()

    assert ended.code == 3
    assert "is in use" in ended.sentence


@pytest.mark.parametrize("script", RELAYS)
def test_an_upstream_that_does_not_come_ends_the_stage(launch: Launcher, script: str) -> None:
    ended = launch(script, unused_port(), connect_timeout=1).ended()

    assert ended.code == 3
    assert "cannot get a hello from" in ended.sentence


def test_a_name_that_never_resolves_ends_the_stage(launch: Launcher) -> None:
    ended = launch("streaming", 1, probe_ip="nobody.invalid", connect_timeout=0).ended()

    assert ended.code == 3
    assert "nobody.invalid" in ended.sentence


def test_an_upstream_that_starts_late_is_found(launch: Launcher) -> None:
    port = unused_port()
    streaming = launch("streaming", port)
    with Consumer(streaming.port) as consumer:  # the connection is there before the chain is
        launch("probe", probe_port=port, count=10)
        consumer.hello()
        assert sequence(list(consumer.frames())) == list(range(10))
    assert streaming.ended().code == 0


def test_a_connection_closed_without_hello_is_tried_again(launch: Launcher) -> None:
    with ThreadPoolExecutor() as pool:
        port, proxy = play(pool)  # as a port proxy does before its server listens
        streaming = launch("streaming", port, connect_timeout=30)
        assert streaming.port
        proxy.result()
    launch("probe", probe_port=port, count=5)

    assert len(receive(streaming.port)[1]) == 5


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\n",
        b"[1]\n",
        b'{"type":"frame"}\n',
        hello(format=None),
        hello(width=0),
        hello(fps=-1),
        hello(vendor=float("inf")),
        hello()[:-2] + b',"vendor":1e999}\n',
        b'{"type":"hello"}\n',
        hello(count=1.5),
        hello(height="16"),
        hello(fps=None),
        hello(spacing=[0.2, -0.2]),
        hello(spacing=[0.2]),
        hello(spacing=[0, 0.2]),
        hello(depth="80"),
        hello(depth=True),
        hello(depth=0),
        hello(orientation=[1, 0, 0, 0, 1]),
        hello(orientation=[1, 0, 0, 0, 1, 2]),
        hello(origin=[0, 0, None]),
        hello(origin={"x": 0}),
        hello(meta=[]),
        hello(meta={"name": "é" * 2043}),
        hello()[:-1] + b" " * 66000,
        b"\xff\n",
        b"[" * 60000 + b"\n",
    ],
)
def test_a_malformed_hello_ends_the_stage(launch: Launcher, said: bytes) -> None:
    with ThreadPoolExecutor() as pool:
        port, _ = play(pool, said)
        ended = launch("streaming", port).ended()

    assert ended.code == 4
    assert SENTENCES.search(ended.sentence), ended.sentence


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (hello(format="yuyv"), "sends pictures as 'yuyv', and this stage takes gray8"),
        (
            hello() + frame(0, parts=[IMAGE, {"name": "depth", "bytes": 1 << 25}]),
            "frame has 33554688 bytes in all parts, and this stage takes up to 16777216",
        ),
        (
            hello(width=5000, height=5000),
            "of 5000×5000 have 25000000 bytes, and this stage takes up to",
        ),
    ],
)
@pytest.mark.parametrize("script", RELAYS)
def test_what_only_this_stage_cannot_do_is_not_called_malformed(
    launch: Launcher, script: str, said: bytes, sentence: str
) -> None:
    """A16: the format allows it, so the sentence says what the stage takes instead."""
    with ThreadPoolExecutor() as pool:
        port, _ = play(pool, said)
        ended = launch(script, port).ended()

    assert ended.code == 4
    assert sentence in ended.sentence and "malformed" not in ended.sentence


@pytest.mark.parametrize(
    "header",
    [
        b"{}\n",
        b"[]\n",
        b'{"type":"end","dropped":"some"}\n',
        b'{"type":"frame","seq":0}\n',
        frame(0, parts="image"),
        frame(0, parts=["image"]),
        frame(0, parts={"name": "image"}),
        frame(0, parts=[{"name": ["image"], "bytes": 256}]),
        frame(0, parts=[{"name": "image"}]),
        frame(0).replace(b'"seq": 0', b'"seq": null'),
        b"\x00\xff\n",
        b'{"type":"frame","seq":0,"pts":0.0,"parts":[]}\n',
        frame(True),
        frame(0, pts="0"),
        frame(0, parts=[{"name": "image", "bytes": 255}]),
        frame(0, parts=[{"name": "image", "bytes": 256}, {"name": "mask", "bytes": -1}]),
        frame(0)[:-1] + b" " * 66000,
        b"[" * 60000 + b"\n",
    ],
)
def test_a_malformed_header_breaks_the_stream_off(launch: Launcher, header: bytes) -> None:
    with ThreadPoolExecutor() as pool:
        port, _ = play(pool, hello(), frame(0) + PICTURE, header)
        stage = launch("streaming", port)
        end = None
        with contextlib.suppress(ConnectionError):  # it may end before it lets anybody in
            _, _, end = receive(stage.port)
        ended = stage.ended()

    assert end is None
    assert ended.code == 4
    assert SENTENCES.search(ended.sentence), ended.sentence
    assert not ended.report or ended.report["type"] == "report"


def test_json_that_is_broken_further_on_is_noticed_where_it_is_read(launch: Launcher) -> None:
    broken = b'{"type":"frame","seq":0,"pts":1.2.3,"parts":[{"name":"image","bytes":256}]}\n'
    with ThreadPoolExecutor() as pool:
        port, _ = play(pool, hello(), broken + PICTURE)
        streaming = launch("streaming", port, format="y4m")
        # It may end before it lets anybody in.
        with contextlib.suppress(ConnectionError), Consumer(streaming.port) as consumer:
            assert consumer.line().startswith(b"YUV4MPEG2")
            assert consumer.rest() == b""
        assert streaming.ended().code == 4


def test_header_that_contradicts_itself_is_a_sentence(launch: Launcher) -> None:
    twice = b'{"type":"frame","seq":0,"pts":0.0,"parts":[{"name":"image","bytes":256}],"parts":"none"}\n'
    with ThreadPoolExecutor() as pool:
        port, _ = play(pool, hello(), twice + PICTURE, b'{"type":"end"}\n')
        stage = launch("segmentation", port)
        with contextlib.suppress(ConnectionError):  # it may end before it lets anybody in
            receive(stage.port)
        ended = stage.ended()

    assert ended.code == 4
    assert SENTENCES.search(ended.sentence), ended.sentence


@pytest.mark.parametrize("script", RELAYS)
def test_an_upstream_cut_in_mid_stream_ends_without_end(launch: Launcher, script: str) -> None:
    with ThreadPoolExecutor() as pool:
        port, _ = play(pool, hello(count=9), frame(0) + PICTURE, frame(1) + PICTURE[:100])
        stage = launch(script, port)
        _, frames, end = receive(stage.port)
        ended = stage.ended()

    assert (sequence(frames), end) == ([0], None)
    assert ended.code == 4
    assert "mid-stream" in ended.sentence


LINGER = 5.0
"""Seconds for which a stage may wait for a consumer at its own end, and for nobody when it is told to end."""


@pytest.mark.parametrize("script", STAGES)
def test_sigterm_ends_a_process_that_waits_for_its_session(launch: Launcher, script: str) -> None:
    stage = launch(script, OPERATORD_LATE_BIND=1)
    stage.take_signals()

    ended, seconds = stage.terminate()

    assert (ended.code, ended.sentence) == (143, "")
    assert seconds < LINGER


@pytest.mark.parametrize("script", RELAYS)
def test_sigterm_ends_the_wait_for_an_upstream(launch: Launcher, script: str) -> None:
    stage = launch(script, unused_port())
    assert stage.port

    ended, seconds = stage.terminate()

    assert ended.code == 143
    assert seconds < LINGER


@pytest.mark.parametrize("script", STAGES)
def test_sigterm_ends_a_stage_blocked_by_its_consumer(launch: Launcher, script: str) -> None:
    probe, streaming = launch.chain(100_000)
    stages = {"probe": probe, "streaming": streaming}
    stage = stages.get(script) or launch("segmentation", streaming.port)
    with Consumer(stage.port) as consumer:
        consumer.hello()
        consumer.frame()
        ended, seconds = stage.terminate()

    assert ended.code == 143
    assert ended.report["type"] == "report"
    assert seconds < LINGER


@pytest.mark.parametrize("script", RELAYS)
def test_sigterm_ends_the_wait_for_a_first_consumer(launch: Launcher, script: str) -> None:
    _, streaming = launch.chain(10)
    stage = streaming if script == "streaming" else launch("segmentation", streaming.port)
    with Consumer(stage.port) as consumer:
        consumer.sock.sendall(b'{"type":"check"}\n')
        consumer.hello()

    ended, seconds = stage.terminate()

    assert (ended.code, ended.report["frames"]) == (143, 0)
    assert seconds < LINGER


def test_late_binding_lays_a_session_over_the_environment(launch: Launcher) -> None:
    probe = launch("probe", OPERATORD_LATE_BIND=1, count=7, width=32)
    probe.bind(json.dumps({"env": {"count": 3, "height": "48"}}).encode() + b"\n")

    said, frames, _ = receive(probe.port)

    assert (said["width"], said["height"], len(frames)) == (32, 48, 3)


@pytest.mark.parametrize("script", STAGES)
@pytest.mark.parametrize("line", [b"", b'{"env":{}}'])
def test_end_of_input_before_the_line_ends_quietly(launch, script: str, line: bytes) -> None:
    stage = launch(script, OPERATORD_LATE_BIND=1)
    stage.bind(line)

    assert stage.ended() == (0, {}, "")


@pytest.mark.parametrize("line", [b"count=3\n", b"{}\n", b'{"env":[1]}\n', b'{"env":{"=":1}}\n'])
def test_a_late_binding_line_that_is_none_is_refused(launch: Launcher, line: bytes) -> None:
    stage = launch("streaming", OPERATORD_LATE_BIND=1)
    stage.bind(line)

    ended = stage.ended()
    assert ended.code == 2
    assert "standard input" in ended.sentence
