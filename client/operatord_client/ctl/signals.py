# SPDX-License-Identifier: MIT
"""SIGTERM and SIGHUP end a command as Ctrl-C does: it releases what it holds first."""

from __future__ import annotations

import signal
import time

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)
SAME_WISH = 1.0
"""Seconds in which a further signal means the same, since a program and its group may both be signalled;
later it means: exit without cleaning up."""


class Signals:
    """Within ``with``, raises `KeyboardInterrupt` at each of them that is not ignored."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.came: int | None = None
        """The first that came."""
        self._since = 0.0
        self._clock = clock
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in ENDING:
            before = signal.getsignal(number)
            if before in (signal.SIG_IGN, None):  # as below nohup, or it is somebody else's
                continue
            try:
                signal.signal(number, self._end)
            except ValueError:  # not the main thread, which alone is signalled
                return
            self._before[number] = before

    def __exit__(self, *exc_info: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _end(self, number: int, _frame: object) -> None:
        now = self._clock()
        if self.came is None:
            self.came, self._since = number, now
        elif now - self._since < SAME_WISH:
            return
        raise KeyboardInterrupt
