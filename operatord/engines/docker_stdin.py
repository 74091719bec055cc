# SPDX-License-Identifier: MIT
"""The standard input of a container, held open until what it waits for is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, NamedTuple

from operatord.engines.base import NotThere, StageRefused
from operatord.engines.docker_client import Clients, edge


class Attached(NamedTuple):
    """A connection to a container's standard input."""

    sock: socket.socket
    stirred: bool
    """Whether some of what the container has said has been read from it already."""


def attach(clients: Clients, container_id: str) -> Attached:
    """Return a connection to the container's standard input; blocking, for a thread.

    Raises `StageRefused` where the way to the engine is encrypted: such a connection cannot be taken
    away from the library that made it.
    """
    client = clients.make()
    try:
        with edge("attach", container_id):
            # Its output as well, because the engine ends the connection with that, and what it has said
            # so far, because that is a hint too.
            asked = {"stdin": 1, "stdout": 1, "stream": 1, "logs": 1}
            output: Any = client.attach_socket(container_id, params=asked)
        raw = getattr(output, "_sock", output)
        if not isinstance(raw, socket.socket) or type(raw).__module__ == "ssl":
            raise StageRefused("standard input cannot be held open over an encrypted connection")
        raw.setblocking(False)
        # What came with the answer's headers lies in the library's buffer.
        stirred = bool(output._response.raw._fp.fp.peek())
        # A duplicate outlives the library's own objects.
        held = socket.socket(fileno=os.dup(raw.fileno()))
        output.close()
        raw.close()
        return Attached(held, stirred)
    finally:
        client.close()


class HeldInput:
    """One container's standard input, on the event loop's side."""

    def __init__(self, attached: Attached) -> None:
        """Own its socket, and notice when the other side ends it."""
        self._sock = sock = attached.sock
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self.stirred = asyncio.Event()
        """Set whenever the stage writes something: it may be listening now."""
        if attached.stirred:
            self.stirred.set()
        self.closed = False
        """Whether the stage has ended, or the engine has gone."""
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            if self._sock.recv(65536):
                self.stirred.set()
                return  # what it says is in its log
        except BlockingIOError:
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
        """Let go of it; the stage reads on from nobody. Idempotent."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._sock.fileno())
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()
