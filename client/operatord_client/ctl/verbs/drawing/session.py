# SPDX-License-Identifier: MIT
"""The picture that `watch` draws on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from operatord_client.ctl import render
from operatord_client.ctl.verbs.view import View

COLOURS = {
    "queued": "yellow",
    "starting": "cyan",
    "running": "green",
    "stopping": "magenta",
    "ended": "bold",
    "failed": "red",
    "expired": "red",
    "refused": "red",
}
BAR_WIDTH = 40
TICK = 1.0
"""Seconds between two looks at what no event tells: frames and use."""


class LiveScreen:
    """A picture that is drawn over itself, and stays when it is over."""

    tick: float | None = TICK

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._rate = Rate()
        self._clock = clock

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, view: View) -> None:
        """Draw."""
        rate = self._rate.of(view.frames, self._clock()) if view.stats else None
        self._live.update(picture(view, rate), refresh=True)


class Rate:
    """Frames per second, from one look to the next."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def of(self, frames: int | None, now: float) -> float | None:
        """Return the rate since the last call, None when it cannot be told."""
        if frames is None:
            return None
        last, self._last = self._last, (frames, now)
        if last is None or now <= last[1] or frames < last[0]:
            return None
        return (frames - last[0]) / (now - last[1])


def picture(view: View, rate: float | None) -> RenderableType:
    """Return the session's head and, while it runs, its stages."""
    parts: list[RenderableType] = [_head(view, rate)]
    stages = render.stages_of(view.session)
    if stages:
        parts.append(_stages(view, stages))
    return Group(*parts)


def _head(view: View, rate: float | None) -> Table:
    session = view.session
    grid = Table.grid(padding=(0, 2))
    state = session.get("outcome") or session["phase"]
    grid.add_row("session", Text(f"{session['session_id']}  {session.get('pipeline', '')}"))
    grid.add_row("phase", Text(_phase(session), COLOURS.get(state, "")))
    for name, value in (
        ("reason", session.get("reason")),
        ("location", session.get("location", {}).get("url")),
        ("frames", _frames(view, rate)),
    ):
        if value:
            grid.add_row(name, Text(value))  # as it is: rich would take brackets for markup
    if view.frames is not None and (count := session.get("count")):
        grid.add_row("", ProgressBar(count, view.frames, width=BAR_WIDTH))
    return grid


def _phase(session: Mapping[str, Any]) -> str:
    words = [session["phase"], session.get("outcome", "")]
    if session.get("position") is not None:
        words.append(f"position {session['position']}")
    words.append(render.unread(session))
    return " ".join(filter(None, words))


def _frames(view: View, rate: float | None) -> str:
    if view.frames is None:
        return ""
    count = view.session.get("count")
    words = [f"{view.frames}" + (f" of {count}" if count else "")]
    return "  ".join(words + ([f"{rate:.1f}/s"] if rate is not None else []))


def _stages(view: View, stages: Mapping[str, str]) -> Table:
    """While it runs, what each stage uses; once it does not, what is known of its containers."""
    exits = view.session.get("exit_codes", {})
    uses = view.stats or {
        name: {"container": container[: render.SHORT_ID], "exit": exits.get(name)}
        for name, container in stages.items()
    }
    columns = list(dict.fromkeys(name for use in uses.values() for name in use))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", *columns):
        table.add_column(Text(heading.replace("_", " ")), no_wrap=True)
    for stage in stages:
        use = uses.get(stage, {})
        cells = (stage, *(render.quantity(name, use.get(name)) for name in columns))
        table.add_row(*map(Text, cells))
    return table
