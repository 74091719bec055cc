# SPDX-License-Identifier: MIT
"""Slots that could not be made: when to try again, and whether the reason is new. The reason often stays: a
missing image, or an engine connection over which standard input cannot be attached. So the pauses grow, until
something changes that may be the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

FIRST_PAUSE = 10.0
"""Seconds until the second attempt …"""
LONGEST_PAUSE = 640.0
"""… doubled with each further one up to this."""


class _Failure(NamedTuple):
    problem: str
    pause: float
    again: float
    """When it may be tried again, on the monotonic clock."""


class SlotFailures:
    """What was tried in vain, by pipeline."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` is a monotonic clock, in seconds."""
        self._now = now
        self._failures: dict[str, _Failure] = {}
        self._circumstances: object = None

    def may_try(self, pipeline: str) -> bool:
        """Tell whether a slot for it may be made now."""
        failure = self._failures.get(pipeline)
        return failure is None or self._now() >= failure.again

    def note(self, pipeline: str, problem: str) -> bool:
        """One could not be made; tell whether the reason is another one than the last time."""
        before = self._failures.get(pipeline)
        pause = FIRST_PAUSE if before is None else min(2 * before.pause, LONGEST_PAUSE)
        self._failures[pipeline] = _Failure(problem, pause, self._now() + pause)
        return before is None or before.problem != problem

    def forget(self, pipeline: str) -> None:
        """One was made."""
        self._failures.pop(pipeline, None)

    def reconsider(self, circumstances: object) -> None:
        """Allow all to be tried at once if these circumstances differ from before."""
        if circumstances != self._circumstances:
            self._circumstances = circumstances
            self._failures.clear()
