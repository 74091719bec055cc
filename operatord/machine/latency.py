# SPDX-License-Identifier: MIT
"""Keeps the daemon responsive on a machine whose cores are all taken by the stages it starts.

Since 6.12, Linux lets a thread say how long it would like to run in one go (`sched_setattr(2)`, where
``sched_runtime`` of an ordinary thread is its slice). A short one moves its turn forward and is given to
anybody who asks: its share of the processor stays what it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import struct
import sys
from collections.abc import Iterator

SLICE = 100_000
"""Nanoseconds: the least that the kernel takes. In bursts of 30 starts on two cores, pings took 16.6 instead
of 18.8 ms at their 99th percentile (the medians of five bursts each, in turn)."""

_SET = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""Numbers of `sched_setattr(2)` (asm/unistd.h); C libraries know it by name since glibc 2.41 only."""
_RESET_ON_FORK = 0x01
_ATTRIBUTES = "=IIQiIQQQ"
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period."""


def ask_for_short_slices() -> bool:
    """Have the calling thread take turns sooner, and shorter ones; tell whether the kernel was asked.

    Threads and processes that it starts are as if it had not been called. A thread that was given a policy
    or precedence of its own keeps it, and kernels before 6.12 take no notice.
    """
    number = _SET.get(platform.machine())
    if number is None or sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if os.sched_getscheduler(0) != os.SCHED_OTHER or nice < 0:
        return False  # children would lose the precedence
    size = struct.calcsize(_ATTRIBUTES)
    attributes = struct.pack(
        _ATTRIBUTES, size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, SLICE, 0, 0
    )
    failed: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return not failed


def keep_collections_short() -> None:
    """Exclude everything loaded so far from garbage collection. It lives as long as the process; each look at
    it took 30 ms, in which nobody was answered.
    """
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Stop the garbage collector while a large file is parsed: it would look at all of it each time.

    For a file of 256 KiB, that took 0.17 s, in which nobody was answered. What is parsed goes without it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
