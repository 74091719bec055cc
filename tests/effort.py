# SPDX-License-Identifier: MIT
"""How much work an input causes, to be compared with that of another: a ratio, whatever the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 5


def effort(work: Callable[[], object]) -> float:
    """Return the least processor time of some rounds, in seconds."""
    return min(_once(work) for _ in range(ROUNDS))


def _once(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
