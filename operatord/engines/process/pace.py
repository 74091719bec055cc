# SPDX-License-Identifier: MIT
"""How fast the output of one process is taken in. No I/O, no clock.

Whoever writes faster waits in its own writes, as it would for a slow terminal: a flood costs the stage that
makes it, not those that share a daemon with it.
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
        """Charge what was taken in at the moment ``now``; return for how long to take in nothing more."""
        passed, self._then = now - self._then, now
        self._lines = min(self._lines + passed * LINES, LINES) - lines
        self._bytes = min(self._bytes + passed * BYTES, BYTES) - size
        return max(-self._lines / LINES, -self._bytes / BYTES, 0.0)
