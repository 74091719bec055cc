# SPDX-License-Identifier: MIT
"""The two outputs: data for programs and people on one, everything else on the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper

from operatord_protocol.visible import on_one_line, visible

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from typing import TextIO

ERASE = "\r\033[K"
"""Back to the first column, and clear the line: ECMA-48's CR and EL."""
USUAL = 80
"""Columns of a terminal that does not say how many it has."""


class OutputFailed(Exception):
    """Standard output cannot be written, and not because its reader has gone. The text is for people."""


def prepare() -> None:
    """Write characters that the terminal's encoding lacks as escapes, so that no text ends the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def columns() -> int:
    """Return how wide the terminal is. It is asked directly: importing shutil is not free."""
    try:
        return int(os.environ.get("COLUMNS", "")) or USUAL
    except ValueError:
        pass
    try:
        return os.get_terminal_size().columns or USUAL
    except OSError:
        return USUAL


def width() -> int | None:
    """Return how wide text for people may be; None where they do not read it from a terminal."""
    return columns() if sys.stdout is not None and sys.stdout.isatty() else None


def out(text: str) -> None:
    """Write text for people, with a line end. Raises `OutputFailed`, `BrokenPipeError`."""
    with _told():
        _stdout().write(visible(text) + "\n")
        _stdout().flush()  # at once: readers that follow must not wait for a full buffer


def out_json(text: bytes) -> None:
    """Write a line of JSON for programs, as it is. Raises `OutputFailed`, `BrokenPipeError`."""
    with _told():
        _stdout().flush()
        _stdout().buffer.write(text + b"\n")
        _stdout().buffer.flush()


def note(text: str) -> None:
    """Write to standard error, for people; do nothing if that is impossible."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(visible(text) + "\n")
            sys.stderr.flush()


def interject(text: str) -> None:
    """Write to standard error, also while a line is drawn there over and over."""
    if sys.stderr is not None and sys.stderr.isatty():
        with suppress(OSError):
            sys.stderr.write(ERASE)
    note(text)


def settle() -> None:
    """Write what is left of the output. Raises `OutputFailed`, `BrokenPipeError`."""
    if sys.stdout is not None:
        with _told():
            sys.stdout.flush()


def give_up_out() -> None:
    """Keep the interpreter from complaining, at its exit, of the rest that cannot be written."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _stdout() -> TextIO:
    if sys.stdout is None:  # it was closed before we began
        raise OutputFailed("standard output is closed")
    return sys.stdout


@contextmanager
def _told() -> Iterator[None]:
    """Turn errors of writing into a sentence; a reader that is gone is no failure."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputFailed(f"the output cannot be written: {exc.strerror}") from exc


class Ticker:
    """One line of a terminal that is written over and in the end erased; nothing elsewhere."""

    def __init__(self) -> None:
        self.on = sys.stderr is not None and sys.stderr.isatty()
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
            self._write(on_one_line(text))

    def _write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(ERASE + text)
            sys.stderr.flush()
