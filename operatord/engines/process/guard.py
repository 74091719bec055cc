# SPDX-License-Identifier: MIT
"""Stages that are local processes die with their daemon, even when it is killed. The kernel's own way,
``PR_SET_PDEATHSIG``, depends on the thread that started a process, reaches only that one process, and has to
be set between fork and exec, where a program with threads must not run Python. So a process of its own
(`guard_program`) holds one end of a pipe, whose other end closes with the daemon, and kills whatever has this
engine's mark in its environment.

If the guard is killed together with the daemon, stages go on until they write something, which nobody reads;
the next daemon, or `operatord sweep`, ends the rest by their records.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import subprocess
import sys
from pathlib import Path

from .child import ends_within
from .guard_program import NOTHING_LEFT

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("guard_program.py")
VARIABLE = "OPERATORD_GUARD"
"""The variable that marks the environment of a stage and of all processes that it starts."""
PATIENCE = 15.0
"""Seconds in which the program has killed all that it can."""


class Guard:
    """Sees to it that no process with its mark outlives this one."""

    def __init__(self) -> None:
        """Nothing runs before `watch`."""
        self._value = secrets.token_hex(8)
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def mark(self) -> dict[str, str]:
        """The variable that a process has in its environment to be guarded."""
        return {VARIABLE: self._value}

    def watch(self) -> None:
        """Start the guard program, unless it runs. Raises `OSError`."""
        if self._popen is not None and self._popen.poll() is None:
            return
        self._let_go()
        self._popen = subprocess.Popen(
            [sys.executable, "-IS", str(PROGRAM), f"{VARIABLE}={self._value}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # no terminal's signals reach it
        )

    async def close(self, anything_left: bool) -> None:
        """Kill what is left, if ``anything_left``; return when that is done. Idempotent."""
        popen = self._popen
        if popen is None:
            return
        if not anything_left:
            self._say(NOTHING_LEFT)
        self._let_go()
        if popen.poll() is None and not await ends_within(popen.pid, PATIENCE):
            log.error("process %d, which guards stages, does not end", popen.pid)
            popen.kill()
        popen.wait()
        self._popen = None

    def _say(self, line: bytes) -> None:
        assert self._popen is not None
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # it was killed
            self._popen.stdin.write(line)
            self._popen.stdin.flush()

    def _let_go(self) -> None:
        if self._popen is not None and self._popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()
