# SPDX-License-Identifier: MIT
"""Notices that the reader of standard output has gone, while there is nothing to write."""

from __future__ import annotations

import os
import select
import sys

GONE = select.POLLERR | select.POLLHUP
"""What poll reports for a pipe or a socket that nobody reads any more."""


class Outlet:
    """Waits for input as long as somebody reads the output."""

    def __init__(self, source: int) -> None:
        """``source`` is the descriptor that is waited for."""
        self._out = _descriptor()
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)
        if self._out is not None:
            self._poll.register(self._out, 0)

    def wait(self) -> None:
        """Return when there is something to read. Raises `BrokenPipeError` once nobody reads any more."""
        for descriptor, events in self._poll.poll():
            if descriptor == self._out and events & GONE:
                raise BrokenPipeError


def require_reader() -> None:
    """Raise `BrokenPipeError` if nobody reads the output any more."""
    if (out := _descriptor()) is not None:
        poll = select.poll()
        poll.register(out, 0)
        if any(events & GONE for _, events in poll.poll(0)):
            raise BrokenPipeError


def _descriptor() -> int | None:
    """Return that of standard output; None for a terminal, which sends SIGHUP, and where there is none."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # it was closed, or is no file
        return None
    return None if os.isatty(number) else number
