# SPDX-License-Identifier: MIT
"""Streams through streaming and segmentation: who gets which frames, and what it costs whom."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import (
    BRISK,
    CHECK,
    CONSUME,
    PICTURE,
    Consumer,
    Launcher,
    Stage,
    check,
    frame,
    glance,
    hello,
    play,
    receive,
    sequence,
    unused_port,
)


def whole_chain(launch: Launcher, count: int, **env: object) -> list[Stage]:
    probe, streaming = launch.chain(count, plain_stream=False)
    return [probe, streaming, launch("segmentation", streaming.port, **env)]


def test_exactly_count_frames_come_through_streaming_unchanged(launch: Launcher) -> None:
    probe, streaming = launch.chain(400)
    _, sent, _ = receive(launch("probe", count=400).port)

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
    port = unused_port()
    streaming = launch("streaming", port)
    with Consumer(streaming.port) as checker:
        checker.sock.sendall(b'{ "type": "check" }\r\n')
        launch("probe", probe_port=port, count=20)
        checker.hello()

        _, frames, _ = receive(streaming.port)

        assert len(frames) == 20
        assert streaming.ended().code == 0
        assert checker.rest() == b""


def test_a_check_that_dawdles_is_still_no_consumer_of_a_running_stream(launch: Launcher) -> None:
    _, streaming = launch.chain(30, fps=100)
    with Consumer(streaming.port) as checker:
        with Consumer(streaming.port) as consumer:
            consumer.sock.sendall(b"\n{}\n")  # whatever is no check: a consumer at once
            consumer.hello()
            checker.sock.sendall(CHECK[:5])
            checker.hello()
            checker.sock.sendall(CHECK[5:])
            assert len(list(consumer.frames())) == 30
        assert b'"type":"end"' not in checker.rest()


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


def test_lossless_consumers_get_the_same_frames(launch: Launcher) -> None:
    _, streaming = launch.chain(600)
    with ThreadPoolExecutor() as pool:
        (_, one, end), (_, other, other_end) = pool.map(receive, [streaming.port] * 2)

    shorter, longer = sorted([one, other], key=len)
    assert sequence(longer) == list(range(600))
    assert shorter == longer[len(longer) - len(shorter) :]  # it may have joined a little later
    assert end == {"type": "end", "frames": len(one), "dropped": 0}
    assert other_end == {"type": "end", "frames": len(other), "dropped": 0}
    ended = streaming.ended()
    assert (ended.code, ended.report["frames"], ended.report["dropped"]) == (0, 600, 0)


def test_a_late_joiner_begins_with_a_whole_frame(launch: Launcher) -> None:
    _, streaming = launch.chain(400, fps=400, width=64, height=64)
    with Consumer(streaming.port) as early, ThreadPoolExecutor() as pool:
        early.hello()
        assert early.frame() is not None
        late = pool.submit(receive, streaming.port)
        assert len(list(early.frames())) == 399
        _, frames, end = late.result()

    assert frames
    assert sequence(frames) == list(range(400 - len(frames), 400))
    assert end is not None and end["frames"] == len(frames)


def test_the_upstream_rests_while_nobody_listens_and_goes_on_afterwards(launch: Launcher) -> None:
    probe, streaming = launch.chain(1000, constants=BRISK)
    with Consumer(streaming.port) as first:
        first.sock.sendall(CONSUME)
        first.hello()
        assert first.frame() is not None

    resting = streaming.reports_until(consumers=0)
    _, frames, end = receive(streaming.port)

    assert resting["frames"] < 1000
    assert sequence(frames) == list(range(resting["frames"], 1000))
    assert end is not None and end["dropped"] == 0
    assert (streaming.ended().code, probe.ended().code) == (0, 0)


def test_a_consumer_that_does_not_read_is_reported_all_the_way_up(launch: Launcher) -> None:
    probe, streaming = launch.chain(800)
    segmentation = launch("segmentation", streaming.port)
    with Consumer(segmentation.port) as idle:
        idle.hello()
        held_up = [stage.reports_until(blocked=1) for stage in (probe, streaming, segmentation)]
        assert all(report["consumers"] == 1 for report in held_up)
        again = [stage.reports_until(blocked=1) for stage in (probe, streaming, segmentation)]
        assert all(report["every"] == 1 for report in again), "as promised, though nothing changes"
        assert len(list(idle.frames())) == 800

    for stage in (probe, streaming, segmentation):
        ended = stage.ended()
        assert (ended.code, ended.report["blocked"]) == (0, 0)


def test_a_consumer_that_waits_for_frames_holds_up_nobody(launch: Launcher) -> None:
    probe, streaming = launch.chain(3, fps=1)
    with Consumer(streaming.port) as eager:
        eager.hello()
        assert eager.frame() is not None
        assert streaming.reports_until(consumers=1)["blocked"] == 0
        assert probe.reports_until(consumers=1)["blocked"] == 0


def test_a_live_consumer_that_does_not_read_holds_up_nobody(launch: Launcher) -> None:
    probe, streaming = launch.chain(400, policy="live")
    with Consumer(streaming.port) as slow:
        slow.hello()
        assert probe.ended().code == 0
        report = streaming.reports_until(frames=400)
        assert (report["consumers"], report["blocked"]) == (1, 0)


def test_live_drops_are_counted_for_who_was_too_slow(launch: Launcher) -> None:
    probe, streaming = launch.chain(600, policy="live")
    with Consumer(streaming.port) as slow:
        slow.hello()
        assert probe.ended().code == 0  # all is drained although nobody reads
        frames = list(slow.frames())

    assert slow.end is not None
    assert slow.end["dropped"] > 0
    assert slow.end["frames"] == len(frames)
    assert slow.end["frames"] + slow.end["dropped"] == 600
    seen = sequence(frames)
    assert seen == sorted(set(seen))
    assert seen[-1] == 599  # the newest are kept
    ended = streaming.ended()
    assert (ended.report["frames"], ended.report["dropped"]) == (600, slow.end["dropped"])


def test_count_ends_a_stream_that_would_go_on(launch: Launcher) -> None:
    _, streaming = launch.chain(5000, count=25)

    hello, frames, end = receive(streaming.port)

    assert hello["count"] == 25
    assert sequence(frames) == list(range(25))
    assert end == {"type": "end", "frames": 25, "dropped": 0}
    assert streaming.ended().code == 0


def test_segmentation_told_no_address_takes_the_stream_by_itself(launch: Launcher) -> None:
    probe, streaming = launch.chain(50, plain_stream=False)
    soon = {"ALONE_AFTER": 0.5}
    segmentation = launch("segmentation", streaming.port, constants=soon, segmentation_ip="")

    ended = segmentation.ended()

    assert (ended.code, ended.report["frames"]) == (0, 50)
    assert ended.report["dice_mean"] >= 0.95
    assert (streaming.ended().code, probe.ended().code) == (0, 0)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (33, 470), (1920, 1080)])
def test_any_size_goes_through_the_chain(launch: Launcher, width: int, height: int) -> None:
    _, streaming = launch.chain(4, width=width, height=height)
    segmentation = launch("segmentation", streaming.port)

    _, frames, end = receive(segmentation.port)

    assert end is not None
    assert [len(part) for frame in frames for part in frame.parts] == 8 * [width * height]


def test_frames_without_truth_get_a_mask_without_dice(launch: Launcher) -> None:
    with ThreadPoolExecutor() as pool:
        port, played = play(pool, hello(), frame(0) + PICTURE, b'{"type":"end","frames":1}\n')
        segmentation = launch("segmentation", port)
        _, frames, end = receive(segmentation.port)
        played.result()

    assert list(frames[0].header["parts"][1]) == ["name", "bytes", "area", "bbox"]
    assert end == {"type": "end", "frames": 1, "dropped": 0}
    assert "dice_mean" not in segmentation.ended().report
