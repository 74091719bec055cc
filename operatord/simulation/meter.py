# SPDX-License-Identifier: MIT
"""Areas under curves that change in steps: what was used, for how long.

The area up to a moment T under a curve that stands at u is u·T minus the sum of each step times its moment.
So a step costs one multiplication, whoever wants to know the area only has to ask, and nothing is remembered.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence

from operatord.core.resources import UNLIMITED, Vector

MARKS = 1024
"""Most intervals of a timeline; when there are more, two become one."""


def bounded(capacity: Vector) -> tuple[int, ...]:
    """Return the dimensions that can be scarce, as places in a vector."""
    return tuple(i for i, amount in enumerate(capacity) if 0 < amount < UNLIMITED)


class Area:
    """The areas under the curves of a vector's dimensions."""

    __slots__ = ("_indices", "_steps", "used")

    def __init__(self, indices: tuple[int, ...]) -> None:
        self._indices = indices
        self.used = [0] * len(Vector())
        self._steps = [0.0] * len(Vector())

    def step(self, need: Vector, sign: int, now: float) -> None:
        """Add ``sign`` times ``need`` at the moment ``now``."""
        used, steps = self.used, self._steps
        for i in self._indices:
            amount = sign * need[i]
            used[i] += amount
            steps[i] += amount * now

    def until(self, moment: float) -> list[float]:
        """Return the areas from 0 to ``moment``, which is not before the last step."""
        return [u * moment - s for u, s in zip(self.used, self._steps, strict=True)]


class Line:
    """The area under the length of the queue."""

    __slots__ = ("_steps", "length", "longest")

    def __init__(self) -> None:
        self.length = self.longest = 0
        self._steps = 0.0

    def step(self, sign: int, now: float) -> None:
        """Count one that comes (1) or goes (-1)."""
        self.length += sign
        self.longest = max(self.longest, self.length)
        self._steps += sign * now

    def until(self, moment: float) -> float:
        """Return the area from 0 to ``moment``."""
        return self.length * moment - self._steps


class Timeline:
    """Means of several curves over equal intervals of time.

    However long it goes on, there are at most `MARKS` intervals: as soon as there are more, they become
    twice as wide. It is given areas from 0 at each interval's end.
    """

    def __init__(self, curves: int, width: float = 1.0) -> None:
        """``width`` in seconds."""
        self.width = width
        self._areas = [array("d", [0.0]) for _ in range(curves)]

    @property
    def next_mark(self) -> float:
        """The moment at which the areas are wanted next."""
        return len(self._areas[0]) * self.width

    def mark(self, areas: Sequence[float]) -> None:
        """Note the areas up to `next_mark`."""
        for kept, area in zip(self._areas, areas, strict=True):
            kept.append(area)
        if len(self._areas[0]) > MARKS:
            self.width *= 2
            self._areas = [kept[::2] for kept in self._areas]

    def means(self, curve: int) -> list[float]:
        """Return the mean of a curve in each interval."""
        areas = self._areas[curve]
        return [(b - a) / self.width for a, b in itertools.pairwise(areas)]
