# SPDX-License-Identifier: MIT
"""Time as a thing that is handed over, so that tests can hand over another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol


class Timer(Protocol):
    """Something that will be called later."""

    def cancel(self) -> None:
        """Do not call it."""
        ...


class Clock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return monotonic seconds: for durations and deadlines."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since the epoch: for people and logs."""
        return time.time()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call ``callback`` on the running loop when ``seconds`` have passed."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), callback, *args)


def rfc3339(wall: float) -> str:
    """Return ``wall`` as RFC 3339 in UTC with milliseconds."""
    milliseconds = int(wall * 1000)
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    """Cached: a busy daemon writes many times within the same second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
