# SPDX-License-Identifier: MIT
"""How long an address has to wait after logins that failed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from .origin import Origin

FREE = 4
"""Failures without a wait: people paste the wrong line. There is one after the fifth."""
FIRST, LONGEST = 1.0, 60.0
"""Seconds to wait after one more, and at most; each failure doubles it."""
FORGET = 900.0
"""Seconds after the last failure until it counts no more."""
MOST = 10_000
"""Addresses that are remembered; of more, the oldest are forgotten."""


class Backoff:
    """Counts failures by address, and of IPv6 by network."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` returns seconds on a monotonic clock."""
        self._now = now
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """By address: how many, and when the last one was."""

    def seconds(self, origin: Origin) -> float:
        """Return how long an address has to wait before it may try again; 0 if it need not."""
        count, last = self._known(origin)
        if count <= FREE:
            return 0.0
        wait = min(FIRST * 2.0 ** min(count - FREE - 1, 16), LONGEST)
        return max(0.0, last + wait - self._now())

    def failed(self, origin: Origin) -> None:
        """Count a failure."""
        count, _ = self._known(origin)
        self._failures[(key := origin.network)] = count + 1, self._now()
        self._failures.move_to_end(key)
        if len(self._failures) > MOST:
            self._failures.popitem(last=False)

    def succeeded(self, origin: Origin) -> None:
        """Forget the failures of an address."""
        self._failures.pop(origin.network, None)

    def _known(self, origin: Origin) -> tuple[int, float]:
        count, last = self._failures.get(origin.network, (0, 0.0))
        return (count, last) if self._now() < last + FORGET else (0, 0.0)
