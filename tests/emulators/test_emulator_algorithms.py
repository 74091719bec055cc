# SPDX-License-Identifier: MIT
"""The laws behind segmentation and framing, against brute force."""

from __future__ import annotations

import itertools
import math
import random
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from emulator_stages import PICTURE, frame, hello
from hypothesis import given, settings
from hypothesis import strategies as st


def variance_between(histogram: list[int], threshold: int) -> float:
    """Return Otsu's criterion as his paper has it, (9) and (18)."""
    dark, bright = histogram[: threshold + 1], histogram[threshold + 1 :]
    if not sum(dark) or not sum(bright):
        return -1.0
    dark_mean = sum(i * n for i, n in enumerate(dark)) / sum(dark)
    bright_mean = sum(i * n for i, n in enumerate(bright, threshold + 1)) / sum(bright)
    return sum(dark) * sum(bright) * (dark_mean - bright_mean) ** 2


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40))
def test_otsu_finds_the_largest_variance(segmentation_script, histogram: list[int]) -> None:
    threshold = segmentation_script.masks.otsu(histogram)

    best = max(variance_between(histogram, level) for level in range(len(histogram)))
    assert math.isclose(variance_between(histogram, threshold), best, rel_tol=1e-9)


@pytest.mark.parametrize("histogram", [[0] * 256, [0] * 9 + [5] + [0] * 246])
def test_otsu_takes_pictures_without_contrast(segmentation_script, histogram) -> None:
    assert segmentation_script.masks.otsu(histogram) in range(256)


@settings(max_examples=50)
@given(st.integers(16, 24), st.integers(16, 24), st.integers(0, 2**32))
def test_the_filter_is_a_majority_of_a_box(segmentation_script, width, height, seed) -> None:
    picture = random.Random(seed).randbytes(width * height).replace(b"\0", b"\1")  # see below
    threshold, radius = (
        segmentation_script.masks.threshold_of(picture, picture),
        segmentation_script.masks.RADIUS,
    )

    def vote(x: int, y: int) -> bool:
        inner = radius <= x < width - radius and 0 <= y < height
        return inner and picture[y * width + x] <= threshold

    def majority(x: int, y: int) -> bool:
        reach = range(-radius, radius + 1)
        return 2 * sum(vote(x + i, y + j) for i in reach for j in reach) > len(reach) ** 2

    expected = [255 * majority(x, y) for y in range(height) for x in range(width)]
    assert segmentation_script.masks.segment(picture, width, height) == bytes(expected)


def test_black_around_a_fan_is_not_the_dark_object(segmentation_script) -> None:
    """N9: it is not seen, and has no say in what is dark. Within, black is as dark as it can be."""
    width = height = 40
    bright, dark, outside = 200, 90, 0

    def pixel(x: int, y: int, around: int, inside: int) -> int:
        if abs(x - 20) > 4 + y / 2:
            return around
        return inside if (x - 20) ** 2 + (y - 26) ** 2 < 49 else bright

    def drawn(around: int, inside: int) -> bytes:
        return bytes(pixel(x, y, around, inside) for y in range(height) for x in range(width))

    for inside in (dark, 0):
        found = segmentation_script.masks.segment(drawn(outside, inside), width, height)
        assert found == segmentation_script.masks.segment(drawn(bright, inside), width, height)
        assert 100 < found.count(255) < 200


masks = st.integers(2, 20).flatmap(
    lambda width: st.tuples(
        st.just(width), st.lists(st.sampled_from([0, 255]), min_size=width, max_size=20 * width)
    )
)


