# SPDX-License-Identifier: MIT
"""A control connection on asyncio's streams, shared by any number of tasks of one loop.

It has no task of its own: one of the waiting tasks reads for all of them, and passes the reading on when it
has what it waits for, or is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

from operatord_client.address import Address
from operatord_client.errors import CallTimeout, ConnectionLost, DaemonUnreachable
from operatord_client.notices import Notice, Progress

from . import forks
from .alerts import said_of_certificate
from .core import Call, Core, Login
from .long_lines import TRIAL_SECONDS, LongLine
from .sockets import open_streams

READ_BYTES = 256 * 1024
T = TypeVar("T")


class AsyncConnection:
    """Requests out; answers, progress and notices in."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        another: Callable[[Login | None], Awaitable[AsyncConnection]],
    ) -> None:
        """Own both streams; ``another`` makes another connection to the same daemon."""
        self.login: Login | None = None
        """The login for further connections to the same daemon."""
        self._reader = reader
        self._writer = writer
        self._another = another
        self._inherited = False
        self._core = Core()
        self._read_done: asyncio.Event | None = None
        """Set when the reading task has read; None while no task reads."""
        forks.note(self)

    @classmethod
    async def open(
        cls, address: Address, connect_timeout: float | None, login: Login | None = None
    ) -> Self:
        """Connect, and log in. Raises `DaemonUnreachable`, and what `converse` raises."""
        another = partial(cls.open, address, connect_timeout)
        connection = cls(*await open_streams(address, connect_timeout, DaemonUnreachable), another)
        if login is not None:
            try:
                await connection.converse("auth.login", login.params, login.timeout, bytes)
            except BaseException:
                await connection.close()
                raise
        connection.login = login
        return connection

    def after_fork(self) -> None:
        """After a fork, leave the connection to the parent: this process no longer uses it."""
        self._inherited = True
        self._core.lose(ConnectionLost(forks.INHERITED))
        forks.leave_alone((self._reader, self._writer))

    async def close(self) -> None:
        """Cancel pending calls and disconnect; waiting tasks get `ConnectionLost`. May be called again."""
        if self._inherited:
            return
        self._write(self._core.abandon_all())
        self._core.lose(ConnectionLost("the connection was closed here"))
        self._writer.close()
        with suppress(OSError):  # the peer was faster
            await self._writer.wait_closed()

    async def converse(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        take: Callable[[bytes], T],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> T:
        """Make a call and return what ``take`` makes of its result, which comes as JSON.

        On any error, including cancellation at any moment, the call is cancelled at the daemon. Raises its
        `WireError`, `CallTimeout`, `ConnectionLost`, `UnsendableRequest`, and what ``take`` and
        ``on_progress`` raise.
        """
        call, line = await self.prepare(method, params)
        try:
            async for progress in self.progress(call, line, timeout):
                if on_progress is not None:
                    on_progress(progress)
            return take(call.result())
        except BaseException:
            self.abandon(call)
            raise

    async def prepare(self, method: str, params: Mapping[str, Any]) -> tuple[Call, bytes]:
        """Return a call and the line that makes it. Raises `ConnectionLost`, `UnsendableRequest`.

        Nothing has gone out. The caller has to `abandon` what it leaves unfinished.
        """
        try:
            return self._request(method, params)
        except LongLine as exc:
            await self._try(exc)
            self._core.line_bytes = exc.length
        return self._request(method, params)

    def _request(self, method: str, params: Mapping[str, Any]) -> tuple[Call, bytes]:
        self._core.check()
        return self._core.request(method, params)

    async def _try(self, long: LongLine) -> None:
        """Test on another connection whether the daemon accepts such a long line. Raises
        `UnsendableRequest`."""
        long.check()
        try:
            other = await self._another(self.login)
            try:
                call, line = await other.prepare("system.ping", {})
                async for _ in other.progress(call, long.lengthened(line), TRIAL_SECONDS):
                    pass
                call.result()
            finally:
                await other.close()
        except Exception as exc:
            long.judge(exc)

    async def progress(
        self, call: Call, line: bytes, timeout: float | None
    ) -> AsyncIterator[Progress]:
        """Make a call; yield its progress until it is answered."""
        deadline = _deadline(timeout)
        self._write(line)
        while not (call.done and not call.progress):
            await self._wait(lambda: call.news or None, deadline)
            while call.progress:
                yield call.progress.popleft()

    def abandon(self, call: Call) -> None:
        """Cancel a call whose result nobody wants; harmless if it has failed."""
        self._write(self._core.abandon(call))

    def _write(self, line: bytes) -> None:
        if line and not self._inherited and not self._writer.is_closing():
            self._writer.write(line)

    async def notice(self, timeout: float | None) -> Notice | None:
        """Return the next notice, None when none came in time. Raises `ConnectionLost`."""
        try:
            return await self._wait(self._core.take_notice, _deadline(timeout))
        except CallTimeout:
            return None

    async def _wait(self, take: Callable[[], T | None], deadline: float | None) -> T:
        """Return what ``take`` returns once that is not None; read for all tasks while no other does."""
        try:
            async with asyncio.timeout_at(deadline):
                while (taken := take()) is None:
                    self._core.check()
                    await (self._read() if self._read_done is None else self._read_done.wait())
                return taken
        except TimeoutError as exc:
            raise CallTimeout("no answer within the time given") from exc

    async def _read(self) -> None:
        done = self._read_done = asyncio.Event()
        try:
            self._write(self._core.feed(await self._receive()))
        finally:
            self._read_done = None
            done.set()

    async def _receive(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError as exc:
            if why := said_of_certificate(exc):
                self._core.lose(DaemonUnreachable(why), exc)
            return b""


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else asyncio.get_running_loop().time() + timeout
