# SPDX-License-Identifier: MIT
"""How fast the output of one process is read. No I/O, no clock. A process that writes faster blocks in its
own writes, as with a slow terminal: a flood slows down the stage that makes it, not its neighbours.
"""

from __future__ import annotations

LINES = 5000
"""Lines a second that are taken in, and at once after a rest. A line costs the daemon about a microsecond."""
BYTES = 2 * 1024**2
"""Bytes a second, likewise."""


class Pace:
    """Two buckets that fill with time, one for lines and one for bytes; each holds a second's worth."""

    def __init__(self, now: float) -> None:
        """Both are full. Times are monotonic, in seconds."""
        self._then = now
        self._lines, self._bytes = float(LINES), float(BYTES)

    def rest(self, lines: int, size: int, now: float) -> float:
        """Charge what was read at the moment ``now``; return for how many seconds to pause reading."""
        passed, self._then = now - self._then, now
        self._lines = min(self._lines + passed * LINES, LINES) - lines
        self._bytes = min(self._bytes + passed * BYTES, BYTES) - size
        return max(-self._lines / LINES, -self._bytes / BYTES, 0.0)
