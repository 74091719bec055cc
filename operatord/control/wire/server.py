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
from typing import Any

from operatord.access.doors import Auth
from operatord.access.identity import ANONYMOUS
from operatord.access.origin import Entrance, Origin, origin_at
from operatord.control.peer import Services
from operatord_protocol.errors import TooManyRequests

from .connection import Connection
from .handshakes import Handshakes
from .intake import Intake
from .listener import Listener, Tls, bound
from .places import Places
from .turns import Turns
from .unread import Unread


class Server:
    """Listens on TCP and, when asked, on a Unix socket."""

    def __init__(self, services: Services) -> None:
        """Answer with ``services``."""
        self.services = services
        self.turns = Turns()
        self.intake = Intake(lambda: self.turns.is_behind)
        self.unread = Unread(lambda: int(services.config.limits.output_total))
        self._listeners: list[Listener] = []
        self._handed_over: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self.places: Places[Connection] = Places(
            lambda: services.config.limits, _raised_descriptor_limit(), self._give_way
        )
        self._handshakes = Handshakes(
            self.places.of, lambda: services.config.limits.connections_per_address
        )
        self._turned_away: deque[Connection] = deque()
        self._serial = 0
        self._unix: dict[Path, int] = {}
        """The Unix sockets and their inode numbers: another program's later socket at a path is left
        alone."""

    def hand_over(self, sockets: Iterable[socket.socket]) -> None:
        """Use sockets that others made: listeners at their addresses use them, with the listener's rules.
        They stay when this server has ended.
        """
        self._handed_over = list(sockets)

    async def listen(
        self, host: str, port: int, auth: Auth | None = None, place: int | None = None
    ) -> tuple[str, int]:
        """Listen on TCP and return the address; port 0 lets the system choose. Raises `OSError`.

        ``auth`` is how those who connect say who they are; ``place`` is that of the listener among the
        `listeners` of the settings.
        """
        socks = await self.bound(host, port)
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

    def client_of_gateway(
        self, source: Origin, entrance: Entrance, auth: Auth | None
    ) -> Connection:
        """Return what a connection that the gateway makes for a client becomes the transport of.

        ``source`` is where the client comes from, ``entrance`` where it has connected to the gateway, and
        ``auth`` how it says who it is.
        """
        connection = Connection(self, auth)
        connection.source, connection.entrance = source, entrance
        return connection

    @property
    def crowded(self) -> bool:
        """Whether peers are to wait until they are taken."""
        return self.turns.crowded

    async def bound(self, host: str, port: int) -> list[socket.socket]:
        """Return sockets for a listener of another process, handed over ones where there are. Raises
        `OSError`."""
        socks = await bound(host, port, self._handed_over)
        self._handed_over = [each for each in self._handed_over if each not in socks]
        return socks

    def listen_on_the_rest(self) -> None:
        """Listen on sockets that were handed over and are not in the settings, with the rules of `listen`."""
        rest, self._handed_over = self._handed_over, []
        self._listeners += [self._listener(sock) for sock in rest]

    def _listener(
        self, sock: socket.socket, auth: Auth | None = None, place: int | None = None
    ) -> Listener:
        return Listener(
            sock,
            lambda: Connection(self, auth, place),
            lambda: self.turns.crowded,
            self._tls(place),
        )

    def _tls(self, place: int | None) -> Tls | None:
        """Return the TLS context of the listener at that place; None without TLS, which no reload changes."""
        known = self.services.logins
        if place is None or known.known.contexts[place] is None:
            return None

        def context() -> ssl.SSLContext:
            found = known.known.contexts[place]
            assert found is not None
            return found

        return Tls(context, self._shakes_hands, self._note_no_tls)

    def _shakes_hands(self, address: Any, task: asyncio.Task[Any], descriptor: int) -> None:
        network = origin_at(address).network
        self._handshakes.begin(network, task, crowded=descriptor >= self.places.highest)

    def _note_no_tls(self, address: Any, exc: ssl.SSLError) -> None:
        why = f"no TLS: {exc.reason}"
        self.services.audit.refused(ANONYMOUS, origin_at(address), why=why)

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    def opened(self, connection: Connection) -> int:
        """Return a number for the connection. Raises `TooManyRequests`, which it is to be told."""
        try:
            self.places.take(connection)
        except TooManyRequests:
            self._let_linger(connection)
            raise
        self._serial += 1
        self._connections.add(connection)
        return self._serial

    def _give_way(self, connection: Connection) -> None:
        """End a connection whose place another one needs."""
        self._connections.remove(connection)
        self._let_linger(connection)
        connection.give_way()

    def _let_linger(self, connection: Connection) -> None:
        """Allow a few peers that have no place to read why."""
        self._turned_away.append(connection)
        if len(self._turned_away) > self.services.config.limits.refused:
            self._turned_away.popleft().end()

    def known(self, connection: Connection) -> None:
        """Hear that it is known who a connection is."""
        self.places.keep(connection)

    def closed(self, connection: Connection) -> None:
        """Forget the connection. Idempotent."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.places.free(connection)
        with contextlib.suppress(ValueError):
            self._turned_away.remove(connection)

    def look_again(self) -> None:
        """End connections whose login is no longer valid: a token was revoked, or is now required."""
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
            raise FileExistsError(errno.EEXIST, "exists, and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(str(path))
        raise OSError(errno.EADDRINUSE, "another daemon listens on it")
    path.unlink()
