# SPDX-License-Identifier: MIT
"""The gate as a whole: its doors, and whether anybody needs it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import ssl
import time
import traceback
from pathlib import Path
from typing import Any

from . import SOCKET
from .control import Controls
from .doorway import Doorway
from .loop import Loop
from .terms import Terms

LINGER = 60.0
"""Seconds without a door and without a daemon after which it ends."""
LONELY = 3600.0
"""Seconds without a consumer and without a daemon after which it ends though it has doors: the next daemon
opens them again, at the same ports."""
LOOKS = 4
"""Times in these seconds that it looks whether anybody needs it."""

Files = tuple[str, str]


class GateServer:
    """Opens and closes doors as the daemon says."""

    def __init__(self, listener: socket.socket, directory: Path, linger: float) -> None:
        """Hear the daemon on ``listener``, which is bound in ``directory``."""
        self._loop = Loop(self._tell_broke)
        self._controls = Controls(listener, self._loop, self._answer, self._end_if_lost)
        self._path, self._inode = directory / SOCKET, _inode(directory / SOCKET)
        self._linger = linger
        self._needed = time.monotonic()
        self._doors: dict[str, Doorway] = {}
        self._closing: list[Doorway] = []
        self._contexts: dict[Files, ssl.SSLContext] = {}
        self._leaving = False

    def run(self) -> None:
        """Return once nobody needs it, or it is told to `leave`; its socket is gone then."""
        self._look()
        self._loop.run()
        if not self._is_lost:  # while it still listens, so that nobody else has bound another one
            self._path.unlink()

    def leave(self) -> None:
        """End now, with all streams; a handler of a signal may say so."""
        self._loop.call(self._end_now)

    def _end_now(self) -> None:
        self._loop.ended = True

    def _answer(self, said: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": True, **getattr(self, f"do_{said['do']}")(said)}
        except OSError as exc:
            return {"ok": False, "error": exc.strerror or str(exc)}
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            return {"ok": False, "error": f"not understood: {exc!r}"}

    def do_open(self, said: dict[str, Any]) -> dict[str, Any]:
        """Open a door, in place of one of that name, and return its port."""
        terms = Terms.read(said)
        context = None if terms.tls is None else self._context(terms.tls)
        self.do_close({"door": terms.name})
        door = Doorway(terms, self._loop, self._tell_refused, self._end_soon)
        door.context = context
        self._doors[terms.name] = door
        return {"port": door.terms.port}

    def do_close(self, said: dict[str, Any]) -> dict[str, Any]:
        """Close a door; those who read by it may finish."""
        if (door := self._doors.pop(said["door"], None)) is not None:
            door.close()
            self._closing.append(door)
        return {}

    def do_list(self, said: dict[str, Any]) -> dict[str, Any]:
        """Return the names and ports of all doors."""
        return {"doors": {name: door.terms.port for name, door in self._doors.items()}}

    def do_certificates(self, said: dict[str, Any]) -> dict[str, Any]:
        """Read the certificates anew: all, or none if one of them cannot be used."""
        fresh = {files: _context(files) for files in self._contexts}
        self._contexts = fresh
        for door in self._doors.values():
            if door.terms.tls is not None:
                door.context = fresh[door.terms.tls]
        return {}

    def do_end(self, said: dict[str, Any]) -> dict[str, Any]:
        """End as soon as nobody reads."""
        for name in tuple(self._doors):
            self.do_close({"door": name})
        self._leaving = True
        self._end_soon()
        return {}

    def _context(self, files: Files) -> ssl.SSLContext:
        """Return what TLS is spoken with. Raises `OSError`."""
        if files not in self._contexts:
            self._contexts[files] = _context(files)
        return self._contexts[files]

    def _tell_refused(self, terms: Terms, peer: str, why: str) -> None:
        self._controls.tell(event="refused", door=terms.name, peer=peer, why=why)

    def _tell_broke(self, exc: Exception) -> None:
        self._controls.tell(event="broke", why="".join(traceback.format_exception(exc)))

    # Whether anybody needs it

    def _look(self) -> None:
        self._loop.later(min(self._linger / LOOKS, 10.0), self._look)
        self._end_if_empty()
        self._end_if_lost()
        doors = (*self._doors.values(), *self._closing)
        if self._controls or any(not door.is_empty for door in doors):
            self._needed = time.monotonic()
        elif time.monotonic() - self._needed >= (LONELY if self._doors else self._linger):
            self._loop.ended = True

    def _end_if_lost(self) -> None:
        """Make way for another one if no daemon is there, and none will ever find this one."""
        if not self._controls and self._is_lost:
            self.do_end({})

    def _end_soon(self) -> None:
        self._loop.again(self._end_if_empty)

    def _end_if_empty(self) -> None:
        self._closing = [door for door in self._closing if not door.is_empty]
        if self._leaving and not self._closing:
            self._loop.ended = True

    @property
    def _is_lost(self) -> bool:
        """Whether its socket is not at its path any more."""
        return _inode(self._path) != self._inode


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _context(files: Files) -> ssl.SSLContext:
    """Return what TLS is spoken with. Raises `OSError`, which `ssl.SSLError` is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*files)
    return context


def main(directory: str, linger: str = str(LINGER)) -> None:
    """Serve on standard input, the Unix socket in ``directory``, until nobody needs it any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the daemon
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)
    server = GateServer(listener, Path(directory), float(linger))
    signal.signal(signal.SIGTERM, lambda number, frame: server.leave())
    server.run()
