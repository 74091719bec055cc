# SPDX-License-Identifier: MIT
"""Recordings: their frames and times, what is made of them, and how they end."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from camera_lab import SIZE, Camera, Consumer, Frame, make_video

Launch = Callable[..., Camera]
LEVELS = [10 * (number + 1) for number in range(20)]


def levels(frames: list[Frame]) -> list[int]:
    return [frame.level for frame in frames]


def play(launch: Launch, path: Path, **env: object) -> tuple[Consumer, list[Frame]]:
    """Read a whole recording as fast as it is read."""
    camera = launch(f"file:{path}", **{"fps": 0, **env})
    with Consumer(camera.port()) as consumer:
        frames = consumer.frames()
    assert consumer.end == {"type": "end", "frames": len(frames), "dropped": 0}
    assert camera.ended().code == 0
    return consumer, frames


def test_a_recording_is_served_whole_at_its_own_times(launch: Launch, recording: Path) -> None:
    consumer, frames = play(launch, recording)
    size = {"width": SIZE[0], "height": SIZE[1], "format": "gray8"}
    assert consumer.hello.items() >= size.items()
    assert levels(frames) == LEVELS
    assert [frame.seq for frame in frames] == list(range(20))
    assert [frame.pts for frame in frames] == [round(number / 20, 6) for number in range(20)]


@pytest.mark.parametrize("name", ["scan.mp4", "scan.avi"])
def test_usual_files_are_read(launch: Launch, decoder: str, tmp_path: Path, name: str) -> None:
    path = make_video(decoder, tmp_path / name, "-c:v", "mpeg4", "-q:v", "1")
    _, frames = play(launch, path)
    assert len(frames) == 20
    assert all(abs(level - seen) < 5 for level, seen in zip(LEVELS, levels(frames), strict=True))


def test_times_are_the_sources_own_where_they_are_uneven(
    launch: Launch, decoder: str, tmp_path: Path
) -> None:
    uneven = ["-vf", "setpts='(N+N*N/10)/20/TB'", "-fps_mode", "passthrough"]
    path = make_video(decoder, tmp_path / "uneven.mkv", *uneven, "-c:v", "ffv1", frames=5)
    _, frames = play(launch, path)
    steps = [b.pts - a.pts for a, b in itertools.pairwise(frames)]
    assert steps[-1] > 1.5 * steps[0], steps


def test_a_recording_goes_at_its_own_pace_and_says_so(launch: Launch, recording: Path) -> None:
    camera = launch(f"file:{recording}")
    with Consumer(camera.port()) as consumer:
        assert consumer.hello["fps"] == 20
        begun = time.monotonic()
        assert len(consumer.frames()) == 20
        assert time.monotonic() - begun > 0.3, "a second's frames came at once"


def test_what_is_asked_of_the_pictures_is_done(launch: Launch, recording: Path) -> None:
    consumer, frames = play(launch, recording, crop="32:24:8:8", width=16, pixel_format="rgb24")
    assert (consumer.hello["width"], consumer.hello["height"]) == (16, 12)
    assert consumer.hello["format"] == "rgb24"
    assert [len(frame.image) for frame in frames] == [16 * 12 * 3] * 20
    assert levels(frames) == LEVELS


def test_sixteen_bits_are_kept(launch: Launch, decoder: str, tmp_path: Path) -> None:
    deep = ["-vf", "format=gray16le,geq=lum='257*(N+1)+X'", "-c:v", "ffv1"]
    path = make_video(decoder, tmp_path / "deep.mkv", *deep, frames=3)
    consumer, frames = play(launch, path, pixel_format="gray16le")
    assert consumer.hello["format"] == "gray16le"
    row = struct.unpack("<64H", frames[1].image[:128])
    assert row == tuple(257 * 2 + x for x in range(64))


def test_another_rate_leaves_frames_out(launch: Launch, recording: Path) -> None:
    consumer, frames = play(launch, recording, fps=5)
    assert consumer.hello["fps"] == 5
    assert [frame.pts for frame in frames] == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_a_recording_begins_anew_and_count_ends_it(launch: Launch, recording: Path) -> None:
    consumer, frames = play(launch, recording, loop=True, count=50)
    assert consumer.hello["count"] == 50
    assert levels(frames) == (LEVELS * 3)[:50]
    times = [frame.pts for frame in frames]
    assert times == [round(number / 20, 6) for number in range(50)]


def test_nothing_is_lost_while_nobody_reads(launch: Launch, recording: Path) -> None:
    # Pictures so large that those of the first consumer do not hold the whole recording in its buffers.
    camera = launch(f"file:{recording}", fps=0, width=1280)
    port = camera.port()
    with Consumer(port) as first:
        assert len(first.frames(3)) == 3
    with Consumer(port) as second:
        seen = second.frames()
    assert [frame.seq for frame in seen] == list(range(seen[0].seq, 20))


def test_a_cine_of_single_pictures_is_read(
    launch: Launch, jpegs: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "cine.mjpeg"
    path.write_bytes(b"".join(jpegs))
    consumer, frames = play(launch, path)
    assert (consumer.hello["width"], consumer.hello["height"]) == SIZE
    assert len(frames) == len(jpegs)
    assert levels(frames) == sorted(levels(frames))
