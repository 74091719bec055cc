# SPDX-License-Identifier: MIT
"""A picture of a simulation: how full the scarcest dimension was and how many waited, over virtual time.

Written by hand as SVG, since two panels of lines do not need a library.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from operatord.core.resources import DIMENSIONS

from .meter import bounded
from .report import PolicyReport
from .run import Outcome

WIDTH, HEIGHT = 880, 544
LEFT, RIGHT, GAP = 78, 24, 44
PANEL = 180
"""Height of each panel; all of it in pixels."""
TOP = 64
COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""Told apart by colour-blind people too: Okabe and Ito, "Color Universal Design" (2008)."""
INK, GRID = "#333", "#ddd"
POINTS = 220
"""About how many intervals a line has at most."""
_STYLE = f"text{{font:12px system-ui,sans-serif;fill:{INK}}} .h{{font-size:15px;font-weight:600}}"


class Curve(NamedTuple):
    """Means over equal intervals of time."""

    label: str
    width: float
    """Seconds of an interval."""
    values: list[float]


class Panel(NamedTuple):
    """One of the two coordinate systems."""

    title: str
    top: float
    highest: float
    """Value at its upper edge."""
    percent: bool
    curves: list[Curve]


def draw(outcomes: Sequence[Outcome], reports: Sequence[PolicyReport]) -> str:
    """Return the picture of one or several policies as an SVG document."""
    scarcest = reports[0].scarcest
    used, queue = [], []
    for outcome in outcomes:
        used.append(_utilisation(outcome, scarcest))
        queue.append(_curve(outcome, len(bounded(outcome.plan.capacity)), 1.0))
    longest = max((value for curve in queue for value in curve.values), default=0.0)
    label = {"sessions": "places"}.get(scarcest, scarcest)
    panels = [
        Panel(f"Utilisation of {label}, the scarcest", TOP + 18, 1.0, True, used),
        Panel("Requests that wait", TOP + 18 + PANEL + GAP, nice(longest), False, queue),
    ]
    return "\n".join((*_document(outcomes, panels), ""))


def _document(outcomes: Sequence[Outcome], panels: Sequence[Panel]) -> Iterator[str]:
    seconds = max([outcome.end for outcome in outcomes]) or 1.0
    plan = outcomes[0].plan
    nodes = "1 node" if plan.nodes == 1 else f"{plan.nodes} nodes"
    title = f"{outcomes[0].sessions:,} sessions on {nodes}"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    yield f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    yield _text(LEFT, 28, title, 'class="h"')
    yield from _legend([curve.label for curve in panels[0].curves])
    for panel in panels:
        yield from _panel(panel, seconds)
    yield from _last_arrival(outcomes[0].last_arrival, seconds, panels)
    yield from _time_axis(seconds, panels[-1].top + PANEL)
    yield "</svg>"


def _utilisation(outcome: Outcome, name: str) -> Curve:
    indices, plan = bounded(outcome.plan.capacity), outcome.plan
    place = next(i for i, index in enumerate(indices) if DIMENSIONS[index] == name)
    return _curve(outcome, place, plan.capacity[indices[place]] * plan.nodes)


def _curve(outcome: Outcome, place: int, whole: float) -> Curve:
    """Return a curve of the timeline as a part of ``whole``, with several intervals made one."""
    values = outcome.timeline.means(place)
    width = outcome.timeline.width
    several = math.ceil(len(values) / POINTS)
    merged = [values[i : i + several] for i in range(0, len(values), several)]
    means = [sum(part) / len(part) / whole for part in merged]
    return Curve(outcome.plan.policy, width * several, means)


def _panel(panel: Panel, seconds: float) -> Iterator[str]:
    bottom, right = panel.top + PANEL, WIDTH - RIGHT
    yield _text(LEFT, panel.top - 8, panel.title)
    for step in range(5):
        y = bottom - PANEL * step / 4
        value = panel.highest * step / 4
        colour = INK if step == 0 else GRID
        yield f'<path d="M{LEFT} {y:g}H{right}" stroke="{colour}" stroke-width="1"/>'
        shown = f"{value:.0%}" if panel.percent else _count(value)
        yield _text(LEFT - 8, y + 4, shown, 'text-anchor="end"')
    for number, curve in enumerate(panel.curves):
        colour = COLOURS[number % len(COLOURS)]
        path = "".join(_steps(curve, panel, seconds))
        yield (
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" '
            'stroke-linejoin="round"/>'
        )


def _steps(curve: Curve, panel: Panel, seconds: float) -> Iterator[str]:
    """Yield a line through the middle of each interval."""
    across, bottom = WIDTH - LEFT - RIGHT, panel.top + PANEL
    for number, value in enumerate(curve.values):
        x = LEFT + across * min(1.0, (number + 0.5) * curve.width / seconds)
        y = bottom - PANEL * min(1.0, max(0.0, value / panel.highest))
        yield f"{'L' if number else 'M'}{x:.1f} {y:.1f}"


def _legend(labels: Sequence[str]) -> Iterator[str]:
    x = float(LEFT)
    for number, label in enumerate(labels):
        colour = COLOURS[number % len(COLOURS)]
        yield f'<path d="M{x:g} 46h22" stroke="{colour}" stroke-width="3"/>'
        yield _text(x + 28, 50, label)
        x += 60 + 8 * len(label)


def _last_arrival(moment: float, seconds: float, panels: Sequence[Panel]) -> Iterator[str]:
    x = LEFT + (WIDTH - LEFT - RIGHT) * moment / seconds
    top, bottom = panels[0].top, panels[-1].top + PANEL
    yield f'<path d="M{x:.1f} {top:g}V{bottom:g}" stroke="{INK}" stroke-dasharray="3 4"/>'
    beside, anchor = (x - 6, "end") if x > WIDTH / 2 else (x + 6, "start")
    yield _text(beside, top + PANEL - 8, "last arrival", f'text-anchor="{anchor}"')


def _time_axis(seconds: float, bottom: float) -> Iterator[str]:
    size, unit = next(
        ((size, unit) for size, unit in _UNITS if seconds >= 2 * size), (1.0, "seconds")
    )
    whole = seconds / size
    step = nice(whole / 8)
    for number in range(int(whole / step) + 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * number * step / whole
        yield f'<path d="M{x:.1f} {bottom:g}v5" stroke="{INK}"/>'
        yield _text(x, bottom + 20, f"{number * step:g}", 'text-anchor="middle"')
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield _text(middle, bottom + 42, f"virtual time in {unit}", 'text-anchor="middle"')


_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


def nice(value: float) -> float:
    """Return the least of 1, 2, 4 or 5 times a power of ten that is not below ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((n * power for n in (1, 2, 4, 5) if n * power >= value), 10 * power)


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" {attributes}>{html.escape(text)}</text>'
