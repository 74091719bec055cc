# SPDX-License-Identifier: MIT
"""Streams through streaming and segmentation: who gets which frames, and what it costs whom."""

from __future__ import annotations

import json
import socket

import pytest
from emulator_stages import (
    CHECK,
    HOST,
    Consumer,
    Launcher,
    Stage,
    check,
    glance,
    receive,
    sequence,
)


def whole_chain(launch: Launcher, count: int, **env: object) -> list[Stage]:
    probe, streaming = launch.chain(count, plain_stream=False)
    return [probe, streaming, launch("segmentation", streaming.port, **env)]


def test_exactly_count_frames_come_through_streaming_unchanged(launch: Launcher) -> None:
    probe, streaming = launch.chain(400)
    _, sent, _ = receive(probe.port)

    hello, frames, end = receive(streaming.port)

    assert (hello["stream"], hello["count"]) == ("stream", 400)
    assert frames == sent
    assert end == {"type": "end", "frames": 400, "dropped": 0}
    ended = streaming.ended()
    assert (ended.code, ended.report["frames"], ended.report["dropped"]) == (0, 400, 0)
    assert probe.ended().code == 0


def test_the_whole_chain_adds_masks_that_agree_with_the_truth(launch: Launcher) -> None:
    stages = whole_chain(launch, 150)

    hello, frames, end = receive(stages[2].port)

    assert hello["stream"] == "segmentation"
    assert sequence(frames) == list(range(150))
    assert end == {"type": "end", "frames": 150, "dropped": 0}
    for header, (picture, mask) in frames:
        image, described = header["parts"]
        assert image == {"name": "image", "bytes": 65536}
        assert list(described) == ["name", "bytes", "area", "bbox", "dice"]
        assert described["area"] == mask.count(255) == 65536 - mask.count(0)
        assert described["dice"] > 0.9
        assert len(picture) == described["bytes"]
    ended = [stage.ended() for stage in stages]
    assert [end.code for end in ended] == [0, 0, 0]
    assert ended[2].report["dice_mean"] >= 0.95


@pytest.mark.parametrize("look", [check, glance])
def test_checks_cost_no_frame_anywhere_in_the_chain(launch: Launcher, look) -> None:
    stages = whole_chain(launch, 3)

    for stage in (*reversed(stages), stages[2]):
        assert json.loads(look(stage.port))["type"] == "hello"

    _, frames, end = receive(stages[2].port)
    assert sequence(frames) == [0, 1, 2]
    assert end is not None and end["frames"] == 3
    assert [stage.ended().code for stage in stages] == [0, 0, 0]


def test_a_check_in_other_spelling_that_stays_gets_only_the_hello(launch: Launcher) -> None:
    _, streaming = launch.chain(20)
    with Consumer(streaming.port) as checker:
        checker.sock.sendall(b'{ "type": "check" }\r\n')
        checker.hello()

        _, frames, _ = receive(streaming.port)

        assert len(frames) == 20
        assert streaming.ended().code == 0
        assert checker.rest() == b""


def test_a_check_that_dawdles_is_still_no_consumer_of_a_running_stream(launch: Launcher) -> None:
    _, streaming = launch.chain(30, fps=100)
    with Consumer(streaming.port) as consumer, Consumer(streaming.port) as checker:
        consumer.sock.sendall(b"\n{}\n")  # whatever is no check: a consumer at once
        consumer.hello()
        checker.sock.sendall(CHECK[:5])
        checker.sock.sendall(CHECK[5:])
        checker.hello()
        assert len(list(consumer.frames())) == 30
        assert checker.rest() == b""


@pytest.mark.parametrize("checked", [False, True])
def test_a_half_closed_connection_is_a_consumer(launch: Launcher, checked: bool) -> None:
    _, streaming = launch.chain(40)
    if checked:
        check(streaming.port)
    with Consumer(streaming.port) as consumer:
        consumer.sock.shutdown(socket.SHUT_WR)
        consumer.hello()
        assert sequence(list(consumer.frames())) == list(range(40))
        assert consumer.end == {"type": "end", "frames": 40, "dropped": 0}
    assert streaming.ended().code == 0


def test_lossless_consumers_get_the_same_frames_and_the_slowest_decides(launch: Launcher) -> None:
    _, streaming = launch.chain(500)
    with Consumer(streaming.port) as one, Consumer(streaming.port) as other:
        first = [frame for _, frame in zip(range(10), one.frames(), strict=False)]
        assert other.hello()["count"] == 500
        joined = other.frame()  # the other reads on only now and then: nothing is lost
        assert joined is not None
        import threading

        rest: list = []
        reader = threading.Thread(target=lambda: rest.extend(one.frames()))
        reader.start()
        second = [joined, *other.frames()]
        reader.join()
    first += rest
    assert sequence(first) == list(range(500))
    assert second == first[-len(second) :]
    assert other.end == {"type": "end", "frames": len(second), "dropped": 0}
    assert streaming.ended().report["dropped"] == 0
