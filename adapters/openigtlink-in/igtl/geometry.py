# SPDX-License-Identifier: MIT
"""Where a picture lies: OpenIGTLink's matrix, and DICOM's words for the same in a stream's hello.

OpenIGTLink has the steps from pixel to pixel as vectors in mm, and the middle of the image. DICOM (and
the stream format) has the distances of pixels, the directions of rows and columns, and the middle of the
first pixel, in coordinates that grow to the left, the back and the head (LPS).
"""

from __future__ import annotations

import math

from igtl.messages import LPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Vector = tuple[float, float, float]

THICKNESS = 1.0
"""Millimetres of the slice that a picture is: the stream format does not have it."""
LEAST, MOST = 1e-6, 1e6
"""Millimetres: a smaller distance of pixels is none, and nothing lies further away."""
DIGITS = 6
"""Decimals that are kept: single precision has no more."""


def from_matrix(
    matrix: Sequence[float], size: tuple[int, int], coordinates: int
) -> dict[str, list[float]]:
    """Return the members of a hello for an image's matrix; none if it does not tell.

    `size` is columns and rows, `coordinates` RAS or LPS.
    """
    across, down, _, middle = (_flipped(matrix[at : at + 3], coordinates) for at in (0, 3, 6, 9))
    spacing = math.hypot(*across), math.hypot(*down)
    if not (all(map(math.isfinite, matrix)) and LEAST <= min(spacing) <= max(spacing) <= MOST):
        return {}
    directions = [step / spacing[0] for step in across] + [step / spacing[1] for step in down]
    origin = _moved(middle, across, down, size, -1)
    if max(map(abs, origin)) > MOST:
        return {}
    found = {"spacing": spacing, "orientation": directions, "origin": origin}
    return {
        name: [round(value, DIGITS) + 0.0 for value in values] for name, values in found.items()
    }


def to_matrix(said: Mapping[str, Any], size: tuple[int, int], coordinates: int) -> list[float]:
    """Return the matrix for the members of a hello; what they leave out lies at 0, straight, in mm."""
    spacing = said.get("spacing", (1.0, 1.0))
    rows = said.get("orientation", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    across, down = (
        (rows[at] * space, rows[at + 1] * space, rows[at + 2] * space)
        for at, space in ((0, spacing[0]), (3, spacing[1]))
    )
    normal = _normal(rows[:3], rows[3:])
    middle = _moved(said.get("origin", (0.0, 0.0, 0.0)), across, down, size, +1)
    vectors = (_flipped(each, coordinates) for each in (across, down, normal, middle))
    return [value for vector in vectors for value in vector]


def _flipped(vector: Sequence[float], coordinates: int) -> Vector:
    """Turn a vector in these coordinates into LPS, or back."""
    x, y, z = vector
    return (x, y, z) if coordinates == LPS else (-x, -y, z)


def _moved(
    point: Sequence[float], across: Vector, down: Vector, size: tuple[int, int], sign: int
) -> Vector:
    """Return a point moved by half the image: from the first pixel to the middle (+1), or back (-1)."""
    columns, rows = ((side - 1) / 2 * sign for side in size)
    x, y, z = (
        at + step * columns + other * rows
        for at, step, other in zip(point, across, down, strict=True)
    )
    return x, y, z


def _normal(row: Sequence[float], column: Sequence[float]) -> Vector:
    """Return the step from slice to slice, upright on both directions."""
    (a, b, c), (d, e, f) = row, column
    return (
        (b * f - c * e) * THICKNESS,
        (c * d - a * f) * THICKNESS,
        (a * e - b * d) * THICKNESS,
    )
