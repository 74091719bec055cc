# SPDX-License-Identifier: MIT
"""What `top` draws on a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from operatord_client.ctl.verbs.overview import (
    SESSION_COLUMNS,
    SLOT_COLUMNS,
    Gauge,
    Overview,
    gauges,
    head,
    rows,
    slots,
)

from .session import COLOURS

BAR_WIDTH = 30
LEAVE = ("q", "Q", "\x04")
"""Keys that end it; the last one is Ctrl-D."""
FULL, NEARLY = 0.999, 0.8
HEADED = 2
"""Lines of a table besides its rows: a blank one, and its headings."""


class TopScreen:
    """The whole terminal, as long as it lasts; what was there before comes back."""

    def __init__(self, console: Console | None = None, *, whole: bool = True) -> None:
        """``whole``: on a screen of its own."""
        self._console = console or Console()
        self._live = Live(console=self._console, screen=whole, auto_refresh=False)
        self._undo = ExitStack()
        self._keys = False

    def __enter__(self) -> Self:
        self._undo.enter_context(self._live)
        self._listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._undo.close()

    def _listen(self) -> None:
        """Have keys come at once, and unseen, where somebody types."""
        if sys.stdin is None or not sys.stdin.isatty():
            return
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        self._undo.callback(termios.tcsetattr, descriptor, termios.TCSADRAIN, before)
        tty.setcbreak(descriptor)
        self._keys = True

    def wants_to_leave(self) -> bool:
        """Tell whether somebody has typed what ends it."""
        while self._keys and select.select([sys.stdin], [], [], 0)[0]:
            keys = os.read(sys.stdin.fileno(), 64).decode("ascii", "replace")
            if not keys or any(key in LEAVE for key in keys):
                return True
        return False

    def show(self, view: Overview) -> None:
        """Draw, as large as the terminal is now."""
        self._live.update(picture(view, self._console.height), refresh=True)


def picture(view: Overview, height: int) -> RenderableType:
    """Return all of it, in so many lines: of sessions, only so many as fit."""
    facts, room, ready = _facts(view), _room(view), _slots(view)
    parts: list[RenderableType] = [facts, room]
    used = facts.row_count + room.row_count
    if ready is not None:
        parts += ["", ready]
        used += HEADED + ready.row_count
    parts += ["", _sessions(view, max(1, height - used - HEADED - 1)), Text("q leaves", "dim")]
    return Group(*parts)


def _facts(view: Overview) -> Table:
    facts = [(name, text) for name, text in head(view) if text]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=max(len(name) for name, _ in facts))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for name, text in facts:
        grid.add_row(name, Text(text, _colour(name, view)))
    return grid


def _colour(name: str, view: Overview) -> str:
    bad = {
        "engine": view.status["engine"]["state"] != "up",
        "machine": view.status["pressure"] != "none",
        "daemon": view.status["draining"],
        "warning": True,
        "no news": True,
    }
    return "red" if bad.get(name) else ""


def _room(view: Overview) -> Table:
    grid = Table.grid(padding=(0, 2))
    found = gauges(view)
    grid.add_column(no_wrap=True, min_width=max((len(each.name) for each in found), default=0))
    grid.add_column()
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for gauge in found:
        bar = ProgressBar(1.0, gauge.share, width=BAR_WIDTH, complete_style=_how_full(gauge))
        grid.add_row(gauge.name, bar, Text(gauge.text))
    return grid


def _how_full(gauge: Gauge) -> str:
    return "red" if gauge.share >= FULL else "yellow" if gauge.share >= NEARLY else "green"


def _slots(view: Overview) -> Table | None:
    found = slots(view)
    return _table(SLOT_COLUMNS, found) if found else None


def _sessions(view: Overview, most: int) -> Table:
    return _table(SESSION_COLUMNS, rows(view, most), {2: COLOURS})


def _table(
    columns: tuple[str, ...],
    cells: Sequence[tuple[str, ...]],
    colours: Mapping[int, Mapping[str, str]] = MappingProxyType({}),
) -> Table:
    """Return cells below headings: only the last column is cut off where there is no room for all.

    ``colours``, by column, are those of a cell's first word.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for place, heading in enumerate(columns[:-1]):
        widest = max(len(heading), *(len(row[place]) for row in cells), 1)
        table.add_column(Text(heading), no_wrap=True, width=widest)
    table.add_column(Text(columns[-1]), no_wrap=True, overflow="ellipsis", ratio=1)
    for row in cells:
        styles = [
            colours.get(at, {}).get(cell.partition(" ")[0], "") for at, cell in enumerate(row)
        ]
        table.add_row(*map(Text, row, styles))
    return table
