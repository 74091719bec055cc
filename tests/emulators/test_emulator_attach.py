# SPDX-License-Identifier: MIT
"""A segmentation server that joins a running stream, and what it costs those who were there."""

from __future__ import annotations

import itertools
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import (
    ATTACH,
    BRISK,
    CONSUME,
    HASTY,
    HOST,
    PATIENCE,
    Consumer,
    Ended,
    Launcher,
    Received,
    Stage,
    check,
    frame,
    hello,
    play,
    receive,
    sequence,
)
from hypothesis import given, settings
from hypothesis import strategies as st

MANY = 1000  # frames of 64 KiB: more than all the kernel's buffers between two stages hold
CONSUME_LIVE = b'{ "type": "consume", "policy": "live" }\n'


def attach(launch: Launcher, streaming: Stage, **env: object) -> Stage:
    """Start an attached segmentation server; return it once its location is proven."""
    segmentation = launch("segmentation", streaming.port, attached=True, **env)
    assert json.loads(check(segmentation.port))["stream"] == "segmentation"
    return segmentation


def begin(streaming: Stage, expected: int = 0) -> Consumer:
    """Take one frame, the expected, and leave the rest: being lossless, this holds a long one."""
    consumer = Consumer(streaming.port)
    consumer.sock.sendall(CONSUME)
    assert consumer.hello()["stream"] == "stream"
    first = consumer.frame()
    assert first is not None and first.header["seq"] == expected
    return consumer


def join(segmentation: Stage) -> Consumer:
    """Be a consumer at an attached location."""
    consumer = Consumer(segmentation.port)
    consumer.sock.sendall(CONSUME)
    assert consumer.hello()["stream"] == "segmentation"
    return consumer


def all_ended(*stages: Stage) -> list[Ended]:
    ended = [stage.ended() for stage in stages]
    assert [(one.code, one.sentence) for one in ended] == [(0, "")] * len(stages)
    return ended


def assert_accounted_for(consumer: Consumer, frames: list[Received], count: int) -> None:
    """Each frame from its first one on was either sent to a consumer or counted as dropped."""
    assert frames and consumer.end is not None
    seen = sequence(frames)
    assert seen == sorted(set(seen))
    assert consumer.end["frames"] == len(frames)
    assert consumer.end["frames"] + consumer.end["dropped"] == count - seen[0]


@pytest.mark.parametrize("count", [1, MANY])
def test_the_plain_consumer_gets_all_while_nobody_is_at_the_attached_location(
    launch: Launcher, count: int
) -> None:
    probe, streaming = launch.chain(count)
    segmentation = attach(launch, streaming)

    _, frames, end = receive(streaming.port)

    assert sequence(frames) == list(range(count))
    assert end == {"type": "end", "frames": count, "dropped": 0}
    _, _, attached = all_ended(probe, streaming, segmentation)
    assert (attached.report["frames"], attached.report["dropped"]) == (0, 0)


def test_who_joins_a_running_stream_gets_masks_to_its_end(launch: Launcher) -> None:
    probe, streaming = launch.chain(300, fps=300, width=64, height=64)
    with begin(streaming) as plain, ThreadPoolExecutor() as pool:
        rest = pool.submit(lambda: list(plain.frames()))
        segmentation = attach(launch, streaming)
        with join(segmentation) as joined:
            frames = list(joined.frames())

        assert sequence(rest.result()) == list(range(1, 300))
    assert plain.end == {"type": "end", "frames": 300, "dropped": 0}
    assert_accounted_for(joined, frames, 300)
    assert sequence(frames)[-1] == 299
    for header, (_, mask) in frames:
        described = header["parts"][1]
        assert (described["name"], described["area"]) == ("mask", mask.count(255))
    all_ended(probe, streaming, segmentation)


def test_a_slow_consumer_of_masks_holds_up_nobody_and_is_told_what_it_missed(
    launch: Launcher,
) -> None:
    probe, streaming = launch.chain(MANY, constants=BRISK)
    with begin(streaming) as plain:
        segmentation = attach(launch, streaming)
        with join(segmentation) as slow:
            streaming.reports_until(consumers=2)
            assert sequence(list(plain.frames())) == list(range(1, MANY))
            assert probe.ended().code == 0

            frames = list(slow.frames())

    assert_accounted_for(slow, frames, MANY)
    assert slow.end is not None and slow.end["dropped"] > 0
    all_ended(streaming, segmentation)


