# SPDX-License-Identifier: MIT
"""Whether a process that owes an answer hangs, or only has no turn on a busy machine.

From outside both are silent. But a process that waits for its turn is runnable, or has run meanwhile, while
one that was stopped, or waits for something that never comes, sleeps and is not run at all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

LOOK_EVERY = 0.25
"""Seconds between two looks at it."""
ASLEEP = 8
"""Looks in a row that find it asleep before it is sure to hang: what it owes would have woken it at once."""
LONGEST = 10.0
"""Seconds after which it counts as hung, whatever is seen of it."""
_SLEEPS = {"S": "it sleeps", "T": "it is stopped (SIGSTOP)", "t": "a debugger holds it"}
"""States in which a process is not run (proc(5)); that of one that waits for a disk is not among them."""
_SEEN = ("State", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")


class Hung(TimeoutError):
    """It hangs; the text is the end of a sentence about it."""


class Vigil:
    """A block that ends with `Hung` when a process is found to hang within it."""

    def __init__(self, pid: Callable[[], int]) -> None:
        """``pid`` returns the process that is waited for, or 0 if it is not known yet."""
        self._pid = pid
        self._limit = asyncio.timeout(LONGEST)
        self._looks = 0
        self._before: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._why = f"has not answered for {LONGEST:g} s"

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._limit.__aexit__(kind, exc, traceback)
        except TimeoutError:
            raise Hung(self._why) from None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        seen = _seen(self._pid())
        asleep = seen == self._before and bool(seen) and seen[0] in _SLEEPS
        self._looks = self._looks + 1 if asleep else 0
        self._before = seen
        if self._looks < ASLEEP:
            self._wait()
            return
        self._why = f"does not answer: {_SLEEPS[seen[0]]}"
        self._limit.reschedule(0)


def _seen(pid: int) -> list[str]:
    """Return the state of the first thread of a process, and how often it was run; nothing if it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return [found.get(name, "").split()[0] for name in _SEEN]
    return []
