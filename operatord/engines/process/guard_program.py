# SPDX-License-Identifier: MIT
"""The process behind a `process_guard.Guard`: it kills what a dead daemon has left running.

    python -IS guard_program.py MARK

When its standard input ends, the daemon is gone. Then it kills every process whose environment holds MARK,
which stages pass on to everything they start. ``NOTHING_LEFT`` on the input means that it is not needed any
more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

PROCESSES = Path("/proc")
NOTHING_LEFT = b"nothing left\n"
ROUNDS = 3
"""Looks in a row that have to find nothing: a process that was being started when the daemon died has
its own environment a moment later."""
PAUSE = 0.05
"""Seconds between two looks."""
LONGEST = 10.0
"""Seconds after which it gives up on what survives SIGKILL."""


def main(mark: str) -> None:
    """Wait for the end of the daemon, and kill what it has left."""
    if os.read(0, len(NOTHING_LEFT)) == NOTHING_LEFT:
        return
    wanted = mark.encode()
    clean, deadline = 0, time.monotonic() + LONGEST
    while clean < ROUNDS and time.monotonic() < deadline:
        clean = 0 if kill_marked(wanted) else clean + 1
        time.sleep(PAUSE)


def kill_marked(mark: bytes) -> bool:
    """Kill every process that has the variable ``mark``; tell whether there was one."""
    found = False
    for process in PROCESSES.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it is not ours, or gone
                found = _kill_if_marked(int(process.name), mark) or found
    return found


def _kill_if_marked(pid: int, mark: bytes) -> bool:
    """Raises `OSError`."""
    descriptor = os.pidfd_open(
        pid
    )  # opened first, so the process that was checked is the one that is killed
    try:
        environment = (PROCESSES / str(pid) / "environ").read_bytes()
        if mark not in environment.split(b"\0"):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1])
