# SPDX-License-Identifier: MIT
"""The dark object in the pictures: the probe draws it, and segmentation is measured against it."""

from __future__ import annotations

import math
from collections import namedtuple


class Ellipse(namedtuple("Ellipse", "cx cy rx ry angle")):
    """The dark object: centre and half axes in pixels, angle in radians (y grows downwards)."""

    __slots__ = ()


def spans(shape: Ellipse, width: int, height: int) -> list[tuple[int, int]]:
    """Return (start, stop) offsets into a row-major picture, one per row that the ellipse meets.

    With d = pixel - centre the ellipse is a·dx² + b·dx·dy + c·dy² ≤ 1; each row solves it for dx.
    """
    cos, sin = math.cos(shape.angle), math.sin(shape.angle)
    x2, y2 = shape.rx**-2, shape.ry**-2
    a = cos * cos * x2 + sin * sin * y2
    b = 2 * cos * sin * (x2 - y2)
    c = sin * sin * x2 + cos * cos * y2
    found = []
    for y in range(height):
        dy = y - shape.cy
        root = b * b * dy * dy - 4 * a * (c * dy * dy - 1)
        if root < 0:
            continue
        middle, half = shape.cx - b * dy / (2 * a), math.sqrt(root) / (2 * a)
        start, stop = max(0, math.ceil(middle - half)), min(width, math.floor(middle + half) + 1)
        if start < stop:
            found.append((y * width + start, y * width + stop))
    return found
