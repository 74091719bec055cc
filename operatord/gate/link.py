# SPDX-License-Identifier: MIT
"""The daemon's end of the gate: its process, started for the first door, and what is said to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from operatord.machine.processes import end, identify

from .program import SOCKET
from .vigil import Hung, Vigil

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("program")
FAREWELL = 2.0
"""Seconds that are waited for the end of one that has nothing more to do."""
REAPS = 100
"""Looks in this time at whether it has ended."""
_LINE = 16 * 1024 * 1024
_CREDENTIALS = struct.Struct("3i")

Event = Callable[[dict[str, Any]], None]
Lost = Callable[[str], None]
"""Hears what became of the gate, as the end of a sentence about it."""


class GateFailed(Exception):
    """The gate did not do what it was asked for. The text is for whoever asked for a stream."""


class GateGone(GateFailed):
    """Nobody knows whether it did: it has ended, or hangs."""


class Gate:
    """One gate of one daemon."""

    def __init__(
        self,
        directory: Path,
        heard: Event,
        lost: Lost,
        secure: Callable[[], None] = lambda: None,
    ) -> None:
        """Find it in the state directory; nothing is started yet.

        ``heard`` is told what it says unasked; ``lost`` is called when it has ended by itself, or hung.
        ``secure`` is to put the directory back if it was deleted, and raises `OSError`.
        """
        self._directory, self._secure = directory, secure
        self._heard, self._lost = heard, lost
        self._turn = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[dict[str, Any]]] = deque()
        self._pid = 0
        self._ends = False
        """It is ended by us."""
        self._hung = False
        """It is ended because it hangs, which is still to be told."""

    @property
    def is_connected(self) -> bool:
        """Whether this daemon has one."""
        return self._writer is not None

    @property
    def is_there(self) -> bool:
        """Whether a gate runs that this daemon has, or an earlier one has left."""
        return self._writer is not None or self.was_left()

    def was_left(self) -> bool:
        """Tell whether an earlier daemon has left one that is there; remove what is left of another."""
        try:
            if (sock := self._found()) is not None:
                sock.close()
                return True
            (self._directory / SOCKET).unlink(missing_ok=True)
        except OSError as exc:
            log.warning("nobody knows whether there is a gate: %s", exc)
        return False

    async def ask(self, line: dict[str, Any]) -> dict[str, Any]:
        """Say a line, to a gate that is started if there is none; return the answer. Raises `GateFailed`."""
        try:
            async with Vigil(lambda: self._pid):
                async with self._turn:
                    writer = self._writer or await self._connected()
                answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                self._waiting.append(answer)
                writer.write(json.dumps(line).encode() + b"\n")
                said = await answer
        except Hung as exc:
            await self._replace(str(exc))
            raise GateGone("the gate for streams hung and is restarted; ask again") from exc
        if not said["ok"]:
            raise GateFailed(str(said["error"]))
        return said

    async def close(self, *, leave: bool) -> None:
        """Let go of it; unless it is to be left to the next daemon, end it. Idempotent."""
        self._ends = True
        if self._writer is not None and not leave:
            with contextlib.suppress(GateFailed):
                await self.ask({"do": "end"})
                await self._ended()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        self._let_go()

    async def _ended(self) -> None:
        """Return when it has ended, or has had the time for it."""
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=FAREWELL)

    # The connection

    async def _connected(self) -> asyncio.StreamWriter:
        """Connect to the gate that is there, or to a new one. Raises `GateGone`."""
        try:
            sock = self._found() or self._started()
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LINE)
            try:
                hello = json.loads(await reader.readline())
            except BaseException:
                writer.close()
                raise
        except (OSError, ValueError) as exc:
            if self._pid:  # 0 stands for any child
                await _reap(self._pid)
            log.error("the gate cannot be started: %s", exc)
            text = "the gate for streams cannot be started here; the daemon's log says why"
            raise GateGone(text) from exc
        self._pid = hello["pid"]
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader))
        return writer

    def _found(self) -> socket.socket | None:
        """Return a connection to the gate of an earlier daemon, if there is one. Raises `OSError`."""
        self._secure()
        with self._place() as path:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.setblocking(False)
                sock.connect(path)
                self._pid = _CREDENTIALS.unpack(
                    sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                )[0]
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                return None
            except BaseException:
                sock.close()
                raise
        return sock

    def _started(self) -> socket.socket:
        """Start a gate, and return a connection to it. Raises `OSError`."""
        with self._place() as path, socket.socket(socket.AF_UNIX) as listener:
            Path(path).unlink(missing_ok=True)
            listener.bind(path)
            Path(path).chmod(0o600)
            listener.listen()
            popen = subprocess.Popen(
                [sys.executable, "-IS", str(PROGRAM), str(self._directory)],
                stdin=listener.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # no terminal's signals reach it
            )
            popen.returncode = 0  # or it would be reported as never waited for, which `_reap` does
            self._pid = popen.pid
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.setblocking(False)
                sock.connect(path)
            except BaseException:
                sock.close()
                raise
        return sock

    @contextlib.contextmanager
    def _place(self) -> Iterator[str]:
        """Yield a short path of the socket: a long one does not fit into an address. Raises `OSError`."""
        descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}/{SOCKET}"
        finally:
            os.close(descriptor)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take what it says, until it ends."""
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                said = json.loads(line)
                if "event" in said:
                    self._heard(said)
                elif self._waiting and not (answer := self._waiting.popleft()).done():
                    answer.set_result(said)
        self._let_go()
        await _reap(self._pid)
        if not (self._ends or self._hung):
            self._lost("has ended by itself")

    def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(GateGone("the gate for streams has ended; ask again"))
                answer.exception()  # whoever waited may have gone

    async def _replace(self, why: str) -> None:
        """End a gate that hangs, and say so; what reads from it sees that."""
        hung, self._hung = self._pid, True
        with contextlib.suppress(psutil.Error):
            if hung:
                await end(identify(hung), at_once=True)
        await self._ended()
        told, self._hung = not self._hung, False
        if not (told or self._ends):
            self._lost(why)


async def _reap(pid: int) -> None:
    """Wait for the end of one that has let go of its connection, most likely because it ends."""
    with contextlib.suppress(ChildProcessError):  # one that an earlier daemon has started
        for _ in range(REAPS):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):  # noqa: ASYNC222  # it does not wait
                return
            await asyncio.sleep(FAREWELL / REAPS)
