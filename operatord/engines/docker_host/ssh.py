# SPDX-License-Identifier: MIT
"""The way to an engine by ssh: ``docker system dial-stdio`` on its host, as the docker command does it.

An ssh connection takes a few tenths of a second, so one carries several channels, each used like a socket;
docker-py would open one for each client. paramiko is loaded when it is needed, and comes with the extra
``ssh``.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

COMMAND = "docker system dial-stdio"
"""Passes on bytes between its standard streams and the engine's socket."""
CHANNELS = 8
"""Channels on one connection. OpenSSH allows ten by default (MaxSessions); some are left for others."""
KEEPALIVE = 15
"""Seconds without a word after which the other end is asked whether it is there."""
_LAST_WORDS = 1.0
"""Seconds in which a command that has ended says why."""


class SshFailed(OSError):
    """The host cannot be reached by ssh; the text is a sentence that may be shown to a requester."""


class _Connection(NamedTuple):
    client: Any
    channels: weakref.WeakSet[Any]

    def is_full(self) -> bool:
        """Tell whether one channel more would be too many."""
        return sum(not channel.closed for channel in self.channels) >= CHANNELS


class SshConnections:
    """The connections to one host, made as they are needed."""

    def __init__(self, url: str) -> None:
        """``url`` is ``ssh://[user@]host[:port]``. No I/O yet."""
        self._url = urlsplit(url)
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []

    def open(self, timeout: float) -> Any:
        """Return a channel to the engine, which is much like a socket. Raises `SshFailed`, `OSError`."""
        paramiko = load_paramiko()
        with self._lock:
            for connection in list(self._connections):
                if not connection.is_full():
                    try:
                        return _channel(connection, timeout)
                    except paramiko.ChannelException:
                        continue  # its host allows fewer
                    except (paramiko.SSHException, OSError, EOFError):
                        self._connections.remove(connection)
                        connection.client.close()
            try:
                connection = _Connection(self._connect(paramiko, timeout), weakref.WeakSet())
                channel = _channel(connection, timeout)
            except (paramiko.SSHException, OSError, EOFError) as exc:
                raise _failure(paramiko, exc) from exc
            self._connections.append(connection)
            return channel

    def _connect(self, paramiko: Any, timeout: float) -> Any:
        """Return a client that is logged in by what the user's own ssh has: known hosts, keys, agent."""
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        given = settings_for(self._url.hostname or "", paramiko)
        try:
            client.connect(
                given.get("hostname") or self._url.hostname,
                self._url.port or int(given.get("port", 22)),
                self._url.username or given.get("user"),
                key_filename=given.get("identityfile"),
                sock=paramiko.ProxyCommand(given["proxycommand"]) if "proxycommand" in given else None,
                timeout=timeout, banner_timeout=timeout, auth_timeout=timeout,
            )  # fmt: skip
        except BaseException:
            client.close()
            raise
        client.get_transport().set_keepalive(KEEPALIVE)
        return client

    def close(self) -> None:
        """End all connections and their channels. Idempotent."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.client.close()


def load_paramiko() -> Any:
    """Return the library. Raises `SshFailed` where it is not installed."""
    try:
        return importlib.import_module("paramiko")
    except ImportError as exc:
        raise SshFailed(
            "an engine at an ssh:// address needs the Python package paramiko, which is not installed: pip "
            "install 'operatord[ssh]', or let ssh forward the engine's socket and name that with unix://"
        ) from exc


def settings_for(host: str, paramiko: Any) -> dict[str, Any]:
    """Return what the user's ssh configuration says of a host."""
    file = Path("~/.ssh/config").expanduser()
    if not file.exists():
        return {}
    found: dict[str, Any] = paramiko.SSHConfig.from_path(str(file)).lookup(host)
    return found


def real_host(host: str) -> str:
    """Return the host behind an alias of the user's ssh configuration."""
    with contextlib.suppress(SshFailed, OSError):
        return str(settings_for(host, load_paramiko()).get("hostname") or host)
    return host


def _channel(connection: _Connection, timeout: float) -> Any:
    transport = connection.client.get_transport()
    if transport is None:
        raise EOFError("the connection has ended")
    channel = transport.open_session(timeout=timeout)
    connection.channels.add(channel)
    channel.settimeout(timeout)
    channel.exec_command(COMMAND)
    return channel


def last_words(channel: Any) -> SshFailed | None:
    """Return why the command at the other end has ended, if it printed that."""
    said = b""
    channel.settimeout(_LAST_WORDS)
    with contextlib.suppress(OSError):
        while data := channel.recv_stderr(4096):
            said += data
    text = said.decode("utf-8", "replace").lower()
    for hint, sentence in _OF_THE_COMMAND:
        if hint in text:
            return SshFailed(sentence)
    return None


_OF_THE_COMMAND = (
    (
        "not found",
        "the docker command is not there on the engine's host, which an ssh:// address needs: install it, so "
        "that it is in the path of ssh's commands",
    ),
    (
        "permission denied",
        "the user that ssh logs in as may not use the container engine's socket there: add it to the group "
        "that owns the socket, most often docker, or name another user (ssh://user@host)",
    ),
    (
        "connect",
        "no container engine answers the docker command on the engine's host: start it there",
    ),
    ("dial", "no container engine answers the docker command on the engine's host: start it there"),
)


def _failure(paramiko: Any, exc: Exception) -> OSError:
    """Return the error for a connection that failed."""
    if isinstance(exc, paramiko.BadHostKeyException):
        return SshFailed(
            "the ssh key of the engine's host is not the known one: make sure that it is the right "
            "machine, then correct known_hosts (ssh-keygen -R HOST)"
        )
    if isinstance(exc, paramiko.PasswordRequiredException):
        return SshFailed(
            "the ssh key for the engine's host has a passphrase, which a daemon cannot type: load it into an "
            "ssh-agent that operatord has (SSH_AUTH_SOCK), or use a key without one"
        )
    if (
        isinstance(exc, paramiko.AuthenticationException)
        or "no authentication methods" in str(exc).lower()
    ):
        return SshFailed(
            "the engine's host refuses the ssh keys of the user that operatord runs as: put one into "
            "authorized_keys there, and name the user (ssh://user@host)"
        )
    if "known_hosts" in str(exc):
        return SshFailed(
            "the ssh key of the engine's host is not known: as the user that operatord runs as, connect once "
            "by hand (ssh HOST), which asks whether it is the right one"
        )
    if isinstance(exc, paramiko.ssh_exception.NoValidConnectionsError):
        below = next(iter(exc.errors.values()))
        return below if isinstance(below, OSError) else ConnectionRefusedError(str(exc))
    return exc if isinstance(exc, OSError) else ConnectionResetError(str(exc))
