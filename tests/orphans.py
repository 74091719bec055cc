# SPDX-License-Identifier: MIT
"""What tests have started ends with the process that ran them, however that ends.

A worker of ``pytest -n`` that does not end in time after Ctrl-C is killed, and so may be all of pytest. Then
no fixture cleans up, and daemons, engines and programs that keep the cores busy would run on. ``begin`` marks
the environment, which is handed on to whatever is started, and has a process of its own
wait for the end of this one:

    python -IS orphans.py MARK

The kernel's ``PR_SET_PDEATHSIG`` goes by thread, and reaches only what was started without anything between.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "TESTS_RUN"
"""In the environment of all that a process of pytest starts: which one it was."""
GRACE = 20.0
"""Seconds in which what is left may end by itself, after SIGTERM: a daemon takes its sessions along."""
ROUNDS = 3
"""Looks in a row that have to find nothing: what is being started has its environment a moment later."""
PAUSE = 0.05
"""Seconds between two looks."""


def begin() -> subprocess.Popen[bytes]:
    """From now on, let whatever this process starts end with it; close ``stdin`` to have it done at once."""
    os.environ[VARIABLE] = mark = secrets.token_hex(8)
    return subprocess.Popen(
        [sys.executable, "-IS", __file__, f"{VARIABLE}={mark}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,  # no terminal's signals reach it
    )


def main(mark: str) -> None:
    """Wait for the end of input, and end whatever has ``mark`` in its environment."""
    sys.stdin.buffer.read()
    asked: set[int] = set()
    clean, deadline = 0, time.monotonic() + GRACE
    while clean < ROUNDS:
        clean += 1
        for pid in marked(mark.encode()):
            clean = 0
            late = time.monotonic() > deadline
            if late or pid not in asked:
                asked.add(pid)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(PAUSE)


def marked(mark: bytes) -> Iterator[int]:
    """Find the processes that have the variable ``mark``; the dead have none."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it is not ours, or gone
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


if __name__ == "__main__":
    main(sys.argv[1])
