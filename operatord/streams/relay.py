# SPDX-License-Identifier: MIT
"""Makes a probe that only the host can reach reachable for containers.

A probe registered as 127.0.0.1, or as a container on somebody else's bridge, cannot be connected to from
a session's network. The relay listens on the host's address in that network and passes bytes on. It
lives as long as its session, and so longer than the daemon: it is a process (`relay_process`), which the
journal knows. Until that is written, it ends with the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import subprocess
import sys
from pathlib import Path
from typing import IO

from operatord.machine.processes import ProcessId, end, identify

from .relay_process import EARLY, STAY

PROGRAM = Path(__file__).with_name("relay_process.py")
OPEN_TIMEOUT = 10.0
"""Seconds in which the process has to listen; it takes a few hundredths of one."""

CANNOT_LISTEN = (
    "only the daemon's machine reaches the probe, and a relay there cannot listen on {host}, the engine's "
    "address in the session's network: the engine is on another machine, or the daemon in a network "
    "namespace of its own; register the probe with an address that the engine's host reaches, or run the "
    "daemon beside the engine"
)
"""The likely reason if the process ends at once: it can fail at nothing else."""


class Relay:
    """Connections to it become connections to the target."""

    def __init__(self, host: str, port: int, process: ProcessId | None = None) -> None:
        """Pass everything on to ``host``:``port``; ``process`` is an earlier daemon's relay that does so
        already."""
        self._target = (host, str(port))
        self.process = process
        """What it is known by, once there is one."""
        self._input: IO[bytes] | None = None

    async def open(self, host: str, *, early: bool = False) -> tuple[str, int]:
        """Listen on ``host`` and return the address. Raises `OSError`; `close` is needed even then.

        ``early``: the address may come to this machine later.
        """
        line = await _first_line(self._spawn(host, early))
        if not line.endswith(b"\n"):
            raise OSError(errno.EADDRNOTAVAIL, CANNOT_LISTEN.format(host=host))
        return host, int(line)

    def _spawn(self, host: str, early: bool) -> IO[bytes]:
        """Start the process and return its standard output. Raises `OSError`."""
        popen = subprocess.Popen(
            [sys.executable, "-IS", str(PROGRAM), host, *self._target, *([EARLY] if early else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # no terminal's signals reach it
        )
        self.process = identify(popen.pid)
        popen.returncode = 0  # or it would be reported as never waited for, which `close` does
        assert popen.stdout is not None
        self._input = popen.stdin
        return popen.stdout

    def stay(self) -> None:
        """Have the process outlive the daemon: the journal knows it now. Idempotent."""
        if self._input is not None:
            with contextlib.suppress(OSError):  # it is dead: its stages notice
                self._input.write(STAY)
                self._input.flush()
        self._let_go()

    async def close(self) -> None:
        """End listening and every connection. Idempotent."""
        self._let_go()
        if self.process is not None:
            await end(self.process)

    def _let_go(self) -> None:
        held, self._input = self._input, None
        if held is not None:
            with contextlib.suppress(OSError):  # what could not be written to the dead
                held.close()


async def _first_line(pipe: IO[bytes]) -> bytes:
    """Return the first line that comes through a pipe, or the rest, and close it. Raises `OSError`."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            return await reader.readline()
    except TimeoutError as exc:
        raise OSError(errno.ETIMEDOUT, "the relay to the probe did not begin to listen") from exc
    finally:
        transport.close()
