# SPDX-License-Identifier: MIT
"""The standard input of a container, held open until its settings are known (late binding)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Any, NamedTuple

import requests

from operatord.engines.base import NotThere

from .client import Clients, edge

_MOST_AT_ONCE = 65536
"""Bytes."""


class AttachedStdin(NamedTuple):
    """A connection to a container's standard input."""

    sock: Any
    """A socket: the kernel's, TLS's, or a channel of ssh's, which has the same methods."""
    stirred: bool
    """Whether some of the container's output has already been read from it."""
    response: requests.Response | None = None
    """The object that would close the socket if it were collected; None where there is none."""

    def close(self) -> None:
        """Close both: the socket stays open below while the response can still be read. Idempotent."""
        self.sock.close()
        if self.response is not None:
            self.response.close()


def attach(clients: Clients, container_id: str) -> AttachedStdin:
    """Return a connection to the container's standard input; blocking, for a thread."""
    client = clients.make()
    try:
        with edge("attach", container_id):
            # Its output as well, because the engine ends the connection with it; and its output so far,
            # because that is a hint too.
            asked = {"stdin": 1, "stdout": 1, "stream": 1, "logs": 1}
            output: Any = client.attach_socket(container_id, params=asked)
        raw = getattr(output, "_sock", output)
        raw.setblocking(False)
        stirred = _has_spoken(output._response)
        if type(raw) is not socket.socket:
            # Only this object has the keys of an encrypted connection.
            return AttachedStdin(raw, stirred, output._response)
        # A duplicate outlives the library's own objects. They are closed from the top, as each flushes its
        # buffer to the one below when it is closed.
        held = socket.socket(fileno=os.dup(raw.fileno()))
        output._response.close()
        raw.close()
        return AttachedStdin(held, stirred)
    finally:
        client.close()


def _has_spoken(response: Any) -> bool:
    """Tell whether some of the output came with the answer's headers, and lies in the library's buffer."""
    below = response.raw._fp.fp
    if hasattr(below, "channel"):  # over ssh, docker's command passes output on as it comes
        return bool(below._rbuffer)
    with contextlib.suppress(ssl.SSLWantReadError):  # nothing has come
        return bool(below.peek())
    return False


def _more(sock: Any) -> bool:
    """Tell whether some output has already been taken from the kernel, which then does not report it
    again."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


class HeldInput:
    """One container's standard input, on the event loop's side."""

    def __init__(self, attached: AttachedStdin) -> None:
        """Own its socket, and notice when the other side ends it."""
        self._attached = attached
        self._sock = sock = attached.sock
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self.stirred = asyncio.Event()
        """Set whenever the stage writes something: it may be listening now."""
        self.spoken = 0
        """How often the stage has been heard to write something."""
        if attached.stirred:
            self.stirred.set()
        self.closed = False
        """Whether the stage has ended, or the engine has gone."""
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            while self._sock.recv(_MOST_AT_ONCE):
                self.stirred.set()  # what it says is in its log
                self.spoken += 1
                if not _more(self._sock):
                    return
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return
        except OSError:
            pass
        self.close()

    def send(self, data: bytes) -> None:
        """Send a few lines, which a connection always has room for. Raises `NotThere`."""
        try:
            if self.closed or self._sock.send(data) != len(data):
                raise NotThere("the stage is not there any more")
        except OSError as exc:
            self.close()
            raise NotThere("the stage is not there any more") from exc

    def close(self) -> None:
        """Release it; the stage's input ends. Idempotent."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._sock.fileno())
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._attached.close()
