# SPDX-License-Identifier: MIT
"""An asyncio lock with the interface of `locks`, from which the blocking client's code is generated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def locked(lock: asyncio.Lock, act: Callable[[], Awaitable[T]]) -> T:
    """Return what ``act`` returns, called with the lock held."""
    async with lock:
        return await act()
