# SPDX-License-Identifier: MIT
"""The listening sockets, and the set of connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
import stat
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from operatord.access.doors import Auth
from operatord.access.identity import ANONYMOUS
from operatord.access.origin import Origin
from operatord.control.peer import Services
from operatord_protocol.errors import TooManyRequests

from .connection import Connection
from .intake import Intake
from .listener import Listener, bound
from .origins import Origins
from .turns import Turns
from .unread import Unread

RESERVE = 80
"""File descriptors that connections leave for the daemon's own work: engine, logs, verification, and to start
a session, which takes some forty with local processes. `limits.refused` come on top of it."""


class Server:
    """Listens on TCP and, when asked, on a Unix socket."""

    def __init__(self, services: Services) -> None:
        """Answer with ``services``."""
        self.services = services
        self.turns = Turns()
        self.intake = Intake()
        self.unread = Unread(lambda: int(services.config.limits.output_total))
        self._listeners: list[Listener] = []
        self._handed_over: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._origins = Origins()
        self._turned_away: deque[Connection] = deque()
        self._serial = 0
        self._unix: dict[Path, int] = {}
        """The Unix sockets and their inode numbers: whoever else listens at a path later keeps theirs."""
        self._descriptors = _raised_descriptor_limit()

    def hand_over(self, sockets: Iterable[socket.socket]) -> None:
        """Have sockets that others made: what listens at their addresses listens on them, by its own rules.

        They stay for others when this server has ended.
        """
        self._handed_over = list(sockets)

    async def listen(
        self, host: str, port: int, auth: Auth | None = None, place: int | None = None
    ) -> tuple[str, int]:
        """Listen on TCP and return the address; port 0 lets the system choose. Raises `OSError`.

        ``auth`` is how those who connect say who they are; ``place`` is that of the listener among the
        `listeners` of the settings.
        """
        socks = await bound(host, port, self._handed_over)
        self._handed_over = [each for each in self._handed_over if each not in socks]
        found = [self._listener(sock, auth, place) for sock in socks]
        self._listeners += found
        address: tuple[str, int] = found[0].address[:2]
        return address

    async def listen_unix(self, path: Path, auth: Auth | None = None) -> None:
        """Listen on a Unix socket, open to its owner and group. Raises `OSError`, naming ``path``."""
        for sock in self._handed_over:
            if sock.getsockname() == str(path):
                self._handed_over.remove(sock)
                self._listeners.append(self._listener(sock, auth))
                return
        try:
            sock, inode = _bound_unix(path)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, str(path)) from exc
        self._listeners.append(self._listener(sock, auth))
        self._unix[path] = inode

    def listen_on_the_rest(self) -> None:
        """Listen on what was handed over and is nowhere in the settings, by the rules of `listen`."""
        rest, self._handed_over = self._handed_over, []
        self._listeners += [self._listener(sock) for sock in rest]

    def _listener(
        self, sock: socket.socket, auth: Auth | None = None, place: int | None = None
    ) -> Listener:
        def context() -> ssl.SSLContext | None:
            return None if place is None else self.services.logins.known.contexts[place]

        def note(address: tuple[str, int], exc: ssl.SSLError) -> None:
            why = f"no TLS: {exc.reason}"
            self.services.audit.refused(ANONYMOUS, Origin(*address[:2]), why=why)

        return Listener(
            sock, lambda: Connection(self, auth), lambda: self.turns.crowded, context, note
        )

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    def opened(self, connection: Connection) -> int:
        """Return a number for the connection. Raises `TooManyRequests`, which it is to be told."""
        if why := self._too_many(connection):
            self._turned_away.append(connection)
            if len(self._turned_away) > self.services.config.limits.refused:
                self._turned_away.popleft().end()
            raise TooManyRequests(why, retry_after=1)
        self._serial += 1
        self._connections.add(connection)
        self._origins.add(connection.source.network)
        return self._serial

    def _too_many(self, connection: Connection) -> str | None:
        """Return why there is no room for a connection, if there is none.

        The system gives out the lowest descriptor that is free, so a high one tells how many are in use.
        """
        limits = self.services.config.limits
        if len(self._connections) >= limits.connections:
            return (
                f"there are {limits.connections} connections already: close some, or raise "
                "limits.connections"
            )
        reserve = RESERVE + limits.refused
        if connection.descriptor >= max(reserve, self._descriptors - reserve):
            return (
                "there are too many connections for the limit on open files, of which some are kept for "
                "sessions: close some, or raise it (LimitNOFILE, ulimit -n)"
            )
        most, origin = limits.connections_per_address, connection.source.network
        if most is not None and self._origins[origin] >= most:
            return (
                f"there are {most} connections from {origin} already: close some, or raise "
                "limits.connections_per_address"
            )
        return None

    def closed(self, connection: Connection) -> None:
        """Forget the connection. Idempotent."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._origins.remove(connection.source.network)
        with contextlib.suppress(ValueError):
            self._turned_away.remove(connection)

    def look_again(self) -> None:
        """End the connections that may not go on as who they are: a token was revoked, or is asked for."""
        for connection in tuple(self._connections):
            connection.look_again()

    def stop_listening(self) -> None:
        """Take no new connections. Idempotent."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        for path, inode in self._unix.items():
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_ino == inode:
                    path.unlink()
        self._unix.clear()

    async def close(self) -> None:
        """Stop listening and end every connection, what is written first."""
        self.stop_listening()
        for connection in (*self._connections, *self._turned_away):
            connection.end()
        await asyncio.sleep(0)


def _raised_descriptor_limit() -> int:
    """Raise this process's soft limit on descriptors to the hard one, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _bound_unix(path: Path) -> tuple[socket.socket, int]:
    """Return a socket that its owner and group may connect to, and its inode number. Raises `OSError`."""
    _remove_stale(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(0o660)
        return sock, path.lstat().st_ino
    except OSError:
        sock.close()
        raise


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more, and nothing else. Raises `OSError`."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "is there, and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(str(path))
        raise OSError(errno.EADDRINUSE, "another daemon listens on it")
    path.unlink()
