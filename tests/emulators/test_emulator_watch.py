# SPDX-License-Identifier: MIT
"""Spectators: they see what others are sent, and the stream is as if they were not there."""

from __future__ import annotations

import pytest
from emulator_stages import (
    BRISK,
    CONSUME,
    HASTY,
    Consumer,
    Launcher,
    Stage,
    check,
    receive,
    sequence,
)

WATCH = b'{"type": "watch"}\n'
MANY = 1000  # frames of 64 KiB: more than all the kernel's buffers between two stages hold


def watch(stage: Stage) -> Consumer:
    """Be a spectator, for sure: the stage has understood that before anybody connects later."""
    spectator = Consumer(stage.port)
    spectator.sock.sendall(WATCH)
    assert spectator.hello()["watch"] is True
    check(stage.port)
    return spectator


def leaves_after(stage: Stage, frames: int) -> None:
    """Be a consumer for so many frames."""
    with Consumer(stage.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        for _ in range(frames):
            assert consumer.frame() is not None


def test_stages_say_that_they_know_spectators(launch: Launcher) -> None:
    _, plain = launch.chain(2)
    _, for_players = launch.chain(2, format="y4m")
    assert b'"watch":true' in check(plain.port)
    assert check(for_players.port).endswith(b" Xwatch\n")


@pytest.mark.parametrize("fps", [0, 200])
def test_frames_begin_with_the_first_consumer_and_not_with_a_spectator(
    launch: Launcher, fps: int
) -> None:
    probe, streaming = launch.chain(60, fps=fps, width=64, height=64)
    with watch(streaming) as spectator:
        _, frames, end = receive(streaming.port)
        seen = sequence(list(spectator.frames()))

    assert sequence(frames) == list(range(60))
    assert end == {"type": "end", "frames": 60, "dropped": 0}
    assert seen and seen[0] == 0 and seen == sorted(set(seen))
    assert spectator.end is not None and spectator.end["frames"] == len(seen)
    assert (probe.ended().code, streaming.ended().code) == (0, 0)


def test_a_stream_is_held_though_somebody_watches(launch: Launcher) -> None:
    _, streaming = launch.chain(400, fps=400, width=64, height=64, constants=BRISK)
    with watch(streaming) as spectator:
        leaves_after(streaming, 3)
        held = streaming.reports_until(consumers=0)["frames"]
        _, frames, _ = receive(streaming.port)
        seen = sequence(list(spectator.frames()))

    assert sequence(frames) == list(range(held, 400))
    assert seen[-1] == 399
    assert streaming.ended().code == 0


def test_a_spectator_that_takes_nothing_holds_up_nobody_and_is_not_told_of(
    launch: Launcher,
) -> None:
    probe, streaming = launch.chain(MANY, constants=HASTY)
    with watch(streaming):
        _, frames, end = receive(streaming.port)
        assert sequence(frames) == list(range(MANY))
        assert end == {"type": "end", "frames": MANY, "dropped": 0}
        assert probe.ended().code == 0
        ended = streaming.ended()
    assert (ended.code, ended.report["dropped"]) == (0, 0)


def test_a_stream_that_is_dropped_unread_is_seen(launch: Launcher) -> None:
    _, streaming = launch.chain(MANY, fps=50, width=64, height=64, unread="drop", constants=BRISK)
    with watch(streaming) as spectator:
        first, second = spectator.frame(), spectator.frame()
        assert first is not None and second is not None
        assert second.header["seq"] > first.header["seq"]
        assert streaming.reports_until(consumers=0)


def test_who_was_sent_frames_as_a_guest_may_become_a_spectator(launch: Launcher) -> None:
    _, streaming = launch.chain(20, width=64, height=64)
    check(streaming.port)
    with Consumer(streaming.port) as guest:
        guest.hello()
        assert sequence([frame for frame in [guest.frame()] if frame]) == [0]
        guest.sock.sendall(WATCH)
        check(streaming.port)
        _, frames, _ = receive(streaming.port)
        seen = [0, *sequence(list(guest.frames()))]

    assert sequence(frames) == list(range(20))
    assert seen == sorted(set(seen)) and seen[-1] == 19


def test_a_spectator_that_has_the_end_does_not_stand_in_for_a_consumer(launch: Launcher) -> None:
    _, streaming = launch.chain(1, width=1920, height=1920)  # more than sockets hold
    with watch(streaming) as spectator, Consumer(streaming.port) as consumer:
        consumer.sock.sendall(CONSUME)
        assert sequence(list(spectator.frames())) == [0]
        consumer.__exit__()
    assert streaming.ended().code == 5
