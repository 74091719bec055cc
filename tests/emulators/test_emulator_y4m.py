# SPDX-License-Identifier: MIT
"""YUV4MPEG2, read by the program for which it is there."""

from __future__ import annotations

import subprocess

import pytest
from emulator_stages import CONSUME, HOST, PATIENCE, Consumer, Launcher, check, receive


def decode(ffmpeg: str, port: int, pixels: str = "gray") -> bytes:
    """Return the pictures that ffmpeg finds at a location, one after the other."""
    command = [ffmpeg, "-v", "error", "-i", f"tcp://{HOST}:{port}", "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", pixels, "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout


def test_ffmpeg_reads_every_picture_of_a_plain_stream(launch: Launcher, ffmpeg: str) -> None:
    _, streaming = launch.chain(40, plain_stream=True, format="y4m")
    _, frames, _ = receive(launch("probe", count=40).port)
    assert check(streaming.port).startswith(b"YUV4MPEG2 W256 H256 F30:1 Ip A1:1 Cmono ")

    pictures = decode(ffmpeg, streaming.port)

    assert pictures == b"".join(frame.parts[0] for frame in frames)
    assert streaming.ended().code == 0


def test_ffmpeg_sees_the_masks_contour(launch: Launcher, ffmpeg: str, segmentation_script) -> None:
    _, streaming = launch.chain(12, plain_stream=False, format="y4m")
    segmentation = launch("segmentation", streaming.port, format="y4m")
    _, frames, _ = receive(launch("probe", count=12).port)

    pictures = decode(ffmpeg, segmentation.port)

    for index, frame in enumerate(frames):
        drawn = pictures[index * 65536 : (index + 1) * 65536]
        mask = segmentation_script.masks.segment(frame.parts[0], 256, 256)
        line = segmentation_script.masks.contour(mask, 256).to_bytes(65536, "little")
        assert drawn == bytes(a | b for a, b in zip(frame.parts[0], line, strict=True))
        assert 100 < line.count(255) < 1000
    assert segmentation.ended().code == 0


def rows_of(pictures: bytes, width: int, height: int) -> list[bytes]:
    """Return the grey part of pictures that have neutral colours behind it."""
    grey, colours = width * height, 2 * ((width + 1) // 2) * ((height + 1) // 2)
    found = [pictures[at : at + grey + colours] for at in range(0, len(pictures), grey + colours)]
    assert all(each[grey:] == b"\x80" * colours for each in found)
    return [each[:grey] for each in found]


def test_players_that_read_no_grey_are_sent_neutral_colours(
    launch: Launcher, ffmpeg: str, segmentation_script
) -> None:
    """F22: if asked to; with the outline of the mask, too."""
    size = {"width": 33, "height": 21}
    _, streaming = launch.chain(4, plain_stream=True, format="y4m", chroma="420jpeg", **size)
    _, frames, _ = receive(launch("probe", count=4, **size).port)
    assert b" C420jpeg " in check(streaming.port)
    pictures = decode(ffmpeg, streaming.port, "yuvj420p")
    assert rows_of(pictures, **size) == [frame.parts[0] for frame in frames]

    _, streaming = launch.chain(4, plain_stream=False, format="y4m", **size)
    segmentation = launch("segmentation", streaming.port, format="y4m", chroma="420jpeg")
    pictures = decode(ffmpeg, segmentation.port, "yuvj420p")
    for drawn, frame in zip(rows_of(pictures, **size), frames, strict=True):
        mask = segmentation_script.masks.segment(frame.parts[0], **size)
        line = segmentation_script.masks.contour(mask, 33).to_bytes(33 * 21, "little")
        assert drawn == bytes(a | b for a, b in zip(frame.parts[0], line, strict=True))


def test_frames_say_when_they_are_due(launch: Launcher) -> None:
    _, streaming = launch.chain(2, format="y4m", width=16, height=20)
    with Consumer(streaming.port) as consumer:
        assert consumer.line() == b"YUV4MPEG2 W16 H20 F30:1 Ip A1:1 Cmono Xstream=stream Xwatch\n"
        rest = consumer.rest()

    assert rest[:23] == b"FRAME Xseq=0 Xpts=0.0\n"[:23] + rest[22:23]
    assert rest[22 + 320 :].startswith(b"FRAME Xseq=1 Xpts=0.033333\n")
    assert len(rest) == 22 + 320 + 27 + 320


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_half_closed_consumer_gets_a_whole_stream(launch: Launcher, count: int) -> None:
    _, streaming = launch.chain(count, format="y4m", width=16, height=16)
    _, other = launch.chain(count, format="y4m", width=16, height=16)
    with Consumer(streaming.port) as consumer, Consumer(other.port) as open_one:
        consumer.sock.shutdown(1)
        open_one.sock.sendall(CONSUME)
        whole = consumer.rest()
        assert whole.count(b"FRAME Xseq=") == count
        assert whole == open_one.rest()


def test_segmentation_is_always_served_json(launch: Launcher) -> None:
    _, streaming = launch.chain(2, format="y4m", plain_stream="False")

    assert len(receive(streaming.port)[1]) == 2
