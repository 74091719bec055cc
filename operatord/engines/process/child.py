# SPDX-License-Identifier: MIT
"""One process group: how it is started, what it writes, how it ends.

The end is learnt from a pidfd, which becomes readable when the group's leader has ended and before anybody
has waited for it. Until then its process id cannot be reused, so this is the moment to kill what it left
behind: like a container, a stage ends as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

import msgspec
import psutil

from operatord.engines.base import (
    DESCRIPTORS_GONE,
    EngineUnavailable,
    NoDescriptors,
    NotThere,
    StageRefused,
    StageStats,
)
from operatord.engines.logs import LogBook, TruncatingSplitter

from .pace import Pace

_OPEN_FILES = 4096
_READ_BYTES = 4 * 1024
"""Bytes of output that are read at a time. If all were line ends, they would take some milliseconds."""
_DRAIN_SECONDS = 1.0
"""How long output is read after the end, when a process that left the group holds the pipe open."""
_DATA_SHARE = 4
"""RLIMIT_DATA as a multiple of the plan's memory. It counts writable address space, of which
CPython takes 8 MiB for each thread's stack (measured: 5 MB idle, 171 MB with 20 threads) without
ever touching most of it; at the plan's own size it would end healthy servers."""
_LISTS_CHILDREN = Path("/proc/thread-self/children").exists()
"""Whether the kernel lists children (CONFIG_PROC_CHILDREN)."""


class ChildCommand(msgspec.Struct, frozen=True):
    """What is to be run. ``memory`` in bytes; ``env`` is the whole environment."""

    argv: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    memory: int
    stdin: bool


class Child:
    """A running process group, of which the started process is the leader.

    A descendant that makes a session of its own leaves the group and is not found again.
    """

    def __init__(self, start: ChildCommand, book: LogBook, on_end: Callable[[int], None]) -> None:
        """Start it. ``on_end`` gets the exit code once all output has been read.

        Raises `StageRefused`, `NoDescriptors`.
        """
        self._loop = asyncio.get_running_loop()
        self._book = book
        self._on_end = on_end
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self.ended_at: float | None = None
        """In seconds since the epoch."""
        self.spoken = 0
        """How often it has been heard to write something."""
        self._popen = _spawn(start)
        self.pid = self._popen.pid
        self.pid_time = psutil.Process(self.pid).create_time()
        self._pidfd = _pidfd_of(self._popen)
        self._outputs = [
            _Output(self._popen.stdout, self._writer("stdout"), self._settle),
            _Output(self._popen.stderr, self._writer("stderr"), self._settle),
        ]
        self._loop.add_reader(self._pidfd, self._leader_ended)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.done()

    @property
    def input_closed(self) -> bool:
        """Whether nothing more can be written to it."""
        return self._popen.stdin is None or self._popen.stdin.closed

    def write(self, data: bytes) -> None:
        """Write to its standard input. Raises `NotThere`."""
        try:
            if self.input_closed:
                raise BrokenPipeError
            assert self._popen.stdin is not None
            self._popen.stdin.write(data)
            self._popen.stdin.flush()
        except OSError as exc:
            raise NotThere("the stage is not there any more") from exc

    def close_input(self) -> None:
        """Close its input, of which it reads the end. Idempotent."""
        if self._popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it has not ended."""
        if not self.ended.done():
            signal_group(self.pid, number)

    def let_go(self) -> None:
        """Stop watching, and leave it to the guard; if that is gone too, a later daemon finds it."""
        if not self.ended.done():
            self._unwatch()
            self._popen.returncode = 0  # or it would be reported as never waited for
        self._close_pipes()

    def _writer(self, name: Literal["stdout", "stderr"]) -> Callable[[Sequence[str]], None]:
        def write(lines: Sequence[str]) -> None:
            self.spoken += 1
            self._book.write(name, *lines)

        return write

    def _leader_ended(self) -> None:
        signal_group(self.pid, signal.SIGKILL)
        self._unwatch()
        code = self._popen.wait()
        self.ended_at = time.time()
        self.ended.set_result(code if code >= 0 else 128 - code)
        for output in self._outputs:
            output.hurry()
        self._loop.call_later(_DRAIN_SECONDS, self._close_pipes)
        self._settle()

    def _settle(self) -> None:
        """Once the leader has ended and all it wrote has been read, say so."""
        if self.ended.done() and all(output.closed for output in self._outputs):
            self._close_pipes()
            self._book.close()
            self._on_end(self.ended.result())
            self._on_end = _nothing

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)

    def _close_pipes(self) -> None:
        for output in self._outputs:
            output.close()
        if self._popen.stdin is not None:
            self._popen.stdin.close()


class ChildInput:
    """The standard input of a child, as `base.Input`."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def closed(self) -> bool:
        """Whether the process has ended, or its input was closed."""
        return self._child.ended.done() or self._child.input_closed

    @property
    def stirred(self) -> None:
        """Nobody tells."""
        return None

    @property
    def spoken(self) -> int:
        """How often the process has been heard to write something."""
        return self._child.spoken

    def send(self, data: bytes) -> None:
        """Write a few lines, which a pipe always has room for. Raises `NotThere`."""
        self._child.write(data)

    def close(self) -> None:
        """Close it: the stage reads the end. Idempotent."""
        self._child.close_input()


