# SPDX-License-Identifier: MIT
"""Draw a mask's outline into a picture, for players, which show no masks."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from operatord_stage.source import Buffer


def outlined(parts: Mapping[str, Buffer], hello: dict[str, Any]) -> Buffer:
    """Return a frame's image, with the outline of its mask in white if it has one.

    A picture is one big integer with a byte for each pixel, so that a shift in C moves all of it.
    """
    image, mask = parts["image"], parts.get("mask")
    if mask is None:
        return image
    pixels = len(mask)
    lanes, right, below = int.from_bytes(mask, "little"), 8, 8 * hello["width"]
    inside = lanes & (lanes << right) & (lanes >> right) & (lanes << below) & (lanes >> below)
    line = (lanes ^ inside).to_bytes(pixels, "little")
    each = len(image) // pixels  # bytes
    if each > 1:
        wide = bytearray(len(image))
        for byte in range(each):
            wide[byte::each] = line
        line = bytes(wide)
    drawn = int.from_bytes(image, "little") | int.from_bytes(line, "little")
    return drawn.to_bytes(len(image), "little")
