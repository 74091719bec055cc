# SPDX-License-Identifier: MIT
"""Draws the outline of a mask into a picture, as the segmentation stage does it for players.

A pixel of the mask is on its outline if one of its four neighbours is not in the mask; rows are taken to
follow one another, as they do in memory. Bytes are treated as one big integer, so that a whole band of rows
is worked on by a few operations in C; in bands, so that a large picture holds up nobody for long.
"""

from __future__ import annotations

BAND = 128 * 1024
"""Bytes that are worked on at once: about half a millisecond."""

_OBJECT = bytes(1) + b"\xff" * 255
"""Whatever is not 0 in a mask is of the object."""


def drawn(
    image: memoryview, mask: memoryview | None, width: int, depth: int = 1
) -> bytes | memoryview:
    """Return a picture with the outline of its mask in white; without a mask, the picture as it is.

    The picture has ``depth`` bytes for each pixel, all of which are 255 where it is white; the mask has one.
    Both have rows of ``width`` pixels.
    """
    if mask is None:
        return image
    rows = max(1, BAND // (width * depth)) * width
    return b"".join(
        _whitened(
            image[start * depth : (start + rows) * depth], _outline(mask, width, start, rows), depth
        )
        for start in range(0, len(mask), rows)
    )


def _outline(mask: memoryview, width: int, start: int, size: int) -> bytes:
    """Return 255 for the pixels of [start:start + size] that are on the outline, else 0.

    To know that takes a row more on each side.
    """
    above, stop = min(start, width), min(start + size, len(mask))
    known = mask[start - above : min(stop + width, len(mask))]
    lanes = int.from_bytes(bytes(known).translate(_OBJECT), "little")
    beside, below = 8, 8 * width
    inside = lanes & lanes << beside & lanes >> beside & lanes << below & lanes >> below
    outline = (lanes ^ inside) >> 8 * above & (1 << 8 * (stop - start)) - 1
    return outline.to_bytes(stop - start, "little")


def _whitened(image: memoryview, where: bytes, depth: int) -> bytes:
    """Return a picture that is white where there is 255, and elsewhere as it was."""
    wide = bytearray(len(image))
    for place in range(depth):
        wide[place::depth] = where
    white = int.from_bytes(image, "little") | int.from_bytes(wide, "little")
    return white.to_bytes(len(image), "little")
