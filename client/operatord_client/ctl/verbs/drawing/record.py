# SPDX-License-Identifier: MIT
"""How far a recording is, as a bar on a terminal's standard error."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from operatord_client.ctl import render
from operatord_client.options import Recorded


class RecordBar:
    """A bar that is drawn over itself, and goes when it is over."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[frames]}"),
            BarColumn(),
            TextColumn("{task.fields[size]}"),
            TimeElapsedColumn(),
            console=console or Console(stderr=True),
            transient=True,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("record", total=None, frames="", size="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def show(self, so_far: Recorded) -> None:
        """Draw."""
        of = f" of {so_far.expected}" if so_far.expected else ""
        self._progress.update(
            self._task,
            completed=so_far.frames,
            total=so_far.expected,
            frames=f"{so_far.frames}{of} frames",
            size=render.size(so_far.bytes),
            refresh=True,
        )
