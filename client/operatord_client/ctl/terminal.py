# SPDX-License-Identifier: MIT
"""The two outputs: data for programs and people on one, everything else on the other."""

from __future__ import annotations

import os
import sys

ERASE = "\r\033[K"
"""Back to the first column, and clear the line: ECMA-48's CR and EL."""


def out(text: str) -> None:
    """Write data, with a line end, at once: whoever follows is not to wait for a full buffer."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell the person, not the program that reads the output."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def give_up_out() -> None:
    """Keep the interpreter from complaining, at its exit, of the rest that nobody will read."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Ticker:
    """One line of a terminal that is written over and in the end erased; nothing elsewhere."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._shown:
            self._write("")

    def show(self, text: str) -> None:
        """Write over what was there."""
        if self.on:
            self._shown = True
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(ERASE + text)
        sys.stderr.flush()
