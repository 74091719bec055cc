# SPDX-License-Identifier: MIT
"""A control connection on a blocking socket, shared by any number of threads.

There is no thread of its own: of the threads that wait for something, one reads for all of them,
and hands the reading on when it has got what it came for. A lone thread therefore reads its own
answer, without a switch.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ._core import Call, Core
from ._sockets import open_socket
from .address import Address
from .errors import CallTimeout, ConnectionLost, DaemonUnreachable
from .notices import Notice, Progress

READ_BYTES = 256 * 1024
T = TypeVar("T")


class Connection:
    """Requests out; answers, progress and notices in."""

    def __init__(self, address: Address, connect_timeout: float | None) -> None:
        """Connect. Raises `DaemonUnreachable`."""
        self._socket = open_socket(address, connect_timeout, DaemonUnreachable)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._core = Core()
        self._turn = threading.Condition()
        self._reading = False
        self._writing = threading.Lock()

    @property
    def lost(self) -> bool:
        """Whether nothing more will come."""
        return self._core.lost is not None

    def close(self) -> None:
        """Disconnect; whoever waits gets `ConnectionLost`. May be called again, and by any thread."""
        self._core.lose(ConnectionLost("the connection was closed here"))
        with suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._writing:
            self._socket.close()

    def send(self, method: str, params: Mapping[str, Any]) -> Call:
        """Make a call. Raises `ConnectionLost`."""
        with self._turn:
            self._core.check()
            call, line = self._core.request(method, params)
        self._write(line)
        return call

    def finish(self, call: Call, timeout: float | None) -> bytes:
        """Return the call's result as JSON. Raises its `WireError`, `CallTimeout`, `ConnectionLost`."""
        for _ in self.progress(call, timeout):
            pass
        return call.result()

    def progress(self, call: Call, timeout: float | None) -> Generator[Progress, None, None]:
        """Yield what is reported of the call until it is answered; a call left early is cancelled."""
        deadline = _deadline(timeout)
        with self._abandoned(call):
            while not (call.done and not call.progress):
                self._wait(lambda: call.news or None, deadline)
                while call.progress:
                    yield call.progress.popleft()

    def notice(self, timeout: float | None) -> Notice | None:
        """Return the next notice, None when none came in time. Raises `ConnectionLost`."""
        try:
            return self._wait(self._core.take_notice, _deadline(timeout))
        except CallTimeout:
            return None

    @contextmanager
    def _abandoned(self, call: Call) -> Generator[None, None, None]:
        try:
            yield
        except BaseException:
            self._abandon(call)
            raise

    def _abandon(self, call: Call) -> None:
        with self._turn:
            line = self._core.abandon(call)
        self._write(line)

    def _write(self, line: bytes) -> None:
        # A failure to write is left to the reader to find: it may find a refusal that says why.
        with self._writing, suppress(OSError):
            self._socket.sendall(line)

    def _wait(self, take: Callable[[], T | None], deadline: float | None) -> T:
        """Return what ``take`` gives as soon as it does; read for all while nobody else does."""
        with self._turn:
            while (taken := take()) is None:
                self._core.check()
                if self._reading:
                    self._turn.wait(_remaining(deadline))
                else:
                    self._read(deadline)
            return taken

    def _read(self, deadline: float | None) -> None:
        remaining = _remaining(deadline)
        self._reading = True
        self._turn.release()
        try:
            data = self._receive(remaining)
        finally:
            self._turn.acquire()
            self._reading = False
            self._turn.notify_all()
        if data is not None:
            self._core.feed(data)

    def _receive(self, timeout: float | None) -> bytes | None:
        """Return what arrives, nothing at the end, None when the time is up."""
        try:
            if not self._poll.poll(None if timeout is None else timeout * 1000):
                return None
            return self._socket.recv(READ_BYTES)
        except OSError:
            return b""


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    """Return the seconds that are left. Raises `CallTimeout` when there are none."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise CallTimeout("no answer within the time given")
    return remaining
