# SPDX-License-Identifier: MIT
"""Blocking calls on behalf of coroutines: bounded lanes of threads, and streams read by a thread.

All threads are daemons and nothing ever joins them. A `ThreadPoolExecutor` joins its threads when
the interpreter exits, so one call that hangs in an engine would keep the daemon from ending
(cpython#111358). A thread that is left behind in a hung call ends with the process instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Protocol, TypeVar

from operatord.engines.base import EngineSilent, EngineUnavailable

T = TypeVar("T")

_CHUNKS_AHEAD = 64


class Lane:
    """Up to ``size`` threads that take calls in the order in which they come.

    Threads are made when calls wait and none is idle, and stay until `close`.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._size = size
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0
        self._closed = False

    async def run(self, call: Callable[[], T], timeout: float) -> T:
        """Return what ``call`` returns, or raise what it raises.

        ``timeout`` covers the wait for a thread too. A call that is cancelled or times out while it
        waits is never made; one that was begun goes on in its thread and its result is dropped.

        Raises `EngineSilent` after ``timeout`` seconds, `EngineUnavailable` when the lane is closed.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(lambda: _answer(future, call))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as exc:
            raise EngineSilent(f"the engine did not answer within {timeout:g} s") from exc

    def close(self) -> None:
        """End idle threads, and refuse further calls. Idempotent; waits for nobody."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in range(self._threads):
                self._queue.put(None)

    def _submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise EngineUnavailable("the connection to the engine is closed")
            self._unfinished += 1
            if self._unfinished > self._threads and self._threads < self._size:
                self._threads += 1
                name = f"{self.name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._queue.put(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
            with self._lock:
                self._unfinished -= 1


def _answer(future: asyncio.Future[T], call: Callable[[], T]) -> None:
    """Make the call, unless nobody waits for it any more, and pass its result to the event loop."""
    if future.done():
        return
    try:
        result = call()
    except Exception as exc:  # whatever a call raises belongs to its caller
        failure = exc
        _hand_over(future, lambda: future.set_exception(failure))
    else:
        _hand_over(future, lambda: future.set_result(result))


def _hand_over(future: asyncio.Future[T], settle: Callable[[], None]) -> None:
    def unless_done() -> None:
        if not future.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        future.get_loop().call_soon_threadsafe(unless_done)


class Source(Protocol):
    """Something that one thread reads chunks from and another thread can close."""

    def __iter__(self) -> Generator[bytes, None, None]:
        """Read to the end. Closing the generator gives back what the source holds."""
        ...

    def close(self) -> None:
        """End a read that is under way, from any thread. Idempotent."""
        ...


class _Reader:
    """One thread reading one source, a bounded number of chunks ahead of its consumer."""

    def __init__(self, open_source: Callable[[], Source]) -> None:
        self._open = open_source
        self._loop = asyncio.get_running_loop()
        self.chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.room = threading.Semaphore(_CHUNKS_AHEAD)
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._closed = False

    def run(self) -> None:
        """Read to the end (the thread's main function)."""
        try:
            source = self._open()
        except Exception as exc:  # it belongs to the consumer
            self._post(exc)
            return
        self._keep(source)
        with contextlib.closing(iter(source)) as chunks:
            self._copy(chunks)
        source.close()

    def close(self) -> None:
        """End the thread's read; it is not waited for."""
        with self._lock:
            self._closed = True
            source = self._source
        self.room.release()
        if source is not None:
            source.close()

    def _keep(self, source: Source) -> None:
        with self._lock:
            self._source = source
            closed = self._closed
        if closed:  # while it was being opened; what is read then ends at once
            source.close()

    def _copy(self, chunks: Iterator[bytes]) -> None:
        try:
            for chunk in chunks:
                self.room.acquire()
                if self._closed:
                    return
                self._post(chunk)
            self._post(None)
        except Exception as exc:  # it belongs to the consumer
            self._post(exc)

    def _post(self, item: bytes | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self.chunks.put_nowait, item)


async def read_in_thread(
    name: str, open_source: Callable[[], Source]
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a source that a thread of its own opens and reads.

    Ends when the source ends and raises what the source raises. When the iterator is closed, or a
    task cancelled in it, the source is closed at once, which frees the thread.
    """
    reader = _Reader(open_source)
    threading.Thread(target=reader.run, name=name, daemon=True).start()
    try:
        while (item := await reader.chunks.get()) is not None:
            if isinstance(item, Exception):
                raise item
            reader.room.release()
            yield item
    finally:
        reader.close()
