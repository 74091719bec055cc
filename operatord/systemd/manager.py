# SPDX-License-Identifier: MIT
"""The service manager, as the daemon sees it. Where there is none, nothing is said."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Iterator, MutableMapping
from typing import Self

from .activation import handed_over
from .notify import Notifier
from .watchdog import Watchdog, watchdog_seconds


class ServiceManager:
    """Who has started the daemon, wants to know how it is, and may have sockets for it."""

    def __init__(
        self,
        notifier: Notifier | None = None,
        watchdog: float | None = None,
        sockets: tuple[socket.socket, ...] = (),
    ) -> None:
        """``watchdog`` is the time in seconds after which it ends a silent daemon."""
        self._notifier = notifier
        self._watchdog = Watchdog(watchdog, self._feed) if notifier and watchdog else None
        self.sockets = sockets
        """What is listened on for the daemon already, TCP or Unix."""
        self._said = ""
        self._serves = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Read and remove the manager's variables from ``environ``: they are not for child processes.

        Raises `UnusableSocket`.
        """
        address, watchdog = environ.pop("NOTIFY_SOCKET", ""), watchdog_seconds(environ)
        sockets = tuple(handed_over(environ))
        return cls(Notifier(address) if address else None, watchdog, sockets)

    @property
    def listens(self) -> bool:
        """Whether anybody hears what is said."""
        return self._notifier is not None

    def starting(self, seconds: float) -> None:
        """Say that it may take so long until the daemon is ready."""
        self._send(_extend(seconds), "STATUS=starting")

    def ready(self, status: str) -> None:
        """Say that the daemon serves, and give signs of life from now on."""
        self._said, self._serves = status, True
        self._send("READY=1", f"STATUS={status}")
        if self._watchdog is not None:
            self._watchdog.start()

    def say(self, status: str) -> None:
        """Say how it is now, if that is news."""
        if status != self._said:
            self._said = status
            self._send(f"STATUS={status}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the settings are being read anew; then, whatever came of it, that the daemon serves.

        While it does not serve, yet or any more, neither is said.
        """
        if self._serves:
            usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send("RELOADING=1", f"MONOTONIC_USEC={usec}")
        try:
            yield
        finally:
            if self._serves:
                self._send("READY=1", f"STATUS={self._said}")

    def stopping(self, seconds: float) -> None:
        """Say that the daemon ends, and may take so long for it."""
        self._serves = False
        self._send("STOPPING=1", _extend(seconds), "STATUS=stopping")

    def close(self) -> None:
        """Say nothing more, and let go of the sockets. Idempotent."""
        for sock in self.sockets:
            sock.close()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def _feed(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._notifier is not None:
            self._notifier.send(*lines)


def _extend(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={math.ceil(seconds * 1e6)}"
