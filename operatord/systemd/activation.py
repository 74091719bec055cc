# SPDX-License-Identifier: MIT
"""Listening sockets that the service manager has made and hands over, as in sd_listen_fds(3).

They belong to the service manager: clients connect to them, and wait, while no daemon runs. So the daemon
closes only its own descriptors, and removes no path.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from operatord.settings.listeners import is_loopback

FIRST = 3
"""The descriptor of the first one; the others follow."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class UnusableSocket(Exception):
    """What was handed over cannot be listened on. The text says what to do."""


def handed_over(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that are meant for this process, and remove their variables from ``environ``, so
    that child processes do not use other descriptors in their place. Raises `UnusableSocket`.
    """
    pid, count, *_ = [environ.pop(name, "") for name in VARIABLES]
    if pid != str(os.getpid()):
        return []
    if not count.isascii() or not count.isdigit():
        raise UnusableSocket(f"LISTEN_FDS must be a number of sockets, and is {count!r}")
    return [_taken(fd) for fd in range(FIRST, FIRST + int(count))]


def name_of(sock: socket.socket) -> str:
    """Return where it listens, as the settings would say it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return os.fsdecode(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def _taken(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise UnusableSocket(
            f"descriptor {fd} that the service manager hands over is not a socket: {exc.strerror}; "
            "in the .socket unit only ListenStream= is of use"
        ) from exc
    _require_stream(sock)
    _require_here(sock)
    return sock


def _require_stream(sock: socket.socket) -> None:
    streams = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if not streams or sock.type != socket.SOCK_STREAM or not _listens(sock):
        raise UnusableSocket(
            f"descriptor {sock.fileno()} that the service manager hands over is not a listening stream "
            "socket "
            "(TCP or Unix); in the .socket unit use ListenStream= with Accept=no"
        )


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _require_here(sock: socket.socket) -> None:
    """Hold sockets of others to what holds for ``listen``."""
    if sock.family != socket.AF_UNIX and not is_loopback(sock.getsockname()[0]):
        raise UnusableSocket(
            f"the service manager hands over {name_of(sock)}, which other machines can reach: put it into "
            "`listeners`, with its rules. In the .socket unit, ListenStream= is for this machine"
        )
