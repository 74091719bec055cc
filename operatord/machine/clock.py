# SPDX-License-Identifier: MIT
"""The clock as an object, so that tests can pass another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

SLACK = 1.0
"""Seconds by which a time of day may drift, as clocks are tuned, before it is corrected."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux: a random number that is new at each boot (random(4))."""


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

    def wall_of(self, moment: float) -> float:
        """Return what the wall clock shows at a monotonic ``moment``, as it is set now."""
        return self.wall() + moment - self.now()

    def put_right(self, wall: float, moment: float) -> float:
        """Return the wall clock's time of ``moment``: ``wall``, as published before, unless the clock was set
        since."""
        fresh = self.wall_of(moment)
        return wall if abs(fresh - wall) <= SLACK else fresh

    def boot(self) -> str:
        """Return the id of the boot that `now` counts from; empty if the system has none."""
        return _boot()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call ``callback`` on the running loop when ``seconds`` have passed."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), callback, *args)


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def rfc3339(wall: float) -> str:
    """Return ``wall`` as RFC 3339 in UTC with milliseconds."""
    milliseconds = int(wall * 1000)
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    """Cached: a busy daemon writes many times within the same second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
