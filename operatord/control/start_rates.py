# SPDX-License-Identifier: MIT
"""How many sessions each owner has asked for within a minute, for `limits.starts_per_minute`."""

from __future__ import annotations

import math
from collections import deque

from operatord_protocol.errors import TooManyRequests

MINUTE = 60.0
SWEPT = 1024
"""Owners that are remembered before inactive ones are searched and dropped."""


class StartRates:
    """Remembers the moments of starts, by owner. Moments are seconds of a monotonic clock."""

    def __init__(self) -> None:
        """Nobody has asked for anything."""
        self._moments: dict[str, deque[float]] = {}
        self._swept_at = SWEPT

    def take(self, owner: str, most: int, now: float) -> None:
        """Count a start of ``owner``. Raises `TooManyRequests` when ``most`` were within the minute."""
        moments = self._moments.setdefault(owner, deque())
        while moments and moments[0] <= now - MINUTE:
            moments.popleft()
        if len(moments) >= most:
            raise TooManyRequests(
                f"{owner} has asked for all the starts of this minute: limits.starts_per_minute is {most}",
                retry_after=max(1, math.ceil(min(moments[-most] + MINUTE - now, MINUTE))),
            )
        moments.append(now)
        if len(self._moments) > self._swept_at:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Forget owners that have asked for nothing within the minute."""
        self._moments = {
            owner: moments
            for owner, moments in self._moments.items()
            if moments and moments[-1] > now - MINUTE
        }
        self._swept_at = max(SWEPT, 2 * len(self._moments))
