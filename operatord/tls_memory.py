# SPDX-License-Identifier: MIT
"""What connections with TLS hold in memory, which strangers can have hundreds of.

asyncio gives each a buffer of its own, of 256 KiB by itself, and leaves those that have ended to the garbage
collector; up to Python 3.14 at least.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from typing import Any
from weakref import WeakKeyDictionary

_protocol: Any = SSLProtocol
_made, _lost = _protocol.__init__, _protocol.connection_lost
_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray] = WeakKeyDictionary()
"""Where each event loop reads to: others may read at the same time, in their threads."""


def _with_shared_buffer(
    self: Any, loop: asyncio.AbstractEventLoop, *args: Any, **more: Any
) -> None:
    """Have the new connection read to where all of its loop do: what is read is taken out at once.

    If asyncio keeps its buffer otherwise some day, each connection has its own.
    """
    _made(self, loop, *args, **more)
    if isinstance(own := getattr(self, "_ssl_buffer", None), bytearray):
        shared = _buffers.get(loop)
        if shared is None or len(shared) < len(own):
            shared = _buffers[loop] = own
        self._ssl_buffer, self._ssl_buffer_view = shared, memoryview(shared)


def _without_circle(self: Any, exc: BaseException | None) -> None:
    """Let go of the connection that has ended: its transport holds this one."""
    _lost(self, exc)
    self._app_protocol_get_buffer = self._app_protocol_buffer_updated = None


def keep_small() -> None:
    """Have all connections of this process hold less from now on. Idempotent."""
    _protocol.__init__, _protocol.connection_lost = _with_shared_buffer, _without_circle
