# SPDX-License-Identifier: MIT
"""Time as a thing that is handed over, so that tests can hand over another."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return monotonic seconds: for durations and deadlines."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since the epoch: for people and logs."""
        return time.time()


def rfc3339(wall: float) -> str:
    """Return ``wall`` as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(wall, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
