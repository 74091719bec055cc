# SPDX-License-Identifier: MIT
"""Messages to the service manager: datagrams of ``NAME=value`` lines to its socket, as in sd_notify(3).

The event loop never waits for it. What it does not take at once is sent a moment later, in order; of each
kind only the newest is kept, so a service manager that hangs costs no memory.
"""

from __future__ import annotations

import asyncio
import logging
import socket

log = logging.getLogger(__name__)

AGAIN = 0.1
"""Seconds until a service manager whose queue was full is tried again."""


class Notifier:
    """The way to one service manager."""

    def __init__(self, address: str) -> None:
        """``address`` is NOTIFY_SOCKET: a path, or a name in the abstract namespace after an ``@``."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._waiting: dict[str, str] = {}
        """Messages that it has not taken, by the name in their first line."""
        self._retry: asyncio.TimerHandle | None = None
        self._is_told = False

    def send(self, *lines: str) -> None:
        """Send ``lines`` as one message, now or as soon as there is room for it."""
        kind = lines[0].partition("=")[0]
        self._waiting.pop(kind, None)  # it takes its place behind the others
        self._waiting[kind] = "\n".join(lines)
        if self._retry is None:
            self._flush()

    def close(self) -> None:
        """Send nothing more. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
        self._socket.close()

    def _flush(self) -> None:
        self._retry = None
        for kind, message in tuple(self._waiting.items()):
            try:
                self._socket.sendto(message.encode(), self._address)
            except BlockingIOError:
                self._retry = asyncio.get_running_loop().call_later(AGAIN, self._flush)
                return
            except OSError as exc:
                self._tell(exc)
            del self._waiting[kind]

    def _tell(self, exc: OSError) -> None:
        """Log once that nobody hears; the daemon works all the same."""
        if not self._is_told:
            self._is_told = True
            log.warning("the service manager cannot be told anything (NOTIFY_SOCKET): %s", exc)
