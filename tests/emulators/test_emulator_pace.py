# SPDX-License-Identifier: MIT
"""Who sets the pace of a stream: the slowest, the fastest, or nobody; and where a late consumer begins."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from emulator_stages import (
    BRISK,
    CONSUME,
    HOST,
    PATIENCE,
    Constants,
    Consumer,
    Launcher,
    Stage,
    frame,
    hello,
    sequence,
)
from test_emulator_preview import RESET

YOUNG: Constants = {**BRISK, "KEPT_TIME": 3600.0}
"""Nobody else is believed to be the fastest, however long a busy machine takes over it."""
SETTLED: Constants = {**BRISK, "GUEST_TIME": 0.01, "KEPT_TIME": 0.01}
"""Who is silent is soon sure to be a consumer."""
COUNT = 400  # frames of 64 KiB: more than all the kernel's buffers between stages hold
PICTURE = bytes(65536)


def pictures(player: Consumer) -> int:
    """Read YUV4MPEG2 to its end; return how many pictures came."""
    assert player.line().startswith(b"YUV4MPEG2")
    found = 0
    while player.line().startswith(b"FRAME"):
        assert len(player.read(65536)) == 65536
        found += 1
    return found


@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_a_slow_second_player_does_not_slow_down_the_first(launch: Launcher, script: str) -> None:
    """N8: the fastest player sets the pace, as none of them can ask for frames to be dropped."""
    if script == "streaming":
        last = launch.chain(COUNT, constants=SETTLED, format="y4m")[1]
    else:
        inner = launch.chain(COUNT)[1]
        last = launch("segmentation", inner.port, constants=SETTLED, format="y4m")
    with Consumer(last.port) as slow, Consumer(last.port) as first:
        slow.sock.sendall(CONSUME)
        assert slow.line().startswith(b"YUV4MPEG2")  # and takes no more
        first.sock.sendall(CONSUME)
        seen = pictures(first)
        missed = pictures_after_hello(slow)
    assert seen > COUNT - 60  # all but what the kernel took for the slow one before it came
    assert missed < seen
    assert last.ended().code == 0


def leave_at_once(consumer: Consumer) -> None:
    consumer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    consumer.__exit__()


def pictures_after_hello(player: Consumer) -> int:
    return player.rest().count(b"FRAME Xseq=")


@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_a_slow_player_that_is_alone_gets_every_picture(launch: Launcher, script: str) -> None:
    """N8: whoever is alone is the fastest; a check that comes meanwhile does not outpace it."""
    if script == "streaming":
        last = launch.chain(COUNT, constants=YOUNG, format="y4m")[1]
    else:
        inner = launch.chain(COUNT)[1]
        last = launch("segmentation", inner.port, constants=YOUNG, format="y4m")
    with Consumer(last.port) as player:
        while "held_up_by" not in last.reports_until(consumers=1, blocked=1):
            pass  # its kernel may take more yet, and the visitor would be sent as much
        with Consumer(last.port) as visitor:
            assert visitor.line().startswith(b"YUV4MPEG2")
            last.reports_until(consumers=2, blocked=1)
        assert pictures(player) == COUNT
    assert last.ended().code == 0


@pytest.mark.parametrize(
    ("env", "waits"), [({"format": "json"}, True), ({"format": "y4m", "policy": "lossless"}, True),
                       ({"format": "json", "policy": "fastest"}, False)]
)  # fmt: skip
def test_the_policy_that_is_set_or_suits_the_format_decides(
    launch: Launcher, env: dict[str, str], waits: bool
) -> None:
    """N8: json, and whoever asks for it, is lossless with a second consumer, too."""
    probe, streaming = launch.chain(COUNT, constants=SETTLED, **env)
    with Consumer(streaming.port) as slow, Consumer(streaming.port) as first:
        slow.sock.sendall(CONSUME)
        slow.line()
        first.sock.sendall(CONSUME)
        if waits:
            while streaming.reports_until(consumers=2)["blocked"] == 0:
                pass
            assert probe.process.poll() is None
            leave_at_once(slow)
        while first.read(65536):
            pass
    assert streaming.ended().code == 0


@contextmanager
def endless(launch: Launcher, script: str, **env: object) -> Iterator[tuple[socket.socket, Stage]]:
    """Be an upstream that does not say how many frames will come."""
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(PATIENCE)
        stage = launch(script, server.getsockname()[1], **env)
        with server.accept()[0] as sock:
            sock.settimeout(PATIENCE)
            sock.sendall(hello(width=256, height=256))
            yield sock, stage


def send_frame(sock: socket.socket, seq: int) -> None:
    parts = [{"name": "image", "bytes": len(PICTURE)}]
    sock.sendall(frame(seq, parts=parts) + PICTURE)


@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_a_late_consumer_of_an_endless_stream_begins_with_the_present(
    launch: Launcher, script: str
) -> None:
    """F19: what nobody reads is dropped, but for the newest frame; so it is when all have left, too."""
    with endless(launch, script, constants=BRISK) as (sock, stage):
        for begin in (0, 2000):
            # Of 64 MiB, the kernel may hold up to 37 (tcp_wmem and tcp_rmem) before a busy stage reads on.
            for seq in range(begin, begin + 1000):
                send_frame(sock, seq)
            marker = begin + 1500
            with Consumer(stage.port) as consumer:
                consumer.sock.sendall(CONSUME)
                consumer.hello()
                first = consumer.frame()
                assert first is not None and begin + 300 < first.header["seq"] < marker
                send_frame(sock, marker)
                while (seen := consumer.frame()) and seen.header["seq"] != marker:
                    pass
                stage.reports_until(consumers=1)
                leave_at_once(consumer)
            stage.reports_until(consumers=0)


def test_an_endless_stream_that_ends_unread_waits_with_its_newest_frame(launch: Launcher) -> None:
    """F19: the end is nobody's before somebody has come for it."""
    with endless(launch, "streaming") as (sock, stage):
        for seq in range(COUNT):
            send_frame(sock, seq)
        sock.sendall(b'{"type":"end","frames":%d}\n' % COUNT)
        with Consumer(stage.port) as consumer:
            consumer.hello()
            frames = list(consumer.frames())
    assert sequence(frames)[-1] == COUNT - 1
    assert len(frames) < COUNT
    assert consumer.end is not None
    assert stage.ended().code == 0


@pytest.mark.parametrize(("env", "first"), [({"unread": "hold"}, 0), ({"count": 400}, 0)])
def test_frames_are_held_if_they_are_counted_or_if_asked_to(
    launch: Launcher, env: dict[str, object], first: int
) -> None:
    """F19: a stream of so many frames is delivered whole, and `unread` decides for any other."""
    with endless(launch, "streaming", **env) as (sock, stage):
        sending = threading.Thread(target=lambda: [send_frame(sock, seq) for seq in range(400)])
        sending.start()
        with Consumer(stage.port) as consumer:
            consumer.hello()
            for seq in range(399):
                received = consumer.frame()
                assert received is not None and received.header["seq"] == seq + first
            sending.join()


def test_counted_frames_can_be_dropped_as_well(launch: Launcher) -> None:
    """F19: with `unread=drop`, a late consumer of a counted stream begins with the present, too."""
    probe, streaming = launch.chain(400, unread="drop")
    assert probe.ended().code == 0
    with Consumer(streaming.port) as consumer:
        consumer.hello()
        assert sequence(list(consumer.frames())) == [399]
