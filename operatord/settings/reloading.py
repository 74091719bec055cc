# SPDX-License-Identifier: MIT
"""Reads the settings again while the daemon serves: in a thread, one reload after the other. Parsing a large
file takes seconds, and a disk or a name service may hang; only the client that asked should wait for that.
What is read takes effect in the order in which it was read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from operatord_protocol.errors import Conflict
from operatord_protocol.messages import Reloaded

from .config import Config, ConfigError, to_dict

log = logging.getLogger(__name__)

T = TypeVar("T")

NEEDS_RESTART = frozenset(
    [
        "listen",
        "unix",
        "listeners",
        "http",
        "engine",
        "docker_host",
        "docker_context",
        "docker_tls_verify",
        "docker_tls",
        "docker_cert_path",
        "state_dir",
        "subnets",
        "gpus",
        "log",
        "shutdown_timeout",
    ]
)
"""Settings that a reload cannot change."""


class Reloading(Generic[T]):
    """Reads settings and puts them into use, for one event loop."""

    def __init__(
        self,
        read: Callable[[], T],
        use: Callable[[T], Reloaded],
        around: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """``read`` is called in a thread, ``use`` in the event loop. Both may raise `Conflict`.

        ``around`` is entered before each reading, and left when its outcome is known.
        """
        self._read = read
        self._use = use
        self._around = around
        self._thread = ThreadPoolExecutor(1, "settings")
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Reloaded] | None = None
        """Has not begun to read."""
        self._tasks: set[asyncio.Task[Reloaded]] = set()
        self._closed = False

    async def reload(self) -> Reloaded:
        """Read the settings as they are now, or a moment later, and use them.

        All who ask before the next reading has begun share that reading. It goes on when they are cancelled.

        Raises `Conflict` if they cannot be used; then nothing changes, and the log says why, too.
        """
        return await asyncio.shield(self._next or self._begin())

    def reload_unasked(self) -> None:
        """Do the same for a signal."""
        if not self._closed and self._next is None:
            self._begin()

    def close(self) -> None:
        """Use nothing more of what is read. Idempotent."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> asyncio.Task[Reloaded]:
        self._next = task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Reloaded]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (exc := task.exception()) is None:
            return
        # Whoever has asked may be gone, or be a signal.
        if isinstance(exc, Conflict):
            log.error("%s%s", _file_at_fault(exc), exc.message)
        else:
            log.error("rereading the settings broke", exc_info=exc)

    async def _reload(self) -> Reloaded:
        async with self._turn:
            self._next = None  # who asks from now on may have changed the file just now
            with self._around():
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self._read)
                return self._use(found)


def _file_at_fault(refusal: Conflict) -> str:
    """Return how a line of the log about it begins: whoever asked is told no path of this machine."""
    cause = refusal.__cause__
    return f"{cause.path}: " if isinstance(cause, ConfigError) and cause.path else ""


def changed(before: Config, after: Config) -> list[str]:
    """Return which settings have changed. Raises `Conflict` if one of them needs a restart."""
    old, new = to_dict(before), to_dict(after)
    found = sorted(key for key in new if old[key] != new[key])
    if fixed := NEEDS_RESTART.intersection(found):
        raise Conflict(f"nothing was changed: {', '.join(sorted(fixed))} needs a restart")
    return found