class _Output:
    """The reading end of one of the two pipes."""

    def __init__(
        self,
        pipe: IO[bytes] | None,
        write: Callable[[Sequence[str]], None],
        on_end: Callable[[], None],
    ) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._write = write
        self._on_end = on_end
        self._splitter = TruncatingSplitter()
        self._loop = asyncio.get_running_loop()
        self._pace: Pace | None = Pace(self._loop.time())
        self._resting: asyncio.TimerHandle | None = None
        os.set_blocking(pipe.fileno(), False)
        self._listen()

    @property
    def closed(self) -> bool:
        return self._pipe.closed

    def close(self) -> None:
        """Read no more. Idempotent."""
        if self.closed:
            return
        self._stop_listening()
        self._pipe.close()
        self._take(self._splitter.flush())
        self._on_end()

    def hurry(self) -> None:
        """Read what is left in the pipe without pauses: nobody writes any more."""
        self._pace = None
        if self._resting is not None:
            self._listen()

    def _listen(self) -> None:
        self._stop_listening()
        self._loop.add_reader(self._pipe.fileno(), self._read)

    def _stop_listening(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self._loop.remove_reader(self._pipe.fileno())

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        lines = self._splitter.feed(data)
        self._take(lines)
        if self._pace is not None:
            self._rest(self._pace.rest(len(lines), len(data), self._loop.time()))

    def _rest(self, seconds: float) -> None:
        """Leave the pipe alone for so long, so that its writer has to wait once it is full."""
        if seconds > 0:
            self._stop_listening()
            self._resting = self._loop.call_later(seconds, self._listen)

    def _take(self, lines: Sequence[str]) -> None:
        if lines:
            self._write(lines)


def _nothing(_: int) -> None:
    """Stand in for a callback that has been called."""


def _pidfd_of(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError as exc:
        signal_group(popen.pid, signal.SIGKILL)
        popen.communicate()
        raise NoDescriptors from exc


def _spawn(start: ChildCommand) -> subprocess.Popen[bytes]:
    try:
        popen = subprocess.Popen(
            list(start.argv),
            env=dict(start.env),
            cwd=start.directory,
            stdin=subprocess.PIPE if start.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=0o077,
        )
    except (OSError, ValueError) as exc:
        if getattr(exc, "errno", None) in DESCRIPTORS_GONE:
            raise NoDescriptors from exc
        raise StageRefused(f"{Path(start.argv[0]).name} cannot be run") from exc
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended already
        _limit(popen.pid, start.memory)
    return popen


def _limit(pid: int, memory: int) -> None:
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, files))
    resource.prlimit(pid, resource.RLIMIT_DATA, (memory * _DATA_SHARE, memory * _DATA_SHARE))


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process group; one that is empty is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


async def end_leftover(process: psutil.Process, grace: float, timeout: float) -> None:
    """End the group of a process that is no child of ours: SIGTERM, and after ``grace`` SIGKILL.

    The pidfd is opened before the last check of the identity, so the checked process is the one that is
    awaited. Raises `EngineUnavailable` when it survives for ``timeout`` seconds.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, timeout)):
            if seconds > 0 and process.is_running():
                signal_group(process.pid, number)
                if await _readable(pidfd, seconds):
                    signal_group(process.pid, signal.SIGKILL)  # what it left behind
                    return
    finally:
        os.close(pidfd)
    if process.is_running():
        raise EngineUnavailable(f"process {process.pid} is stuck: it survives SIGKILL")


async def ends_within(pid: int, seconds: float) -> bool:
    """Tell whether a child of ours, which has not been waited for, ends in time."""
    pidfd = os.pidfd_open(pid)
    try:
        return await _readable(pidfd, seconds)
    finally:
        os.close(pidfd)


async def _readable(descriptor: int, timeout: float) -> bool:
    """Tell whether a descriptor becomes readable within ``timeout`` seconds."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        async with asyncio.timeout(timeout):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return what ``process`` has started, and what that has. Raises `psutil.Error` when it is gone.

    The kernel lists the children of each thread (proc(5)); psutil reads the entry of every process of the
    machine, some milliseconds for which everybody waits. It is asked where the kernel has no such lists.
    """
    if not _LISTS_CHILDREN:
        return process.children(recursive=True)
    found, unseen = [], [process.pid]
    while unseen:
        children = _children(unseen.pop())
        unseen += children
        for pid in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
    return found


def _children(pid: int) -> list[int]:
    """Return the living children of ``pid``; none if it is gone."""
    found: list[int] = []
    for lists in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, lists.read_text().split())
    return found


def group_stats(process: psutil.Process) -> StageStats:
    """Measure a process with all its descendants. Raises `psutil.Error` when it is gone."""
    members = [process, *_descendants(process)]
    seconds, memory = 0.0, 0
    for member in members:
        with contextlib.suppress(psutil.Error):  # it ended while it was looked at
            times = member.cpu_times()
            seconds += times.user + times.system
            memory += member.memory_info().rss
    return StageStats(cpu_seconds=seconds, memory=memory, pids=len(members))
