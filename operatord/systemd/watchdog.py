# SPDX-License-Identifier: MIT
"""Signs of life for the service manager. They come out of the event loop: one that is blocked is noticed.

The service manager ends a daemon that says nothing for WATCHDOG_USEC, and starts it again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, MutableMapping


class Watchdog:
    """Gives two signs in the time after which a silent daemon is ended."""

    def __init__(self, seconds: float, feed: Callable[[], None]) -> None:
        """Call ``feed``, which gives a sign, from `start` on; ``seconds`` is that time."""
        self._every = seconds / 2
        self._feed = feed
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Give one now, and again and again until `stop`."""
        self._feed()
        self._timer = asyncio.get_running_loop().call_later(self._every, self.start)

    def stop(self) -> None:
        """Give no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()


def watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """Return after what silence this process is ended; None: never. Takes it out of ``environ``."""
    usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    meant = pid in ("", str(os.getpid()))
    return int(usec) / 1e6 if meant and usec.isascii() and usec.isdigit() and int(usec) else None
