# SPDX-License-Identifier: MIT
"""A control connection on a blocking socket, shared by any number of threads.

It has no thread of its own: one of the waiting threads reads for all of them, and passes the reading on when
it has what it waits for. A lone thread therefore reads its own answer, without a switch.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any, Self, TypeVar

from operatord_client.address import Address
from operatord_client.errors import CallTimeout, ConnectionLost, DaemonUnreachable
from operatord_client.notices import Notice, Progress

from . import forks
from .alerts import said_of_certificate
from .core import Call, Core, Login
from .locks import locked
from .long_lines import TRIAL_SECONDS, LongLine
from .outgoing import Outgoing
from .sockets import open_socket
from .tunnel import fault_of

READ_BYTES = 256 * 1024
LOOK_EVERY = 1.0
"""Seconds after which a waiting thread checks whether another one still reads for it, and a reading one
whether the connection is still open. A reader may have been interrupted before it could pass the reading on,
and the descriptor of a closed socket may be reused at once."""
T = TypeVar("T")


class Connection:
    """Requests out; answers, progress and notices in."""

    def __init__(self, sock: socket.socket, another: Callable[[Login | None], Connection]) -> None:
        """Own ``sock``; ``another`` makes another connection to the same daemon."""
        self.login: Login | None = None
        """The login for further connections to the same daemon."""
        self._socket = sock
        self._another = another
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._core = Core()
        self._out = Outgoing(self._socket)
        self._lock = threading.Lock()
        """Taken by itself, with `locked`, and not by way of the condition: an interrupt on entering a method
        of that, which is written in Python, would leave it locked."""
        self._turn = threading.Condition(self._lock)
        self._reader: int | None = None
        """The thread that reads for all, by its identifier."""
        forks.note(self)

    @classmethod
    def open(
        cls, address: Address, connect_timeout: float | None, login: Login | None = None
    ) -> Self:
        """Connect, and log in. Raises `DaemonUnreachable`, and what `converse` raises."""
        another = partial(cls.open, address, connect_timeout)
        connection = cls(open_socket(address, connect_timeout, DaemonUnreachable), another)
        if login is not None:
            try:
                connection.converse("auth.login", login.params, login.timeout, bytes)
            except BaseException:
                connection.close()
                raise
        connection.login = login
        return connection

    def after_fork(self) -> None:
        """After a fork, leave the connection to the parent: this process no longer uses it."""
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._core.lose(ConnectionLost(forks.INHERITED))
        self._out = Outgoing(self._socket)
        self._socket.close()  # this process's share of it, no more

    def close(self) -> None:
        """Cancel pending calls and disconnect; waiting threads get `ConnectionLost`. May be called again, and
        by any thread.
        """
        if self._socket.fileno() >= 0:
            # Both at once: a thread that saw only one would cancel its call after everything was sent.
            self._out.put_last(locked(self._lock, self._lose))

    def _lose(self) -> bytes:
        self._core.lose(ConnectionLost("the connection was closed here"))
        return self._core.abandon_all()

    def converse(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        take: Callable[[bytes], T],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> T:
        """Make a call and return what ``take`` makes of its result, which comes as JSON.

        On any error, including an interrupt at any moment, the call is cancelled at the daemon. Raises its
        `WireError`, `CallTimeout`, `ConnectionLost`, `UnsendableRequest`, and what ``take`` and
        ``on_progress`` raise.
        """
        call, line = self.prepare(method, params)
        try:
            for progress in self.progress(call, line, timeout):
                if on_progress is not None:
                    on_progress(progress)
            return take(call.result())
        except BaseException:
            self.abandon(call)
            raise

    def prepare(self, method: str, params: Mapping[str, Any]) -> tuple[Call, bytes]:
        """Return a call and the line that makes it. Raises `ConnectionLost`, `UnsendableRequest`.

        Nothing has gone out. The caller has to `abandon` what it leaves unfinished.
        """
        try:
            return self._request(method, params)
        except LongLine as exc:
            self._try(exc)
            self._core.line_bytes = exc.length
        return self._request(method, params)

    def _request(self, method: str, params: Mapping[str, Any]) -> tuple[Call, bytes]:
        def request() -> tuple[Call, bytes]:
            self._core.check()
            return self._core.request(method, params)

        return locked(self._lock, request)

    def _try(self, long: LongLine) -> None:
        """Test on another connection whether the daemon accepts such a long line. Raises
        `UnsendableRequest`."""
        long.check()
        try:
            with closing(self._another(self.login)) as other:
                call, line = other.prepare("system.ping", {})
                for _ in other.progress(call, long.lengthened(line), TRIAL_SECONDS):
                    pass
                call.result()
        except Exception as exc:
            long.judge(exc)

    def progress(self, call: Call, line: bytes, timeout: float | None) -> Iterator[Progress]:
        """Make a call; yield its progress until it is answered."""
        deadline = _deadline(timeout)
        self._out.put(line)
        while not (call.done and not call.progress):
            self._wait(lambda: call.news or None, deadline)
            while call.progress:
                yield call.progress.popleft()

    def abandon(self, call: Call) -> None:
        """Cancel a call whose result nobody wants; harmless if it has failed."""
        if line := locked(self._lock, lambda: self._core.abandon(call)):
            self._out.put(line)

    def notice(self, timeout: float | None) -> Notice | None:
        """Return the next notice, None when none came in time. Raises `ConnectionLost`."""
        try:
            return self._wait(self._core.take_notice, _deadline(timeout))
        except CallTimeout:
            return None

    def _wait(self, take: Callable[[], T | None], deadline: float | None) -> T:
        """Return what ``take`` returns once that is not None; read for all threads while no other does. What
        has already arrived is read even with no time left, so a caller with a timeout of 0 gets it.
        """
        me = threading.get_ident()
        looked = False
        try:
            while (taken := self._take_or_be_reader(take, deadline, me)) is None:
                self._read(_remaining(deadline) if looked else time_left(deadline))
                looked = True
            return taken
        finally:
            if self._reader == me:  # it was interrupted, or has no time left
                self._reader = None
                self._wake()

    def _take_or_be_reader(
        self, take: Callable[[], T | None], deadline: float | None, me: int
    ) -> T | None:
        """Return what ``take`` returns, or None once no other thread reads and this one has to."""

        def look() -> T | None:
            while (taken := take()) is None:
                self._core.check()
                if self._reader in (None, me):
                    self._reader = me
                    return None
                remaining = _remaining(deadline)
                self._turn.wait(LOOK_EVERY if remaining is None else min(remaining, LOOK_EVERY))
            return taken

        return locked(self._lock, look)

    def _read(self, timeout: float | None) -> None:
        """Feed the core what arrives in time, and pass the reading on."""
        inbox = self._core.inbox
        wait = LOOK_EVERY if timeout is None else min(timeout, LOOK_EVERY)
        try:
            if len(inbox) == 1 and self._poll.poll(wait * 1000):
                # In C at once, as in `Outgoing`: no interrupt comes between the two, and no byte gets lost.
                inbox.extend(map(self._socket.recv, (READ_BYTES,)))
        except OSError:
            inbox.append(b"")
        if not inbox[-1]:
            self._look_why()
        if line := locked(self._lock, self._core.take_in):
            self._out.put(line)
        self._reader = None
        self._wake()

    def _look_why(self) -> None:
        """Find out whether the daemon has ended the connection because of our certificate."""
        if (fault := fault_of(self._socket)) and (why := said_of_certificate(fault)):
            locked(self._lock, lambda: self._core.lose(DaemonUnreachable(why), fault))

    def _wake(self) -> None:
        """Wake the other threads: they check for their answers, and one of them reads on."""
        locked(self._lock, self._turn.notify_all)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def time_left(deadline: float | None) -> float | None:
    """Return the seconds until ``deadline``, 0 when it has passed; None if there is none."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _remaining(deadline: float | None) -> float | None:
    """Return the seconds that are left. Raises `CallTimeout` when there are none."""
    if (left := time_left(deadline)) == 0:
        raise CallTimeout("no answer within the time given")
    return left
