# SPDX-License-Identifier: MIT
"""Pictures of red, green and blue as Y, Cb and Cr, which players are sent (`C444` of YUV4MPEG2).

ITU-R BT.601 in its limited range: Y from 16 to 235, Cb and Cr from 16 to 240, grey at 128. As the standard
library has no arrays that calculate, a channel of many pixels is one big integer with two bytes for each
pixel, its lanes: a product and a sum of such integers, in C, are those of all pixels at once.
"""

from __future__ import annotations

from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    Buffer = bytes | memoryview

BAND = 64 * 1024
"""Pixels that are treated at once, an even number: their integers stay in the processor's cache."""
WEIGHTS = ((66, 129, 25, 16), (-38, -74, 112, 128), (112, -94, -18, 128))
"""Of Y, Cb and Cr: the weights of red, green and blue in 256ths, and what is added."""


def planes(rgb: Buffer) -> bytes:
    """Return all Y of a picture, then all Cb, then all Cr, given a byte of red, green and blue a pixel."""
    bands = (_band(bytes(rgb[start : start + 3 * BAND])) for start in range(0, len(rgb), 3 * BAND))
    return b"".join(piece for plane in zip(*bands, strict=True) for piece in plane)


def _band(rgb: bytes) -> list[bytes]:
    """Return Y, Cb and Cr of some pixels; every other one is of the even lanes, the rest of the odd."""
    size = len(rgb) // 3
    low, ones = _lanes((size + 1) // 2)
    channels = [int.from_bytes(rgb[channel::3], "little") for channel in range(3)]
    even, odd = [lanes & low for lanes in channels], [lanes >> 8 & low for lanes in channels]
    found = []
    for *weights, offset in WEIGHTS:
        begin = ones * (256 * offset + 128)  # half a 256th of a level, so that it is rounded
        both = _weighed(begin, weights, even) >> 8 & low | _weighed(begin, weights, odd) & low << 8
        found.append(both.to_bytes(size + size % 2, "little")[:size])
    return found


def _weighed(begin: int, weights: list[int], lanes: list[int]) -> int:
    """Return the weighed sum for each lane; none is below 0 or beyond its two bytes, whatever the colour."""
    return sum((weight * lane for weight, lane in zip(weights, lanes, strict=True)), begin)


@lru_cache(maxsize=4)
def _lanes(count: int) -> tuple[int, int]:
    """Return so many lanes with their lower byte full, and with a 1."""
    return tuple(int.from_bytes(lane * count, "little") for lane in (b"\xff\x00", b"\x01\x00"))  # type: ignore[return-value]
