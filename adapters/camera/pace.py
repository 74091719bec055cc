# SPDX-License-Identifier: MIT
"""When a frame is due, and when a lost source is tried again."""

from __future__ import annotations

import threading
import time

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""Seconds before a lost source is tried again for the first time, and the most between later times."""
LONGEST_GAP = 5.0
"""Seconds between two frames of a recording that are waited for; more is a leap of its clock."""


CAUGHT_UP = 0.5
"""Seconds that a recording may be late, to be at its own rate again."""


class Pace:
    """Gives out the frames of a recording at its own rate.

    A little that a busy machine loses is caught up. What is lost because nobody takes frames is not: a probe
    has a pace, not a backlog.
    """

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._due = self._last = 0.0

    def wait(self, moment: float) -> None:
        """Wait until the frame of this moment of the recording, in seconds, is due."""
        now = time.monotonic()
        self._due += min(max(0.0, moment - self._last), LONGEST_GAP)
        self._last = moment
        if now - self._due > CAUGHT_UP:
            self._due = now
        self._stopped.wait(max(0.0, self._due - now))


class BackOff:
    """Pauses that double, until the time is over."""

    def __init__(self, stopped: threading.Event, seconds: float) -> None:
        """Begin to count the seconds for which to try."""
        self._stopped, self._pause = stopped, FIRST_PAUSE
        self._deadline = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self) -> bool:
        """Wait before the next attempt; tell whether there is to be one."""
        pause, self._pause = min(self._pause, self.left()), min(2 * self._pause, LONGEST_PAUSE)
        return not self._stopped.wait(pause) and self.left() > 0
