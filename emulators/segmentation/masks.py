# SPDX-License-Identifier: MIT
"""Find the dark object in a picture, and measure what was found.

Pictures and masks are rows of bytes, width x height, without a gap. As the standard library has no
arrays that calculate, a picture is treated as one big integer with a byte for each pixel, its lanes.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache, reduce
from operator import or_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 4096
"""Pixels, about, from which the threshold is found."""
IS_BLACK = b"\1" + bytes(255)
RADIUS = 3
"""Pixels from the middle of the majority filter's box to its side: 7 x 7, whose votes a byte must hold."""


def otsu(histogram: Sequence[int]) -> int:
    """Return the level up to which a pixel is dark.

    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979):
    the level that maximizes the variance between the two classes, here the lowest such level.
    Integers keep the comparison exact up to one division.
    """
    total = sum(histogram)
    moment = sum(level * count for level, count in enumerate(histogram))
    best, threshold, dark, dark_moment = -1.0, 0, 0, 0
    for level, count in enumerate(histogram):
        dark += count
        dark_moment += level * count
        if 0 < dark < total:
            variance = (moment * dark - dark_moment * total) ** 2 / (dark * (total - dark))
            if variance > best:
                best, threshold = variance, level
    return threshold


def seen(picture: bytes, width: int) -> bytes:
    """Return a picture with white where black reaches one of its sides, along a row or a column.

    The fan that an ultrasound scanner sees has black around it. What is dark within is not that black.
    """
    edges = (picture[::width], picture[width - 1 :: width], picture[:width], picture[-width:])
    if not any(edge.count(0) for edge in edges):
        return picture
    white = outside(picture.translate(IS_BLACK), width)
    return (int.from_bytes(picture, "little") | white).to_bytes(len(picture), "little")


@lru_cache(maxsize=2)  # a fan stays where it is
def outside(black: bytes, width: int) -> int:
    """Return white, as lanes, where the ones of ``black`` reach a side."""
    found = bytearray(len(black))
    rows = [slice(start, start + width) for start in range(0, len(black), width)]
    for place in (*rows, *(slice(start, len(black), width) for start in range(width))):
        line = black[place]
        inner = line.lstrip(b"\1")
        if len(inner) < len(line) or line[-1]:
            before, behind = len(line) - len(inner), len(inner) - len(inner.rstrip(b"\1"))
            there = found[place]
            there[:before] = b"\xff" * before
            there[len(line) - behind :] = b"\xff" * behind
            found[place] = there
    return int.from_bytes(found, "little")


def threshold_of(picture: bytes, fan: bytes) -> int:
    """Return Otsu's threshold of an evenly spread sample of what is `seen` in a picture."""
    stride = len(picture) // SAMPLES | 1  # odd, so as not to fall into step with the columns
    counts = Counter(fan[::stride])
    counts[255] = picture[::stride].count(255)  # without what was made white
    return otsu([counts[level] for level in range(256)])


@lru_cache(maxsize=RADIUS + 1)
def majority(radius: int) -> bytes:
    """Return the mask's byte for each number of votes in a box."""
    box = (2 * radius + 1) ** 2
    return bytes(255 if votes > box // 2 else 0 for votes in range(256))


def box_sums(votes: int, radius: int, step: int) -> int:
    """Return for each lane the sum of 2·radius+1 lanes that end at it, step lanes apart.

    Lanes are bytes of one big integer, so that a shift and an addition in C treat the whole
    picture at once. Sums of 2, 4, 8 … lanes are doubled up and joined as the binary digits of
    the box's side say.
    """
    side, width = 2 * radius + 1, 1
    total, covered = 0, 0
    while side:
        if side & 1:
            total += votes << (8 * step * covered)
            covered += width
        side >>= 1
        if side:
            votes += votes << (8 * step * width)
            width *= 2
    return total


@lru_cache(maxsize=4)
def inner_columns(width: int, height: int, radius: int) -> int:
    """Return ones in the lanes of all pixels but the outermost columns', radius on each side."""
    row = bytes(radius) + b"\x01" * (width - 2 * radius) + bytes(radius)
    return int.from_bytes(row * height, "little")


def segment(picture: bytes, width: int, height: int) -> bytes:
    """Return the mask, 255 where most of the box around a pixel is dark, else 0.

    What lies outside the picture counts as bright, and so do its outermost columns, as many as the
    box reaches to the side: their votes would otherwise spill over into the neighbouring row. In a
    picture that is hardly larger than the box, the box is smaller.
    """
    radius = min(RADIUS, (min(width, height) - 1) // 2)
    fan = seen(picture, width)
    threshold = threshold_of(picture, fan)
    table = b"\x01" * (threshold + 1) + bytes(255 - threshold)
    votes = int.from_bytes(fan.translate(table), "little") & inner_columns(width, height, radius)
    sums = box_sums(box_sums(votes, radius, 1), radius, width) >> (8 * radius * (width + 1))
    size = width * height
    return (sums & ((1 << 8 * size) - 1)).to_bytes(size, "little").translate(majority(radius))


def bounding_box(mask: bytes, width: int) -> list[int]:
    """Return [x0, y0, x1, y1], the last two exclusive; all 0 for an empty mask."""
    first = mask.find(b"\xff")
    if first < 0:
        return [0, 0, 0, 0]
    y0, y1 = first // width, mask.rfind(b"\xff") // width + 1
    rows = [int.from_bytes(mask[y * width : (y + 1) * width], "little") for y in range(y0, y1)]
    columns = reduce(or_, rows).to_bytes(width, "little")
    return [columns.find(b"\xff"), y0, columns.rfind(b"\xff") + 1, y1]


def contour(mask: bytes, width: int) -> int:
    """Return, as lanes, the mask's pixels that have a neighbour outside it."""
    lanes = int.from_bytes(mask, "little")
    right, below = 8, 8 * width
    inside = lanes & (lanes << right) & (lanes >> right) & (lanes << below) & (lanes >> below)
    return lanes ^ inside


def dice(mask: bytes, truth: list[tuple[int, int]]) -> float:
    """Return 2·|A∩B| / (|A|+|B|) of a mask and the truth's spans (L. R. Dice, 1945)."""
    both = sum(mask.count(255, start, stop) for start, stop in truth)
    either = mask.count(255) + sum(stop - start for start, stop in truth)
    return 2 * both / either if either else 1.0
