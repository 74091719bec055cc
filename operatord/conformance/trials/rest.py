# SPDX-License-Identifier: MIT
"""When a stage has come to rest: it takes no more from its upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from operatord.conformance.trial import Trial

LONGEST = 8.0
STEP = 0.05
STILL = 0.6
"""Seconds without a byte after which a stage has stopped reading."""


async def comes_to_rest(
    trial: Trial,
    *,
    shortest: float = 0.0,
    still: float = STILL,
    longest: float = LONGEST,
    enough: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until the stage has taken nothing for ``still`` seconds, or it is ``enough``; return whether so.

    The wait takes ``shortest`` seconds at least, and ``longest`` at most.
    """
    loop = asyncio.get_running_loop()
    begun = moved = loop.time()
    taken = -1
    while (now := loop.time()) - begun < longest:
        fed = trial.upstream
        if fed is not None and fed.taken != taken:
            taken, moved = fed.taken, now
        if now - begun >= shortest and (now - moved >= still or enough()):
            return True
        await asyncio.sleep(STEP)
    return False
