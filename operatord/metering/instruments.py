# SPDX-License-Identifier: MIT
"""Sums that only grow, and distributions. Adding to one takes about a microsecond, however often it was done.

Labels have few values, known beforehand, such as pipelines, steps and outcomes: each combination is kept for
as long as the daemon lives. So never an id, an address, a name that a requester chooses, or a text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

Values = tuple[str, ...]
"""The values of the labels, in their order."""


class Counter:
    """A sum for each combination of label values; one without labels begins at 0."""

    __slots__ = ("labels", "sums")

    def __init__(self, *labels: str) -> None:
        """``labels`` are their names."""
        self.labels = labels
        self.sums: dict[Values, float] = {} if labels else {(): 0.0}

    def begin(self, *values: str) -> None:
        """Have a sum of 0 for these label values, unless there is one: a server that collects sums sees the
        first addition only if it has seen what was there before.
        """
        self.sums.setdefault(values, 0)

    def add(self, *values: str, by: float = 1) -> None:
        """Add ``by`` to the sum of these label values."""
        self.sums[values] = self.sums.get(values, 0) + by


class Distribution:
    """How many observations were at most as large as each bound, how many there were, and their sum."""

    __slots__ = ("_counts", "bounds", "labels")

    def __init__(self, bounds: tuple[float, ...], *labels: str) -> None:
        """``bounds`` rise."""
        self.bounds = bounds
        self.labels = labels
        self._counts: dict[Values, tuple[list[int], list[float]]] = {}
        """For each combination of values: observations by bound and beyond all, and what they add up to."""

    def begin(self, *values: str) -> None:
        """Have no observation of these label values, and say so; see `Counter.begin`."""
        self._counts.setdefault(values, ([0] * (len(self.bounds) + 1), [0.0]))

    def observe(self, amount: float, *values: str) -> None:
        """Count one observation."""
        if values not in self._counts:
            self.begin(*values)
        counts, total = self._counts[values]
        counts[bisect_left(self.bounds, amount)] += 1
        total[0] += amount

    def read(self) -> Iterator[tuple[Values, list[int], float]]:
        """Yield label values, the observations up to each bound and at last all of them, and their sum."""
        for values, (counts, total) in self._counts.items():
            yield values, list(accumulate(counts)), total[0]
