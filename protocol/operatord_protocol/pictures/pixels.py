# SPDX-License-Identifier: MIT
"""The formats of pixels that are known: how many bytes each has, and what players and numpy call them."""

from __future__ import annotations

from typing import NamedTuple


class Pixels(NamedTuple):
    """A format of pixels, which lie row by row, from top to bottom, without a gap."""

    bytes: int
    """Of each pixel."""
    colours: str
    """What YUV4MPEG2 calls them, be they sent as they are or as Y, Cb and Cr (yuv4mpeg(5))."""
    dtype: str
    """What numpy calls a value."""
    values: int = 1
    """Of each pixel."""


PIXELS = {
    "gray8": Pixels(1, "mono", "u1"),
    "gray16le": Pixels(2, "mono16", "<u2"),
    "rgb24": Pixels(3, "444", "u1", values=3),
}
"""By the names that a hello gives them."""
NAMES = "gray8, gray16le and rgb24"
"""For sentences."""


def picture_bytes(format: str, width: int, height: int) -> int | None:
    """Return the bytes of a picture; None for a format that is not known here."""
    pixels = PIXELS.get(format)
    return None if pixels is None else pixels.bytes * width * height
