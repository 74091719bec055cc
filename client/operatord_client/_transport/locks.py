# SPDX-License-Identifier: MIT
"""A lock that no interrupt leaves locked.

`KeyboardInterrupt` is raised between two steps of the main thread. From Python 3.14 on, to enter a lock and
to begin the block of ``with`` are two steps, and an interrupt that comes between them leaves the lock locked:
whoever wants it next waits for ever. So the call that takes the lock also records that it is held:
``list.extend`` of a ``map`` runs both in C.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def locked(lock: threading.Lock, act: Callable[[], T]) -> T:
    """Return what ``act`` returns, called with the lock held."""
    held: list[bool] = []
    try:
        take(lock, held)
        return act()
    finally:
        if held:
            lock.release()


def take(lock: threading.Lock, held: list[bool], timeout: float = -1) -> None:
    """Wait for a lock, at most for so many seconds, and add True to ``held`` once it is ours to release."""
    held.extend(filter(None, map(lock.acquire, (True,), (timeout,))))
