# SPDX-License-Identifier: MIT
"""A lock of asyncio, taken as `locks` takes one of threads: the blocking client is made from who does so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def locked(lock: asyncio.Lock, act: Callable[[], Awaitable[T]]) -> T:
    """Return what ``act`` returns, called with the lock held."""
    async with lock:
        return await act()
