# SPDX-License-Identifier: MIT
"""Checks whose line comes late, and stages that are told that a check comes first: no frame is ever lost."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import (
    ATTACH,
    BRISK,
    CHECK,
    CONSUME,
    HOST,
    PATIENCE,
    PATIENT,
    PICTURE,
    Constants,
    Consumer,
    Launcher,
    Stage,
    check,
    frame,
    hello,
    play,
    receive,
    sequence,
)
from test_emulator_preview import RESET, expect

RELAYS = ["streaming", "segmentation"]
SMALL = {"width": 16, "height": 16}
COUNT = 200
"""Frames of a stream that lasts for five seconds: the line comes long before its end, on busy cores, too."""
CREDULOUS: Constants = {"GUEST_TIME": 0.0, "GUEST_TIME_INNER": 0.0, "QUIET": 0.0, **BRISK}
"""Whoever is silent is taken for a consumer at once, as the slowest line finds it on a busy machine."""


def last_of(
    launch: Launcher, script: str, count: int, constants: Constants, **env: object
) -> Stage:
    """Start a chain that ends with a script; the last stage has ``constants``, and the environment."""
    if script == "streaming":
        return launch.chain(count, constants=constants, **SMALL, fps=40, **env)[1]
    _, streaming = launch.chain(count, **SMALL, fps=40, visitors=False)
    return launch("segmentation", streaming.port, constants=constants, **env)


@pytest.mark.parametrize("said", [CHECK, ATTACH])
@pytest.mark.parametrize("script", RELAYS)
def test_whose_line_comes_when_it_is_a_consumer_already_costs_no_frame(
    launch: Launcher, script: str, said: bytes
) -> None:
    """N1: a later check, or an attached stage, on a machine that is too busy to say so in time."""
    last = last_of(launch, script, COUNT, CREDULOUS)
    with Consumer(last.port) as late:
        late.hello()
        expect(late, 0)
        last.reports_until(consumers=1)
        late.sock.sendall(said)
        last.reports_until(consumers=0)

        _, frames, end = receive(last.port)

    assert sequence(frames) == list(range(COUNT))
    assert end == {"type": "end", "frames": COUNT, "dropped": 0}


@pytest.mark.parametrize("script", RELAYS)
def test_attached_stage_whose_line_came_late_is_sent_all_once_it_has_a_consumer(
    launch: Launcher, script: str
) -> None:
    """N1: what it was sent when it seemed to be a consumer reached nobody."""
    last = last_of(launch, script, COUNT, CREDULOUS)
    with Consumer(last.port) as late:
        late.hello()
        expect(late, 0)
        last.reports_until(consumers=1)
        late.sock.sendall(ATTACH)
        last.reports_until(consumers=0)
        late.sock.sendall(CONSUME)

        seqs = sequence(list(late.frames()))

    begun = seqs.index(0)
    assert seqs[:begun] == list(range(1, begun + 1))
    assert seqs[begun:] == list(range(COUNT))
    assert late.end == {"type": "end", "frames": COUNT, "dropped": 0}


@pytest.mark.parametrize("script", RELAYS)
def test_a_check_that_is_gone_before_its_line_is_read_costs_no_frame(
    launch: Launcher, script: str
) -> None:
    """N1: the line and a reset come together, to a stage that has sent frames to it."""
    last = last_of(launch, script, COUNT, CREDULOUS)
    late = Consumer(last.port)
    late.hello()
    last.reports_until(consumers=1)
    late.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    late.sock.sendall(CHECK)
    late.__exit__()
    last.reports_until(consumers=0)

    assert sequence(receive(last.port)[1]) == list(range(COUNT))


@pytest.mark.parametrize("policy", ["lossless", "fastest", "live"])
@pytest.mark.parametrize("script", RELAYS)
def test_nobody_is_sent_a_frame_before_the_daemons_check(
    launch: Launcher, script: str, policy: str
) -> None:
    """N1: told that a check comes first, a stage holds everybody else, and begins for all with frame 0."""
    count = 4
    last = last_of(launch, script, count, CREDULOUS, checked=True, policy=policy)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(Consumer(last.port)) for _ in range(3)]
        for each in held:
            assert each.hello()["count"] == count
        held[0].sock.sendall(CONSUME)
        held[1].sock.shutdown(socket.SHUT_WR)
        with Consumer(last.port) as checker:
            checker.hello()
            held[0].sock.settimeout(0.3)  # in which it would have got all of it
            with pytest.raises(TimeoutError):
                held[0].sock.recv(1)
            held[0].sock.settimeout(PATIENCE)
            checker.sock.sendall(CHECK)
            for each in held:
                expect(each, 0)
    assert last.process.poll() is None


@pytest.mark.parametrize("said", [b"", CONSUME, None], ids=["silent", "consume", "half-closed"])
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("script", RELAYS)
def test_all_who_wait_for_the_upstream_get_every_frame(
    launch: Launcher, script: str, checked: bool, said: bytes | None
) -> None:
    """N1: they connected before there was a hello; whoever is let in first takes no frame from the others."""
    frames = b"".join(frame(seq) + PICTURE for seq in range(4))
    with socket.create_server((HOST, 0)) as server, contextlib.ExitStack() as stack:
        last = launch(script, server.getsockname()[1], checked=checked)
        checker, first, *others = [stack.enter_context(Consumer(last.port)) for _ in range(8)]
        checker.sock.sendall(CHECK)
        first.sock.sendall(CONSUME)
        for other in others:
            other.sock.shutdown(socket.SHUT_WR) if said is None else other.sock.sendall(said)
        upstream = stack.enter_context(server.accept()[0])
        upstream.sendall(hello(count=4) + frames + b'{"type":"end","frames":4}\n')
        for consumer in (first, *others):
            consumer.hello()
            assert sequence(list(consumer.frames())) == [0, 1, 2, 3]


def test_a_checked_stage_lets_a_check_pass_that_is_the_only_one_to_come(launch: Launcher) -> None:
    """N1: after the check, a session goes on as ever, and its exit says that all was delivered."""
    _, streaming = launch.chain(5, checked=True, **SMALL)
    assert check(streaming.port)
    assert sequence(receive(streaming.port)[1]) == [0, 1, 2, 3, 4]
    assert streaming.ended().code == 0


def test_a_checked_probe_sends_nobody_a_frame_before_the_check(launch: Launcher) -> None:
    """N1: a probe that is the only stage is checked like any other."""
    probe = launch("probe", count=2, checked=True, **SMALL)
    with ThreadPoolExecutor() as pool, Consumer(probe.port) as early, Consumer(probe.port) as half:
        half.sock.shutdown(socket.SHUT_WR)
        early.hello(), half.hello()
        others = [pool.submit(list, each.frames()) for each in (early, half)]
        assert not others[0].done()
        assert check(probe.port)
        assert [sequence(other.result(PATIENCE)) for other in others] == [[0, 1], [0, 1]]
    assert probe.ended().code == 0


def test_a_probe_that_has_sent_all_to_a_late_check_serves_on(launch: Launcher) -> None:
    """N1: the sequence fits into the kernel, and the line comes after its end."""
    probe = launch("probe", count=2, **SMALL)
    with Consumer(probe.port) as late:
        late.hello()
        assert len(list(late.frames())) == 2
        late.sock.sendall(CHECK)

    assert sequence(receive(probe.port)[1]) == [0, 1]
    assert probe.ended().code == 0


def test_guests_are_sent_frames_as_they_come_and_the_next_one_gets_the_same(
    launch: Launcher,
) -> None:
    """N1: who is silent does not wait to be a consumer, and takes nothing from anybody before it is one."""
    _, streaming = launch.chain(30, constants=PATIENT, fps=100, **SMALL)
    for _ in range(2):
        with Consumer(streaming.port) as guest:
            guest.hello()
            for seq in range(20):
                expect(guest, seq)
    with Consumer(streaming.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        assert sequence(list(consumer.frames())) == list(range(30))


@pytest.mark.parametrize("guest_time", [0.0, 0.05])
def test_who_is_not_sure_to_be_a_consumer_is_not_waited_for_by_more_than_is_kept(
    launch: Launcher, guest_time: float
) -> None:
    """N1: what is kept is bounded: an unpaced stream goes on when its first consumer is believed.

    So it does when that has been before there was as much.
    """
    few = {"KEPT_BYTES": 300_000, "KEPT_TIME": 3600.0, "REPORT_EVERY": 3600}
    _, streaming = launch.chain(400, constants={**few, "GUEST_TIME": guest_time})

    _, frames, end = receive(streaming.port)

    assert sequence(frames) == list(range(400))
    assert end == {"type": "end", "frames": 400, "dropped": 0}


def test_a_stream_whose_last_consumer_left_too_early_is_not_delivered(launch: Launcher) -> None:
    """N1: the stage does not end with 0 when nobody got the stream to its end."""
    large = {"parts": [{"name": "image", "bytes": 700 * 700}]}
    with ThreadPoolExecutor() as pool:
        pieces = hello(width=700, height=700, count=1) + frame(0, **large) + bytes(490_000)
        port, _ = play(pool, pieces + b'{"type":"end","frames":1}\n')
        streaming = launch("streaming", port, constants=BRISK)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((HOST, streaming.port))
            sock.sendall(CONSUME)
            streaming.reports_until(blocked=1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        ended = streaming.ended()

    assert ended.code == 5
    assert "left before it had the stream to its end" in ended.sentence


def test_a_slow_consumer_is_given_time_to_take_what_proxies_hold(launch: Launcher) -> None:
    """N1: a stage whose consumer was behind stays after the last byte was confirmed, and not for 5 s only."""
    brief: Constants = {"LINGER": 0.0, "LINGER_BEHIND": 3600.0, **BRISK}
    _, streaming = launch.chain(400, constants=brief)
    with Consumer(streaming.port) as slow:
        slow.sock.sendall(CONSUME)
        streaming.reports_until(blocked=1)
        slow.hello()
        assert len(list(slow.frames())) == 400
        assert streaming.reports_until(frames=400)["consumers"] == 1
        assert streaming.process.poll() is None
    assert streaming.ended().code == 0
