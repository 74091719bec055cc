# SPDX-License-Identifier: MIT
"""What a machine has and sessions take, as vectors of whole numbers.

Whole numbers, because what is taken and given back a million times must come back to exactly zero:
processor time is counted in thousandths of a core, memory in bytes, the rest in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

Dimension = Literal["cpus", "memory", "gpus", "sessions", "subnets", "ports"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

UNLIMITED = 2**62
"""The capacity of a dimension that nothing bounds, such as ports that the engine chooses."""
MILLI = 1000


class Vector(NamedTuple):
    """An amount in every dimension."""

    cpus: int = 0
    """Thousandths of a core."""
    memory: int = 0
    """Bytes."""
    gpus: int = 0
    sessions: int = 0
    subnets: int = 0
    ports: int = 0


NOTHING = Vector()


def plus(a: Vector, b: Vector) -> Vector:
    """Return ``a + b``."""
    return Vector(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5])


def minus(a: Vector, b: Vector) -> Vector:
    """Return ``a − b``; members may become negative."""
    return Vector(a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4], a[5] - b[5])


def least(a: Vector, b: Vector) -> Vector:
    """Return the smaller of ``a`` and ``b`` in each dimension."""
    return Vector(*map(min, a, b))


def most(a: Vector, b: Vector) -> Vector:
    """Return the larger of ``a`` and ``b`` in each dimension."""
    return Vector(*map(max, a, b))


def total(vectors: Iterable[Vector]) -> Vector:
    """Return the sum."""
    return Vector(*map(sum, zip(NOTHING, *vectors, strict=True)))


def fits(need: Vector, free: Vector) -> bool:
    """Tell whether ``need`` fits into ``free``. A dimension of which nothing is needed may be overdrawn."""
    return (
        (need[0] <= free[0] or not need[0])
        and (need[1] <= free[1] or not need[1])
        and (need[3] <= free[3] or not need[3])
        and (need[2] <= free[2] or not need[2])
        and (need[4] <= free[4] or not need[4])
        and (need[5] <= free[5] or not need[5])
    )


def lacking(need: Vector, free: Vector) -> list[Dimension]:
    """Return the dimensions in which ``need`` does not fit, the worst first.

    The worst is the one where the largest part of the need is missing.
    """
    missing = [
        ((n - max(f, 0)) / n, name)
        for name, n, f in zip(DIMENSIONS, need, free, strict=True)
        if n > 0 and n > f
    ]
    return [name for _, name in sorted(missing, key=lambda item: -item[0])]


def dominant_share(used: Vector, capacity: Vector) -> float:
    """Return the largest part of any dimension that ``used`` is of ``capacity``.

    From Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011).
    """
    return max(
        [u / c for u, c in zip(used, capacity, strict=True) if u > 0 and 0 < c < UNLIMITED],
        default=0.0,
    )


def shown(dimension: Dimension, amount: int) -> float:
    """Return ``amount`` in the unit that people use: cores instead of thousandths."""
    return amount / MILLI if dimension == "cpus" else amount
