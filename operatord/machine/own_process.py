# SPDX-License-Identifier: MIT
"""What the daemon's own process uses, read so that it may be asked for at any time: it takes some tens of
microseconds, however many descriptors are open.
"""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path

import psutil

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")


def own_use() -> dict[str, float]:
    """Return bytes, processor seconds, descriptors and the start, by the end of their names in the table of
    families; what the system does not tell is left out.
    """
    found = {"cpu_seconds_total": time.process_time()}
    with contextlib.suppress(OSError, ValueError, LookupError):
        found["resident_memory_bytes"] = _resident()
    with contextlib.suppress(OSError, ValueError):
        found["open_fds"] = _descriptors()
        found["max_fds"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with contextlib.suppress(OSError, psutil.Error):
        found["start_time_seconds"] = _PROCESS.create_time()
    return found


def _resident() -> int:
    return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()


def _descriptors() -> int:
    """Since 6.2, Linux tells their number as the folder's size; before, they are listed."""
    return _DESCRIPTORS.stat().st_size or len(list(_DESCRIPTORS.iterdir())) - 1


_PROCESS = psutil.Process()
"""It keeps its start; a process that is forked off later has another, and no daemon is made by a fork."""
