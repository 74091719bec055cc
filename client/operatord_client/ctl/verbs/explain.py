# SPDX-License-Identifier: MIT
"""--explain: how long each step of a start took, with bars, and what would make it shorter.

The steps follow one another and add up to ``total``. What has a dot in its name is part of a step, and
parts may run side by side. The daemon writes down each step when it is over, so what comes after
``total`` was done later, for a session that ran already: a stage that was attached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from operatord_client.ctl import render
from operatord_client.ctl.render import TOTAL

BAR_WIDTH = 40
"""Columns for all of the time that the requester waited, as far as it is known."""
STEP_MARK, PART_MARK = "#", "-"
NOTABLE = 0.1
"""Milliseconds below the daemon's own rounding."""

SO_FAR = "so far"
"""Instead of a total, for a start that has not come to its end."""
BETWEEN = "between steps"
QUEUE = "queue, journal"
"""From the request to the first step, and what is written down before and after: in no step's time."""
ON_THE_WAY = "on the way"
"""What the client waited longer than the daemon took: both ways, and for a busy daemon."""
WAITED = "waited"

SLOWEST = {
    QUEUE: "most of it was spent waiting in the queue: operatorctl status says what is scarce",
    "probe": "most of it was spent waiting for the registered probe to answer",
    "turn": "most of it was spent waiting for other sessions to be made",
    ON_THE_WAY: "most of it was spent between client and daemon, not on the start",
}
"""What to say when one row takes more than half of the time, and long enough to matter."""
LONG = 250.0
"""Milliseconds. A commit of the journal is never that long, so a longer ``queue, journal`` was the queue."""


class Row(NamedTuple):
    """A line of the table."""

    name: str
    ms: float
    mark: str = ""
    """What its bar is made of; without one it has no bar."""


def explanation(info: Mapping[str, Any], waited: float | None = None) -> str:
    """Return a table of a session's start, and a word on it.

    ``waited`` is how long the client waited for its answer, in milliseconds; None if nobody measured that.
    """
    timings: Mapping[str, float] = info.get("timings", {})
    if not timings:
        return "there is no step of its start to show"
    first, later = render.start_and_later(timings)
    rows = list(_steps(first))
    rows += _sum(timings, rows)
    total = rows[-1].ms
    joined = waited is not None and waited < total
    if not joined:
        rows += _around(info, total, waited)
    verdict = _verdict(info, rows)
    rows += [Row(f"later: {name}", ms) for name, ms in later.items()]
    if joined:
        verdict += f"\nthe answer came after {waited:.1f} ms: an earlier request had started it"
    return f"{_table(rows)}\n\n{verdict}"


# --- rows ------------------------------------------------------------------------------------------


def _step_of(name: str, timings: Mapping[str, float]) -> str:
    """Return the step that ``name`` is a part of, or itself."""
    step = name.partition(".")[0]
    return step if step in timings else name


def _steps(timings: Mapping[str, float]) -> Iterator[Row]:
    """Yield each step, its parts below it."""
    for step in timings:
        if _step_of(step, timings) != step:
            continue
        yield Row(step, timings[step], STEP_MARK)
        for name, ms in timings.items():
            if name != step and _step_of(name, timings) == step:
                yield Row(f"  {name.removeprefix(f'{step}.')}", ms, PART_MARK)


def _sum(timings: Mapping[str, float], rows: list[Row]) -> Iterator[Row]:
    """Yield the total, after what of it is in no step; for a start that is not over, the sum."""
    done = _charted(rows)
    if TOTAL not in timings:
        yield Row(SO_FAR, done)
        return
    if timings[TOTAL] - done > NOTABLE * len(rows):
        yield Row(BETWEEN, timings[TOTAL] - done, STEP_MARK)
    yield Row(TOTAL, timings[TOTAL])


def _charted(rows: list[Row]) -> float:
    """Return how long everything took that is counted once."""
    return sum(row.ms for row in rows if row.mark == STEP_MARK)


def _around(info: Mapping[str, Any], total: float, waited: float | None) -> list[Row]:
    """Return what a requester waited for besides the start, as far as it can be told."""
    rows = []
    inside = _since_request(info)
    if inside is not None:
        rows.append(Row(QUEUE, max(0.0, inside - total), STEP_MARK))
    if waited is not None:
        known = max(total, inside or 0.0)
        rows += [Row(ON_THE_WAY, max(0.0, waited - known), STEP_MARK), Row(WAITED, waited)]
    return rows


def _since_request(info: Mapping[str, Any]) -> float | None:
    """Return the milliseconds from the request to the proven location, by the daemon's clock."""
    if "started" not in info:
        return None
    created, started = (datetime.fromisoformat(info[name]) for name in ("created", "started"))
    return (started - created).total_seconds() * 1000


# --- text ------------------------------------------------------------------------------------------


def _table(rows: list[Row]) -> str:
    """Return names, milliseconds to the right, and bars to one scale."""
    scale = max(_charted(rows), NOTABLE)
    numbers = [f"{row.ms:.1f}" for row in rows]
    width = max(map(len, numbers))
    cells = (
        (row.name, number.rjust(width), row.mark * round(BAR_WIDTH * row.ms / scale))
        for row, number in zip(rows, numbers, strict=True)
    )
    return render.table(("STEP", "MS".rjust(width), ""), cells)


def _verdict(info: Mapping[str, Any], rows: list[Row]) -> str:
    """Return whether it was warm, and what took longest or, if that is nothing special, would help."""
    slowest = _slowest(rows)
    if info.get("warm"):
        return f"warm: {slowest or 'it was prepared, and only needed its settings'}"
    setting = f"pipelines.{info.get('pipeline', 'NAME')}.warm"
    advice = f"no warm slot was ready for it; {setting} prepares some"
    return f"cold: {slowest or advice}"


def _slowest(rows: list[Row]) -> str:
    """Return the advice for the row that takes more than half of the time, if there is any."""
    least = max(_charted(rows) / 2, LONG)
    return next((SLOWEST[row.name] for row in rows if row.name in SLOWEST and row.ms > least), "")
