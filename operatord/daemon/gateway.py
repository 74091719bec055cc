# SPDX-License-Identifier: MIT
"""The daemon's end of the gateway: its process, started with the daemon, again when it ends, and ended.

It gets what it listens on, and a socket to the daemon, from here. Its death takes nothing along. The end of
the daemon, however it comes, closes that socket, and the gateway ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from operatord.machine.clock import Clock
from operatord.settings.config import Config
from operatord.settings.listeners import ListenerTls

from .passage import Announced, Passage

log = logging.getLogger(__name__)

NAME = "the gateway for HTTP"
"""What the log and `system.status` call it."""
COMMAND = (sys.executable, "-P", "-m", "operatord.cli", "gateway", "--from-daemon")
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds until it is started again, doubled each time in a row."""
SOUND = 60.0
"""Seconds after which one that has run so long begins a new row."""
LOOKS = 1.0
"""Seconds between two looks at whether what it was told is still so."""
HANGS = 30
"""Looks in a row without a sign of life, which comes every two seconds, until it is killed: a busy machine
takes some to start it. Looks are counted, not seconds, because the daemon may have been held up itself."""
FAREWELL = 5.0
"""Seconds that it has to end when it is told to."""


class GatewayMeans(NamedTuple):
    """What a gateway is given, and who hears of it."""

    sockets: Sequence[socket.socket]
    """Where it listens."""
    settings: Callable[[], dict[str, Any]]
    """Returns what it is told, as JSON, besides its sockets: at first, and whenever that has changed."""
    make: Callable[[Announced], asyncio.BaseProtocol]
    """Returns what serves a client whose connection is handed over."""
    crowded: Callable[[], bool]
    """Tells whether connections are to wait."""
    show: Callable[[str, str], None]
    """Shows in `system.status` what became of it: its name, and a sentence."""
    clock: Clock


class GatewayProcess:
    """One gateway after the other."""

    def __init__(self, means: GatewayMeans) -> None:
        """Nothing is started yet."""
        self._means = means
        self._control: socket.socket | None = None
        self._passage: Passage | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._said = b""
        self._silent = 0
        """Looks since its last sign of life."""
        self._ending = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def addresses(self) -> list[Any]:
        """Where it listens."""
        return [each.getsockname() for each in self._means.sockets]

    @property
    def pid(self) -> int | None:
        """The number of its process, if there is one."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Have a gateway, and another one when it ends, until `close`; then do nothing more."""
        pause, clock = FIRST_PAUSE, self._means.clock
        while not self._ending.is_set():
            begun = clock.now()
            why = await self._one()
            if self._ending.is_set():
                break
            pause = FIRST_PAUSE if clock.now() - begun >= SOUND else pause
            self._means.show(NAME, f"it {why}, and was started again")
            log.error("%s %s; it is started again in %g s, all else goes on", NAME, why, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        self._gone.set()
        await asyncio.get_running_loop().create_future()

    def stop_listening(self) -> None:
        """Take no more connections from it; it tells its clients. Idempotent."""
        if self._passage is not None:
            self._passage.shut()

    async def close(self) -> None:
        """End it, and what it listened on. Idempotent; `run` has to be under way."""
        self._ending.set()
        await self._gone.wait()
        for each in self._means.sockets:
            each.close()

    async def _one(self) -> str:
        """Start one and wait for its end; return how it has ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with ours:
            try:
                with theirs:
                    self._process = process = await self._started(theirs)
            except OSError as exc:
                return f"cannot be started: {exc.strerror}"
            self._passage = Passage(ours, self._means.make, self._means.crowded)
            self._control, self._said, self._silent = ours, b"", 0
            try:
                code = await self._ended(process)
            finally:
                self._passage.close()
                self._passage = self._control = self._process = None
        if self._silent >= HANGS:
            return "hung and was killed"
        return f"was ended by {_signal(-code)}" if code < 0 else f"ended with code {code}"

    async def _started(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        """Start a process that has ``theirs`` as its standard input. Raises `OSError`."""
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=theirs.fileno(),
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=[each.fileno() for each in self._means.sockets],
            cwd="/",
            start_new_session=True,  # no terminal's signals reach it
        )

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Tell it what changes, until it ends; return its exit code. When it is to end, see that it does."""
        end, ending = (
            asyncio.ensure_future(each) for each in (process.wait(), self._ending.wait())
        )
        try:
            while not (end.done() or ending.done() or self._hangs()):
                self.tell()
                await asyncio.wait(
                    (end, ending), timeout=LOOKS, return_when=asyncio.FIRST_COMPLETED
                )
            if self._silent >= HANGS:
                _kill(process)
            if not end.done() and self._control is not None:
                self._control.shutdown(socket.SHUT_RDWR)  # it sees that, and ends
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(end), FAREWELL)
            _kill(process)
            return await end
        finally:
            end.cancel()
            ending.cancel()

    def _hangs(self) -> bool:
        """Look for a sign of life; tell whether there was none for too long."""
        assert self._passage is not None
        self._silent = 0 if self._passage.heard() else self._silent + 1
        return self._silent >= HANGS

    def tell(self) -> None:
        """Tell it what it is to know, if that has changed."""
        sockets = [each.fileno() for each in self._means.sockets]
        said = json.dumps({"sockets": sockets, **self._means.settings()}).encode()
        if self._control is not None and said != self._said:
            with contextlib.suppress(OSError):  # it ends, or reads nothing just now
                self._control.send(said)
                self._said = said

    def reread(self) -> None:
        """Have it read its files again, whatever has changed."""
        self._said = b""
        self.tell()


def told(config: Config, *, ready: bool) -> dict[str, Any]:
    """Return what a gateway has to know, as JSON: of the settings, and whether sessions can be started."""
    http = config.http
    return {
        "hosts": [*http.hosts, http.address[0]],
        "tls": None if http.tls is None else absolute(http.tls),
        "body_bytes": config.limits.line_bytes,
        "ready": ready,
        "log": [config.log.level, config.log.format],
    }


def absolute(tls: ListenerTls) -> tuple[str, str, str | None]:
    """Return the files of certificate, key and authorities, wherever the process is that reads them."""
    cert, key = (str(Path(each).absolute()) for each in (tls.cert, tls.key))
    return cert, key, None if tls.client_ca is None else str(Path(tls.client_ca).absolute())


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
        process.kill()
