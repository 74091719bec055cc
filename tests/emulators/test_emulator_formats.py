# SPDX-License-Identifier: MIT
"""Pictures of each format through the stages, and as ffmpeg sees what players are sent."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from emulator_stages import HOST, PATIENCE, Launcher, frame, hello, play, receive

WIDTH, HEIGHT = 63, 35  # odd, and more colours than there are in a frame of the other tests
PIXELS = WIDTH * HEIGHT
END = b'{"type":"end","frames":2,"dropped":0}\n'
GEOMETRY = {"spacing": [0.2, 0.3], "depth": 80.5, "orientation": [1, 0, 0, 0, 1, 0], "origin": [1, 2, 3],
            "meta": {"gain": 40}}  # fmt: skip


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def colours() -> bytes:
    """Return a picture that begins with the corners of the colour space, then grey, then whatever."""
    corners = bytes(255 * (corner >> bit & 1) for corner in range(8) for bit in range(3))
    grey = bytes(level for level in range(256) for _ in range(3))
    return (corners + grey + random.Random(1).randbytes(3 * PIXELS))[: 3 * PIXELS]


PICTURES = {
    "gray8": random.Random(8).randbytes(PIXELS),
    "gray16le": random.Random(16).randbytes(2 * PIXELS),
    "rgb24": colours(),
}


def fed(pool: ThreadPoolExecutor, pixels: str) -> int:
    """Be a probe that sends two frames of this format; return its port."""
    image = PICTURES[pixels]
    parts = [{"name": "image", "bytes": len(image)}, {"name": "igtl", "bytes": 3}]
    said = hello(width=WIDTH, height=HEIGHT, format=pixels, count=2, **GEOMETRY)
    frames = [frame(seq, parts=parts, pose=[seq]) + image + b"abc" for seq in range(2)]
    return play(pool, said, *frames, END)[0]


def decoded(ffmpeg: str, port: int, pixels: str) -> bytes:
    """Return the pictures that ffmpeg finds at a location."""
    exact = ["-sws_flags", "accurate_rnd+full_chroma_int+bitexact"]
    command = [
        ffmpeg,
        "-v",
        "error",
        "-i",
        f"tcp://{HOST}:{port}",
        "-fps_mode",
        "passthrough",
        *exact,
    ]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", pixels, "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("pixels", PICTURES)
def test_pictures_and_what_is_said_of_them_pass(
    pool: ThreadPoolExecutor, launch: Launcher, pixels: str
) -> None:
    first = launch("streaming", fed(pool, pixels))
    said, frames, end = receive(launch("streaming", first.port).port)

    assert said["format"] == pixels
    assert {name: said[name] for name in GEOMETRY} == GEOMETRY
    assert [each.parts for each in frames] == 2 * [(PICTURES[pixels], b"abc")]
    assert [each.header["pose"] for each in frames] == [[0], [1]]
    assert end is not None and end["frames"] == 2


@pytest.mark.parametrize(("pixels", "theirs"), [("gray8", "gray"), ("gray16le", "gray16le")])
def test_players_see_each_grey_level(
    pool: ThreadPoolExecutor, launch: Launcher, ffmpeg: str, pixels: str, theirs: str
) -> None:
    streaming = launch("streaming", fed(pool, pixels), format="y4m")
    assert decoded(ffmpeg, streaming.port, theirs) == 2 * PICTURES[pixels]


def test_players_see_colours_within_a_few_levels(
    pool: ThreadPoolExecutor, launch: Launcher, ffmpeg: str
) -> None:
    """Y, Cb and Cr have fewer levels than red, green and blue: nothing comes back exactly."""
    streaming = launch("streaming", fed(pool, "rgb24"), format="y4m")
    found = numpy.frombuffer(decoded(ffmpeg, streaming.port, "rgb24"), numpy.uint8).astype(int)
    sent = numpy.frombuffer(2 * PICTURES["rgb24"], numpy.uint8)
    assert abs(found - sent).max() <= 3
    assert abs(found - sent).mean() < 1


@pytest.mark.parametrize("pixels", PICTURES)
def test_a_long_name_does_not_make_the_first_line_too_long(streaming_script, pixels: str) -> None:
    said = {"width": 65536, "height": 256, "format": pixels, "fps": 999999.999}
    lines = [streaming_script.headers.y4m_hello(said, "n" * size) for size in range(1, 64)]
    assert max(map(len, lines)) == 96
    assert b" Xstream=nnnn " in lines[3] and b"Xstream" not in lines[-1]
    assert all(line.endswith(b" Xwatch\n") for line in lines)


def test_grey_has_no_tint(streaming_script) -> None:
    grey = bytes(level for level in range(256) for _ in range(3))
    planes = streaming_script.yuv.planes(grey)
    assert planes[256:] == bytes([128] * 512)
    assert (planes[0], planes[255]) == (16, 235)


@pytest.mark.parametrize("pixels", [1, 2, 7, 8, 9, 100])
def test_bands_of_any_size_are_those_of_the_definition(streaming_script, pixels: int) -> None:
    yuv = streaming_script.yuv
    rgb = random.Random(pixels).randbytes(3 * pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yuv, "BAND", 8)
        found = yuv.planes(memoryview(rgb))
    assert found == bytes(
        (red * r + green * g + blue * b + 128 >> 8) + offset
        for red, green, blue, offset in yuv.WEIGHTS
        for r, g, b in zip(rgb[0::3], rgb[1::3], rgb[2::3], strict=True)
    )


@pytest.mark.parametrize("pixels", ["gray16le", "rgb24"])
def test_segmentation_says_what_it_takes(
    pool: ThreadPoolExecutor, launch: Launcher, pixels: str
) -> None:
    streaming = launch("streaming", fed(pool, pixels), plain_stream=False)
    ended = launch("segmentation", streaming.port).ended()
    assert ended.code == 4
    assert f"sends pictures as {pixels!r}, and this stage takes gray8 only" in ended.sentence
