# SPDX-License-Identifier: MIT
"""A connection that is used for nothing is ended after `limits.idle_timeout`, if one is set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Idle:
    """Looks now and then whether a connection is used: a timer for each line would cost more than that."""

    __slots__ = ("_end", "_is_used", "_loop", "_seconds", "_since", "_timer")

    def __init__(
        self, seconds: float, is_used: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        """Call ``end`` once nothing has come for so long while the connection was not used otherwise."""
        self._seconds = seconds
        self._is_used = is_used
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    def heard(self) -> None:
        """Note that something has come."""
        self._since = self._loop.time()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._is_used():
            self._since = now
        left = self._since + self._seconds - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end()
