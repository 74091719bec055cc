# SPDX-License-Identifier: MIT
"""What was measured, as data, as JSON and as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: a value that was measured, never one in between."""
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


@dataclass
class Table:
    """The measurements of several competitors, all against one of them.

    ``samples`` are in ``unit``. With ``paired`` the values of a round belong together (the rounds
    alternated), and the ratio is the median of the rounds' ratios, which load on the machine moves
    least; otherwise it is the ratio of the medians.
    """

    name: str
    title: str
    unit: str
    reference: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    more_is_better: bool = False
    paired: bool = True

    def add(self, competitor: str, *values: float) -> None:
        """Note what was measured."""
        self.samples.setdefault(competitor, []).extend(values)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, single values included, for the JSON file."""
        rows = {name: self._row(name) | {"samples": v} for name, v in self.samples.items()}
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "reference": self.reference,
            "rows": rows,
            "notes": self.notes,
        }

    def _row(self, name: str) -> dict[str, Any]:
        values = self.samples[name]
        base = self.samples.get(self.reference, [])
        return {
            "n": len(values),
            "median": statistics.median(values),
            "p99": percentile(values, 1 if self.more_is_better else 99),
            "worst": min(values) if self.more_is_better else max(values),
            "ratio": self._ratio(values, base),
            "ratio_p99": self._tail_ratio(values, base),
        }

    def _ratio(self, values: list[float], base: list[float]) -> float | None:
        if not base:
            return None
        if self.paired and len(values) == len(base):
            return statistics.median(a / b for a, b in zip(values, base, strict=True))
        return statistics.median(values) / statistics.median(base)

    def _tail_ratio(self, values: list[float], base: list[float]) -> float | None:
        if not base:
            return None
        percent = 1 if self.more_is_better else 99
        return percentile(values, percent) / percentile(base, percent)

    def lines(self) -> Iterator[str]:
        """Yield the table for people."""
        direction = "more" if self.more_is_better else "less"
        yield f"{self.title}  [{self.unit}, {direction} is better]"
        width = max(map(len, self.samples), default=0)
        # Of a dozen values, the 99th percentile is the worst of them, and is called so.
        tail = "p99" if max(map(len, self.samples.values()), default=0) >= 100 else "worst"
        yield f"  {'':{width}}  {'n':>5} {'median':>9} {tail:>9} {'× median':>9} {f'× {tail}':>9}"
        for name in self.samples:
            row = self._row(name)
            cells = [f"{row['n']:5}", _number(row["median"]), _number(row["p99"])]
            cells += [_times(row["ratio"]), _times(row["ratio_p99"])]
            yield f"  {name:{width}}  {' '.join(cells)}"
        yield f"  × is against {self.reference!r}"
        yield from (f"  {note}" for note in self.notes)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:9,.0f}"
    return f"{value:9.1f}" if value >= 10 else f"{value:9.2f}"


def _times(value: float | None) -> str:
    return f"{'–' if value is None else f'{value:.2f}':>9}"