def test_a_consumer_of_masks_begins_the_frames_and_the_attached_server_alone_does_not(
    launch: Launcher,
) -> None:
    probe, streaming = launch.chain(200, width=64, height=64)
    segmentation = attach(launch, streaming)
    with join(segmentation) as early:
        masks = list(early.frames())

    assert masks[0].header["seq"] == 0
    assert_accounted_for(early, masks, 200)
    all_ended(probe, streaming, segmentation)


def test_without_plain_consumers_the_stream_rests_unless_masks_are_wanted(launch: Launcher) -> None:
    probe, streaming = launch.chain(MANY, constants=BRISK)
    with begin(streaming):
        segmentation = attach(launch, streaming)
    resting = streaming.reports_until(consumers=0)["frames"]
    with begin(streaming, resting):
        pass

    with join(segmentation) as joined:
        frames = list(joined.frames())

    assert_accounted_for(joined, frames, MANY)
    all_ended(probe, streaming, segmentation)


def test_the_stream_rests_again_when_the_last_consumer_of_masks_leaves(launch: Launcher) -> None:
    _, streaming = launch.chain(
        MANY, constants=BRISK, fps=200, width=64, height=64
    )  # fits into the kernel
    segmentation = attach(launch, streaming)
    with begin(streaming):
        with join(segmentation) as joined:
            assert joined.frame() is not None
            streaming.reports_until(consumers=2)
        streaming.reports_until(consumers=1)

    resting = streaming.reports_until(consumers=0)["frames"]
    with begin(streaming, resting):
        pass


def test_checks_at_an_attached_location_neither_begin_nor_cost_anything(launch: Launcher) -> None:
    probe, streaming = launch.chain(3)
    segmentation = attach(launch, streaming)

    for _ in range(3):
        said = json.loads(check(segmentation.port))
        assert (said["stream"], said["width"], said["count"]) == ("segmentation", 256, 3)

    assert sequence(receive(streaming.port)[1]) == [0, 1, 2]
    ended = all_ended(probe, streaming, segmentation)
    assert [one.report["frames"] for one in ended] == [3, 3, 0]


def test_an_attached_server_that_hangs_holds_up_neither_frames_nor_end(launch: Launcher) -> None:
    probe, streaming = launch.chain(MANY, constants={**BRISK, **HASTY})
    segmentation = attach(launch, streaming)
    with begin(streaming) as plain, join(segmentation):
        streaming.reports_until(consumers=2)
        segmentation.process.send_signal(signal.SIGSTOP)

        assert sequence(list(plain.frames())) == list(range(1, MANY))
        assert plain.end == {"type": "end", "frames": MANY, "dropped": 0}
        probe_ended, ended = all_ended(probe, streaming)

    assert probe_ended.report["frames"] == MANY
    assert ended.report["dropped"] > 0


def test_an_attached_server_that_dies_costs_the_plain_consumer_nothing(launch: Launcher) -> None:
    probe, streaming = launch.chain(MANY, constants=BRISK)
    segmentation = attach(launch, streaming)
    with begin(streaming) as plain, join(segmentation):
        streaming.reports_until(consumers=2)
        segmentation.process.kill()

        assert sequence(list(plain.frames())) == list(range(1, MANY))
    all_ended(probe, streaming)


def test_who_wants_no_more_frames_at_the_end_gets_what_is_due(launch: Launcher) -> None:
    probe, streaming = launch.chain(MANY, constants=BRISK)
    with begin(streaming) as plain, Consumer(streaming.port) as attached:
        attached.sock.sendall(ATTACH + CONSUME)
        attached.hello()
        streaming.reports_until(consumers=2)
        assert sequence(list(plain.frames())) == list(range(1, MANY))
        attached.sock.sendall(ATTACH)

        frames = list(attached.frames())

    assert_accounted_for(attached, frames, MANY)
    all_ended(probe, streaming)


def test_any_number_of_servers_may_be_attached_and_leave_again(launch: Launcher) -> None:
    probe, streaming = launch.chain(60, width=64, height=64)
    first, second = attach(launch, streaming), attach(launch, streaming)
    first.terminate()
    third = attach(launch, streaming)

    assert sequence(receive(streaming.port)[1]) == list(range(60))

    all_ended(probe, streaming, second, third)


