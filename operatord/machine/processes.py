# SPDX-License-Identifier: MIT
"""Processes that outlive the daemon that started them: how they are known again, and ended.

A process's number is used again. Together with its start time it is unique, so only a process that matches
both is ever signalled. If the clock was set since, no process matches, and none is signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Sequence
from typing import Annotated

import msgspec
import psutil

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
PATIENCE = 2.0
"""Seconds for which the end is waited for after SIGTERM, and once more after SIGKILL."""


class ProcessId(msgspec.Struct, frozen=True):
    """Identifies a process, and can be written down."""

    pid: Annotated[int, msgspec.Meta(gt=0, le=2**22)]
    """At most what the kernel's `PID_MAX_LIMIT` allows."""
    started: float
    """Seconds since the epoch (`psutil.Process.create_time`)."""


def identify(pid: int) -> ProcessId:
    """Return the identity of a process that exists. Raises `psutil.Error`."""
    return ProcessId(pid, psutil.Process(pid).create_time())


async def end(process: ProcessId, *, at_once: bool = False) -> None:
    """End a process, if it is still there, and reap it, if it is a child of ours. Idempotent.

    ``at_once``: it hangs, and would do nothing about SIGTERM.

    Returns when it has ended, or, with a word in the log, when it survives for twice `PATIENCE` or the daemon
    has no descriptor left to watch it with.
    """
    try:
        # Opened before the identity is checked, so the process that was checked is the one that is signalled.
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError as exc:
        log.error("process %d is left running: %s", process.pid, exc.strerror)
        return
    try:
        if _is_there(process):
            await _signal(pidfd, process.pid, (signal.SIGTERM, signal.SIGKILL)[at_once:])
    finally:
        os.close(pidfd)


def _is_there(process: ProcessId) -> bool:
    with contextlib.suppress(psutil.Error):
        return identify(process.pid) == process
    return False


async def _signal(pidfd: int, pid: int, numbers: Sequence[signal.Signals]) -> None:
    for number in numbers:
        with contextlib.suppress(OSError):  # it has just ended, or is not ours any more
            signal.pidfd_send_signal(pidfd, number)
        if await _has_ended(pidfd):
            break
    else:
        log.error("process %d is stuck: it survives SIGKILL", pid)
    _reap(pid)


def end_with_parent() -> None:
    """Have the kernel kill this process, even if it is stopped, when the thread that has started it ends
    (prctl(2), PR_SET_PDEATHSIG).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # one of an earlier life is init's child
        os.waitpid(pid, os.WNOHANG)


async def _has_ended(pidfd: int) -> bool:
    """Tell whether a process ends within `PATIENCE`."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True
