# SPDX-License-Identifier: MIT
"""How often something was asked for lately, and so how many slots should be ready for it."""

from __future__ import annotations

import math
from collections import deque

REMEMBERED = 300.0
"""Seconds after which a request no longer counts as a sign of the next one."""
MOST = 64
"""Requests that are remembered at most; a rate over so many is as good as one over more."""


class Arrivals:
    """The latest requests for one thing. Times are seconds of one clock, and never go back."""

    def __init__(self) -> None:
        """Begin without any."""
        self._times: deque[float] = deque(maxlen=MOST)

    def note(self, now: float) -> None:
        """Remember that it was asked for."""
        self._times.append(now)

    def expected(self, seconds: float, now: float) -> int:
        """Return how many requests are to be expected in so many ``seconds``, rounded up to one at least.

        Rate times duration. The rate is the number of remembered requests over the time since the first of
        them, which counts as at least ``seconds``, so a short burst does not raise it for long. So never more
        are expected than have come; 0 when none came for `REMEMBERED` seconds.
        """
        while self._times and now - self._times[0] >= REMEMBERED:
            self._times.popleft()
        if not self._times:
            return 0
        count, span = len(self._times), now - self._times[0]
        return count if span <= seconds else max(1, math.ceil(count * seconds / span))