@settings(max_examples=50)
@given(masks)
def test_the_bounding_box_is_the_tightest(segmentation_script, drawn) -> None:
    width, pixels = drawn
    mask = bytes(pixels[: len(pixels) // width * width])
    places = [divmod(index, width) for index, value in enumerate(mask) if value]
    ys, xs = [y for y, _ in places], [x for _, x in places]

    box = segmentation_script.masks.bounding_box(mask, width)

    assert box == ([min(xs), min(ys), max(xs) + 1, max(ys) + 1] if places else [0, 0, 0, 0])


def test_the_contour_is_what_has_a_neighbour_outside(segmentation_script) -> None:
    rows = ["........", "..####..", "..####..", "..####..", "........"]
    mask = bytes(255 * (pixel == "#") for pixel in "".join(rows))

    line = segmentation_script.masks.contour(mask, 8).to_bytes(40, "little")

    drawn = "".join("#" if pixel else "." for pixel in line)
    assert [drawn[i : i + 8] for i in range(0, 40, 8)] == [
        "........",
        "..####..",
        "..#..#..",
        "..####..",
        "........",
    ]


shapes = st.tuples(
    st.floats(-5, 45), st.floats(-5, 45), st.floats(1, 30), st.floats(1, 30), st.floats(-4, 4)
)


@settings(max_examples=50)
@given(shapes)
def test_spans_are_the_pixels_inside_the_ellipse(probe_script: SimpleNamespace, numbers) -> None:
    shape, width, height = probe_script.ellipse.Ellipse(*numbers), 40, 30
    covered = {i for a, b in probe_script.ellipse.spans(shape, width, height) for i in range(a, b)}

    for index in range(width * height):
        y, x = divmod(index, width)
        dx, dy = x - shape.cx, y - shape.cy
        along = dx * math.cos(shape.angle) + dy * math.sin(shape.angle)
        across = dy * math.cos(shape.angle) - dx * math.sin(shape.angle)
        distance = (along / shape.rx) ** 2 + (across / shape.ry) ** 2
        if abs(distance - 1) > 1e-6:  # on the very line rounding decides
            assert (index in covered) == (distance < 1)


@settings(max_examples=50)
@given(masks, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=4))
def test_dice_compares_sets_of_pixels(segmentation_script, drawn, steps) -> None:
    mask, truth, at = bytes(drawn[1]), [], 0
    for gap, length in steps:
        start, at = min(len(mask), at + gap), min(len(mask), at + gap + length)
        truth.append((start, at))
    inside = {i for i, value in enumerate(mask) if value}
    true = {i for a, b in truth for i in range(a, b)}

    score = segmentation_script.masks.dice(mask, truth)

    both = len(inside) + len(true)
    assert score == (2 * len(inside & true) / both if both else 1.0)


def test_the_default_stream_is_segmented_well(probe_script, segmentation_script) -> None:
    cycle = probe_script.pictures.Cycle(256, 256, 0)
    scores = []
    for index in range(0, cycle.length, 3):
        mask = segmentation_script.masks.segment(cycle.frame(index)[1], 256, 256)
        truth = segmentation_script.ellipse.spans(cycle.shape(index), 256, 256)
        scores.append(segmentation_script.masks.dice(mask, truth))

    assert sum(scores) / len(scores) > 0.98
    assert min(scores) > 0.95


class Pieces:
    """A socket that receives what it was given, in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags == socket.MSG_PEEK:
            return self.pieces[0][:size]
        data, self.pieces[0] = self.pieces[0][:size], self.pieces[0][size:]
        self.pieces = [piece for piece in self.pieces if piece]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


STREAM = (
    b"".join(frame(seq) + PICTURE for seq in range(5))
    + b"".join(
        b'{"type":"frame","seq":%d,"pts":0.5,"parts":[{"name":"image","bytes":256}],"x":{}}\n' % seq
        + PICTURE
        for seq in range(5)
    )
    + b'{"type":"end","frames":10,"dropped":3}\n'
)


def read_all(script: SimpleNamespace, sock: Pieces) -> list[bytes]:
    source: Any = script.source.Source(sock)
    found = []
    while not source.ended:
        found += [bytes(source.view[f.start : f.stop]) for f in source.read()]
    assert source.dropped == 3
    return found


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_chunking_gives_the_same_frames(streaming_script: SimpleNamespace, cuts) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]

    found = read_all(streaming_script, Pieces(hello(), *pieces))

    assert b"".join(found) == STREAM[: STREAM.rindex(b'{"type"')]
    assert len(found) == 10


def test_a_frame_larger_than_the_block_is_read_whole(streaming_script, monkeypatch) -> None:
    monkeypatch.setattr(streaming_script.source, "BLOCK", 64)

    found = read_all(streaming_script, Pieces(hello(), STREAM))

    assert len(found) == 10
