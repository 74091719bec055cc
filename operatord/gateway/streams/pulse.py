# SPDX-License-Identifier: MIT
"""Whether whoever is waited for is still there: one who pauses is, one whose system is silent is not."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType

LOST_AFTER = 20.0
"""Seconds for which a peer's kernel may leave unanswered what was sent it again and again."""
LOOK_SECONDS = 2.0


class Pulse:
    """As a context, disconnects a peer that is lost.

    One that takes nothing for a while is not: its system answers that nothing more fits.
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self._silent_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._look()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            return
        if not _unanswered(self._transport.get_extra_info("socket")):
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = loop.time()
        elif loop.time() - self._silent_since >= LOST_AFTER:
            self._transport.abort()
            return
        self._timer = loop.call_later(LOOK_SECONDS, self._look)


def _unanswered(connection: socket.socket) -> bool:
    """Tell whether something was sent again since the last answer: retransmits and probes of tcp_info."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)
    return bool(info[2] or info[3])