def test_an_attached_server_serves_y4m_too(launch: Launcher) -> None:
    probe, streaming = launch.chain(3, width=16, height=16)
    segmentation = launch("segmentation", streaming.port, attached=True, format="y4m")
    with Consumer(segmentation.port) as player:
        assert player.line().startswith(b"YUV4MPEG2 W16 H16 ")
        assert player.line() == b"FRAME Xseq=0 Xpts=0.0\n"
    all_ended(probe, streaming, segmentation)


def test_an_attached_server_notices_that_its_upstream_broke_off(launch: Launcher) -> None:
    _, streaming = launch.chain(MANY)
    segmentation = attach(launch, streaming)
    streaming.process.kill()

    ended = segmentation.ended()

    assert ended.code == 4
    assert "in mid-stream" in ended.sentence


def test_late_binding_attaches(launch: Launcher) -> None:
    probe, streaming = launch.chain(MANY, constants=BRISK)
    segmentation = launch("segmentation", OPERATORD_LATE_BIND=1)
    with begin(streaming) as plain:
        address = {"stream_ip": HOST, "stream_port": streaming.port}
        bound = {"env": {**address, "attached": True, "count": MANY}}
        segmentation.bind(json.dumps(bound).encode() + b"\n")
        with join(segmentation) as joined, ThreadPoolExecutor() as pool:
            streaming.reports_until(consumers=2)
            rest = pool.submit(lambda: list(joined.frames()))
            assert len(list(plain.frames())) == MANY - 1
            assert_accounted_for(joined, rest.result(), MANY)
    all_ended(probe, streaming, segmentation)


def test_an_upstream_that_knows_nothing_of_attaching_is_not_held_up_either(
    launch: Launcher,
) -> None:
    frames = [frame(seq, parts=[{"name": "image", "bytes": 65536}]) for seq in range(MANY)]
    pieces = [header + bytes(65536) for header in frames]
    with ThreadPoolExecutor() as pool:
        said = hello(width=256, height=256)
        port, played = play(pool, said, *pieces, b'{"type":"end","frames":1000}\n')
        segmentation = launch("segmentation", port, attached=True)
        played.result(PATIENCE)

    (ended,) = all_ended(segmentation)
    assert ended.report["frames"] == 0


def test_attached_is_true_or_false(launch: Launcher) -> None:
    ended = launch("segmentation", attached="perhaps").ended()

    assert (ended.code, "attached must be " in ended.sentence) == (2, True)


def test_a_live_consumer_of_a_lossless_stream_holds_up_nobody(launch: Launcher) -> None:
    probe, streaming = launch.chain(MANY)
    with Consumer(streaming.port) as slow:
        slow.sock.sendall(CONSUME_LIVE)  # not attached: frames begin with it
        slow.hello()
        assert probe.ended().code == 0

        frames = list(slow.frames())

    assert frames[0].header["seq"] == 0
    assert_accounted_for(slow, frames, MANY)
    assert slow.end is not None and slow.end["dropped"] > 0
    all_ended(streaming)


@pytest.mark.parametrize(
    "said",
    [
        CONSUME,
        b'{"type":"consume","policy":"lossless"}\n',
        b'{"type":"consume","policy":7}\n',
        b'{"type":"attacc',
    ],
)
def test_any_other_first_words_make_a_consumer_under_the_servers_policy(
    launch: Launcher, said: bytes
) -> None:
    probe, streaming = launch.chain(MANY, constants=BRISK)
    with Consumer(streaming.port) as slow:
        slow.sock.sendall(said)
        slow.hello()
        assert streaming.reports_until(consumers=1, blocked=1)["frames"] < MANY

        assert sequence(list(slow.frames())) == list(range(MANY))
    all_ended(probe, streaming)


WORDS = [CONSUME, CONSUME_LIVE, ATTACH, b'{"type":"check"}\n', b"\r\n", b"{}\n", b'{"type":"c']


@settings(max_examples=50)
@given(st.lists(st.sampled_from(WORDS), max_size=4), st.data())
def test_what_a_peer_says_means_the_same_in_any_chunks(streaming_script, words, data) -> None:
    said = b"".join(words)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)))))

    def learnt(*chunks: bytes) -> tuple[object, ...]:
        with socket.socket() as sock:
            peer = streaming_script.peer.Peer(sock, "somebody", 0.0, 0.0)
            for chunk in chunks:
                if not peer.decided:
                    peer.learn(chunk)
            return peer.role, peer.live, peer.decided

    pieces = [said[a:b] for a, b in itertools.pairwise([0, *cuts, len(said)])]
    assert learnt(*pieces) == learnt(said)
