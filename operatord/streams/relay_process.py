# SPDX-License-Identifier: MIT
"""The process behind a `relay.Relay`: every connection to it becomes one to the target.

    python -IS relay_process.py LISTEN TARGET PORT

It is a program of its own, so that it outlives the daemon, and imports nothing but a little of the standard
library, so that it is there in no time and takes little memory. It prints the port on which it listens, and
reads from its standard input whether it is to stay. Until then, the end of input means that the daemon has
died during a start, and that nobody knows of this process. Afterwards it ends by itself once it is no longer
needed. SIGTERM ends it at any time.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

CHUNK = 256 * 1024
"""Bytes that are read at once, and held at the most in each direction: a frame or two."""
MOST_CONNECTIONS = 200
"""Those beyond wait to be accepted. A session has one or two. Each takes two descriptors, and most
machines allow 1024."""
LINGER = 60.0
"""Seconds without a connection after which it ends. Stages connect once and keep that as long as they live; a
minute leaves room for one that connects anew."""
FIRST_WITHIN = 300.0
"""Seconds in which the first connection must come. A session that runs most often has one already, as its
proof came through here: this is for one that has lost all its stages with its daemon."""
STAY = b"stay\n"
EARLY = "early"
"""An argument: the address to listen on may not be this machine's yet."""
_IP_FREEBIND = 15
"""Of linux/in.h; `socket` has no name for it."""

Address = tuple[object, ...]


class Flow:
    """One direction of a connection, with what has been read and not been passed on."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        """Both must not block."""
        self._source, self._sink = source, sink
        self._buffer = memoryview(bytearray(CHUNK))
        self._held = self._buffer[:0]
        self.ended = False
        """The end has been passed on."""

    @property
    def is_held_up(self) -> bool:
        """Whether the sink has to take something before more is read."""
        return len(self._held) > 0

    @property
    def is_open(self) -> bool:
        """Whether it is to be read from now."""
        return not self.ended and not self.is_held_up

    def read(self) -> None:
        """Read what there is, and pass on what the sink takes of it, or the end. Raises `OSError`."""
        try:
            count = self._source.recv_into(self._buffer)
        except BlockingIOError:
            return
        if count == 0:
            self.ended = True
            self._sink.shutdown(socket.SHUT_WR)
            return
        self._held = self._buffer[:count]
        self.write()

    def write(self) -> None:
        """Pass on what is held, as much as the sink takes. Raises `OSError`."""
        try:
            sent = self._sink.send(self._held)
        except BlockingIOError:
            return
        self._held = self._held[sent:]


class RelayedConnection:
    """Somebody who has connected, and the connection to the target that was made for it."""

    def __init__(
        self, client: socket.socket, target: socket.socket, selector: DefaultSelector
    ) -> None:
        """``target`` has begun to connect, and ``selector`` tells when it has."""
        self._client, self._target, self._selector = client, target, selector
        self._up, self._down = Flow(client, target), Flow(target, client)
        self._connecting = True
        self._watched = {client: 0, target: 0}
        self._watch()

    def is_over(self, end: socket.socket, events: int) -> bool:
        """Go on with what ``end`` is ready for; tell whether nothing more can come of it."""
        try:
            self._go_on(end, events)
        except OSError:
            return True  # one side went away: so does the other
        self._watch()
        return self._up.ended and self._down.ended

    def _go_on(self, end: socket.socket, events: int) -> None:
        if self._connecting:
            if code := self._target.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self._connecting = False
            return
        here, there = (self._up, self._down) if end is self._client else (self._down, self._up)
        if events & EVENT_READ and here.is_open:
            here.read()
        if events & EVENT_WRITE and there.is_held_up:
            there.write()

    def _watch(self) -> None:
        """Wait for what can be done next, and for nothing else, or the wait would be none."""
        if self._connecting:
            self._wait_for(self._target, EVENT_WRITE)
            return
        for end, here, there in (
            (self._client, self._up, self._down),
            (self._target, self._down, self._up),
        ):
            self._wait_for(end, EVENT_READ * here.is_open | EVENT_WRITE * there.is_held_up)

    def _wait_for(self, end: socket.socket, events: int) -> None:
        before, self._watched[end] = self._watched[end], events
        if events == before:
            return
        if not before:
            self._selector.register(end, events, self)
        elif not events:
            self._selector.unregister(end)
        else:
            self._selector.modify(end, events, self)

    def close(self) -> None:
        """Close both ends."""
        for end in self._watched:
            self._wait_for(end, 0)
            end.close()


class RelayServer:
    """Passes connections on until it is not needed any more."""

    def __init__(self, listener: socket.socket, target: tuple[int, Address], control: int) -> None:
        """``target`` is a family and an address; ``control`` says whether to stay, and is closed here."""
        self._listener, self._target, self._control = listener, target, control
        self._selector = DefaultSelector()
        self._connections: set[RelayedConnection] = set()
        self._needed = True
        self._stays = False
        self._patience = FIRST_WITHIN
        self._idle_since = time.monotonic()
        listener.setblocking(False)
        self._selector.register(control, EVENT_READ)
        self._selector.register(listener, EVENT_READ)

    def run(self) -> None:
        """Return once it is not needed any more, with everything closed."""
        while self._needed and (timeout := self._time_left()) != 0:
            for key, events in self._selector.select(timeout):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._control:
                    self._hear()
                elif key.data in self._connections and key.data.is_over(key.fileobj, events):
                    self._leave(key.data)
        self._close()

    def _time_left(self) -> float | None:
        """Return the seconds until it is not needed any more; None while it is."""
        if self._connections or not self._stays:
            return None
        return max(0.0, self._idle_since + self._patience - time.monotonic())

    def _hear(self) -> None:
        self._needed = self._stays = os.read(self._control, len(STAY)) == STAY
        self._idle_since = time.monotonic()
        self._selector.unregister(self._control)
        os.close(self._control)
        self._control = -1

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # whoever came has left already
        try:
            target = self._connect()
        except OSError:
            client.close()
            return
        for end in (client, target):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(RelayedConnection(client, target, self._selector))
        self._patience = LINGER
        if len(self._connections) == MOST_CONNECTIONS:
            self._selector.unregister(self._listener)

    def _connect(self) -> socket.socket:
        """Return a socket that has begun to connect to the target. Raises `OSError`."""
        family, address = self._target
        target = socket.socket(family)
        target.setblocking(False)
        try:
            target.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            target.close()
            raise
        return target

    def _leave(self, connection: RelayedConnection) -> None:
        connection.close()
        if len(self._connections) == MOST_CONNECTIONS:
            self._selector.register(self._listener, EVENT_READ)
        self._connections.remove(connection)
        self._idle_since = time.monotonic()

    def _close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._selector.close()
        self._listener.close()
        if self._control >= 0:
            os.close(self._control)


def main(listen: str, host: str, port: str, when: str = "") -> None:
    """Listen on the address ``listen``, say on which port, and relay to ``host``:``port``.

    With ``when`` `EARLY` the address need not be this machine's yet.
    """
    numeric = socket.AI_NUMERICHOST  # a name might stand for something else by now
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=numeric)
    family, _, _, _, target = found[0]
    own = socket.AF_INET6 if ":" in listen else socket.AF_INET
    listener = socket.socket(own)
    if when == EARLY:
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.bind((listen, 0))
    listener.listen()
    os.write(1, b"%d\n" % listener.getsockname()[1])
    os.dup2(2, 1)  # which leads nowhere: nobody reads any more
    RelayServer(listener, (family, target), control=0).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
