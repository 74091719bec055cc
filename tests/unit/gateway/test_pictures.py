# SPDX-License-Identifier: MIT
"""Outlines, PNG and the lines for players, each against a plain definition of it."""

from __future__ import annotations

import importlib.util
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.gateway.pictures import contour, png, y4m
from operatord_protocol.stream import (
    FrameHeader,
    Hello,
    Part,
    StreamError,
    first_line,
    frame_line,
    parse_hello,
)

MASKS = Path(__file__).parents[3] / "emulators" / "segmentation" / "masks.py"


@st.composite
def pictures(draw: st.DrawFn) -> tuple[bytes, bytes, int]:
    """Return a picture, a mask of 0 and 255, and their width."""
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = width * height
    image = draw(st.binary(min_size=size, max_size=size))
    mask = bytes(draw(st.lists(st.sampled_from((0, 255)), min_size=size, max_size=size)))
    return image, mask, width


def plainly(image: bytes, mask: bytes, width: int) -> bytes:
    def has(at: int) -> bool:
        return 0 <= at < len(mask) and mask[at] != 0

    def on_outline(at: int) -> bool:
        return has(at) and not all(has(at + by) for by in (-1, 1, -width, width))

    return bytes(255 if on_outline(at) else pixel for at, pixel in enumerate(image))


@given(pictures(), st.integers(1, 200))
def test_an_outline_is_drawn_in_bands_of_any_size(
    drawing: tuple[bytes, bytes, int], band: int
) -> None:
    image, mask, width = drawing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contour, "BAND", band)
        drawn = contour.drawn(memoryview(image), memoryview(mask), width)
    assert bytes(drawn) == plainly(image, mask, width)


@given(pictures())
def test_an_outline_is_that_of_the_segmentation_stage(drawing: tuple[bytes, bytes, int]) -> None:
    image, mask, width = drawing
    spec = importlib.util.spec_from_file_location("masks_of_the_stage", MASKS)
    assert spec is not None and spec.loader is not None
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    lanes = int.from_bytes(image, "little") | stage.contour(mask, width)
    drawn = contour.drawn(memoryview(image), memoryview(mask), width)
    assert bytes(drawn) == lanes.to_bytes(len(image), "little")


def test_a_mask_of_ones_is_a_mask() -> None:
    image, mask = bytes(9), bytes([1] * 9)
    drawn = contour.drawn(memoryview(image), memoryview(mask), 3)
    assert bytes(drawn) == plainly(image, mask, 3) != image


def test_a_picture_without_a_mask_is_not_copied() -> None:
    image = memoryview(b"abcd")
    assert contour.drawn(image, None, 2) is image


def read_png(data: bytes) -> tuple[int, int, bytes]:
    """Return width, height and pixels of a grey PNG without filters."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + body
        )
        chunks[kind] = body
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 0, 0, 0, 0]
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == (width + 1) * height
    split = [rows[y * (width + 1) : (y + 1) * (width + 1)] for y in range(height)]
    assert all(row[0] == 0 for row in split)
    return width, height, b"".join(row[1:] for row in split)


@given(pictures())
def test_a_png_has_the_pixels(drawing: tuple[bytes, bytes, int]) -> None:
    image, _, width = drawing
    height = len(image) // width
    assert read_png(png.written(image, width, height)) == (width, height, image)


@pytest.mark.parametrize(
    ("fps", "rate"), [(0.0, "30:1"), (25.0, "25:1"), (29.97, "29970:1000"), (1e-9, "1:1000")]
)
def test_players_are_told_a_rate(fps: float, rate: str) -> None:
    line = first_line(Hello("stream", 16, 20, fps=fps))
    assert line == f"YUV4MPEG2 W16 H20 F{rate} Ip A1:1 Cmono Xstream=stream\n".encode()


@given(st.builds(Hello, st.text(max_size=64), st.integers(1, 65536), st.integers(1, 65536),
                 fps=st.floats(0, 1e6)))  # fmt: skip
def test_a_first_line_is_one_line_and_not_too_long_for_ffmpeg(hello: Hello) -> None:
    line = first_line(hello)
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and len(line) <= 96
    read = parse_hello(line[:-1])
    assert (read.width, read.height) == (hello.width, hello.height)


@given(st.integers(0, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False))
def test_the_line_of_a_frame_says_what_its_header_said(seq: int, pts: float) -> None:
    line = frame_line(FrameHeader(seq, [Part("image", 12)], pts))
    assert line.count(b"\n") == 1 and len(line) <= 80
    read = y4m.read_frame(line[:-1], Hello("s", 4, 3), 0)
    assert read.pts == pts
    assert read.seq == (seq if seq < 10**15 else 0)
    assert read.parts == [Part("image", 12)]


def test_a_frame_that_says_nothing_is_counted() -> None:
    read = y4m.read_frame(b"FRAME Xseq=-1 Xpts=nan", Hello("s", 4, 3, fps=10), 7)
    assert (read.seq, read.pts) == (7, 0.7)


def test_colours_are_not_read_as_grey() -> None:
    with pytest.raises(StreamError, match="Cmono"):
        y4m.require_mono(b"YUV4MPEG2 W4 H3 F30:1 C420jpeg\n")
    with pytest.raises(StreamError, match="not that of a frame"):
        y4m.read_frame(b"FRAMES", Hello("s", 4, 3), 0)
