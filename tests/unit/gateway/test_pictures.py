# SPDX-License-Identifier: MIT
"""Outlines, PNG and the lines for players, each against a plain definition of it."""

from __future__ import annotations

import importlib.util
import struct
import zlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.gateway.pictures import contour, png, rendering, y4m
from operatord.gateway.pictures.cutter import Picture
from operatord_protocol.pictures.pixels import PIXELS
from operatord_protocol.pictures.players import first_line, frame_line
from operatord_protocol.stream import (
    FrameHeader,
    Hello,
    Part,
    StreamError,
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


@given(pictures(), st.sampled_from([2, 3]), st.integers(1, 60), st.randoms())
def test_an_outline_is_white_in_all_bytes_of_a_pixel(
    drawing: tuple[bytes, bytes, int], depth: int, band: int, random: Random
) -> None:
    _, mask, width = drawing
    image = random.randbytes(depth * len(mask))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contour, "BAND", band)
        drawn = contour.drawn(memoryview(image), memoryview(mask), width, depth)
    for place in range(depth):
        assert bytes(drawn)[place::depth] == plainly(image[place::depth], mask, width)


def read_png(
    data: bytes, values: tuple[int, int] = (8, 0), depth: int = 1
) -> tuple[int, int, bytes]:
    """Return width, height and pixels of a PNG without filters; ``values``: bits, and 0 for grey."""
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
    assert rest == [*values, 0, 0, 0]
    width *= depth
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == (width + 1) * height
    split = [rows[y * (width + 1) : (y + 1) * (width + 1)] for y in range(height)]
    assert all(row[0] == 0 for row in split)
    return width // depth, height, b"".join(row[1:] for row in split)


@given(pictures())
def test_a_png_has_the_pixels(drawing: tuple[bytes, bytes, int]) -> None:
    image, _, width = drawing
    height = len(image) // width
    assert read_png(png.written(image, width, height)) == (width, height, image)


@given(pictures())
def test_a_png_has_all_bits_and_colours(drawing: tuple[bytes, bytes, int]) -> None:
    image, mask, width = drawing
    height = len(image) // width
    deep = bytes(byte for pair in zip(image, mask, strict=True) for byte in pair)
    high_first = bytes(byte for pair in zip(mask, image, strict=True) for byte in pair)
    found = read_png(png.written(deep, width, height, "gray16le"), (16, 0), 2)
    assert found == (width, height, high_first)
    colours = image + mask + image
    assert read_png(png.written(colours, width, height, "rgb24"), (8, 2), 3) == (
        width,
        height,
        colours,
    )


def test_players_are_sent_colours_as_y_cb_and_cr_with_the_outline_in_white() -> None:
    hello = Hello("s", 2, 1, "rgb24")
    header = FrameHeader(0, [Part("image", 6), Part("mask", 2)])
    raw = bytes([255, 0, 0, 0, 0, 255]) + bytes([0, 255])
    found = rendering.for_players(Picture(header, raw, 0), hello)
    assert bytes(found) == bytes([82, 235, 90, 128, 240, 128])
    assert first_line(hello).split()[6] == b"C444"


def test_players_are_sent_sixteen_bits_as_they_are() -> None:
    hello = Hello("s", 2, 1, "gray16le")
    header = FrameHeader(0, [Part("image", 4)])
    assert bytes(rendering.for_players(Picture(header, b"abcd", 0), hello)) == b"abcd"
    assert first_line(hello).split()[6] == b"Cmono16"


def test_a_format_that_is_not_known_is_named() -> None:
    hello = Hello("s", 2, 1, "yuyv422")
    with pytest.raises(
        StreamError, match="yuyv422, and players and PNG get gray8, gray16le and rgb24"
    ):
        rendering.require_known(hello)
    with pytest.raises(StreamError, match="yuyv422, and players can be sent gray8, gray16le and"):
        first_line(hello)


@pytest.mark.parametrize(
    ("fps", "rate"), [(0.0, "30:1"), (25.0, "25:1"), (29.97, "29970:1000"), (1e-9, "1:1000")]
)
def test_players_are_told_a_rate(fps: float, rate: str) -> None:
    line = first_line(Hello("stream", 16, 20, fps=fps))
    assert line == f"YUV4MPEG2 W16 H20 F{rate} Ip A1:1 Cmono Xstream=stream\n".encode()


@given(st.builds(Hello, st.text(max_size=64), st.integers(1, 65536), st.integers(1, 65536),
                 st.sampled_from(sorted(PIXELS)), fps=st.floats(0, 1e6)))  # fmt: skip
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
        y4m.pixels_of(b"YUV4MPEG2 W4 H3 F30:1 C420jpeg\n")
    assert y4m.pixels_of(b"YUV4MPEG2 W4 H3 Cmono16 F30:1") == "gray16le"
    assert y4m.pixels_of(b"YUV4MPEG2 Cmono W4 H3 F30:1") == "gray8"
    with pytest.raises(StreamError, match="sessions of format json are shown in colour"):
        y4m.pixels_of(b"YUV4MPEG2 W4 H3 F30:1 C444")
    with pytest.raises(StreamError, match="not that of a frame"):
        y4m.read_frame(b"FRAMES", Hello("s", 4, 3), 0)
