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


def drawn(image: memoryview, mask: memoryview | None, width: int) -> bytes | memoryview:
    """Return a picture with the outline of its mask in white; without a mask, the picture as it is.

    Both are rows of ``width`` bytes, of the same length.
    """
    if mask is None:
        return image
    rows = max(1, BAND // width) * width
    return b"".join(
        _band(image, mask, width, start, min(start + rows, len(image)))
        for start in range(0, len(image), rows)
    )


def _band(image: memoryview, mask: memoryview, width: int, start: int, stop: int) -> bytes:
    """Return the rows [start:stop] of the picture, drawn; their outline needs a row more on each side."""
    above = min(start, width)
    known = mask[start - above : min(stop + width, len(mask))]
    lanes = int.from_bytes(bytes(known).translate(_OBJECT), "little")
    beside, below = 8, 8 * width
    inside = lanes & lanes << beside & lanes >> beside & lanes << below & lanes >> below
    outline = (lanes ^ inside) >> 8 * above
    size = stop - start
    picture = int.from_bytes(image[start:stop], "little")
    return (picture | outline & (1 << 8 * size) - 1).to_bytes(size, "little")
