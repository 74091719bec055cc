# SPDX-License-Identifier: MIT
"""One direction of a connection: bytes are taken from a source only when the sink has taken those before.

So whoever does not read holds up whoever sends, as without a gate between them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import threading
from collections.abc import Callable

PIPE = 1024 * 1024
"""Bytes that a pipe is to hold: the most that anybody may ask for without being root."""
CHUNK = 256 * 1024
"""Bytes that are copied at once: a frame or two."""
ROUNDS = 8
"""Pieces that are passed on until others have their turn."""
_F_SETPIPE_SZ = 1031
"""Of linux/fcntl.h; `fcntl` has no name for it before Python 3.10."""
STACK = 256 * 1024
"""Bytes of a thread's stack, which calls no deeper than three functions."""
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Carriage:
    """A direction in which the kernel moves the bytes from socket to socket, and a thread waits for it.

    A thread that sleeps in `splice` takes a fifth less of a processor than one that asks epoll when to.
    """

    def __init__(
        self, source: socket.socket, sink: socket.socket, done: Callable[[], None]
    ) -> None:
        """Both have to block. ``done`` is called, in the thread, when nothing more is passed on.

        Raises `RuntimeError` if there is no thread for it, `OSError` if no pipe.
        """
        self._source, self._sink, self._done = source, sink, done
        self.ended = False
        """The end has been passed on."""
        self.is_over = False
        """The thread has nothing more to do."""
        self.passed = 0
        """Bytes that the sink has taken."""
        self._pipe = os.pipe2(os.O_CLOEXEC)
        try:
            with contextlib.suppress(
                PermissionError
            ):  # this user has many already: a small one does
                fcntl.fcntl(self._pipe[1], _F_SETPIPE_SZ, PIPE)
            threading.stack_size(STACK)
            threading.Thread(target=self._run, daemon=True).start()
        except BaseException:
            self._close()
            raise

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # one of them went away: so does the other
            self._carry()
            self.ended = True
            self._sink.shutdown(socket.SHUT_WR)
        self._close()
        self.is_over = True
        self._done()

    def _carry(self) -> None:
        source, sink, (reads, writes) = self._source.fileno(), self._sink.fileno(), self._pipe
        while held := os.splice(source, writes, PIPE):
            while held:
                sent = os.splice(reads, sink, held)
                held -= sent
                self.passed += sent

    def _close(self) -> None:
        for end in self._pipe:
            os.close(end)


class Copy:
    """A direction in which this process reads and writes the bytes: where there is TLS, or little to say.

    What `pump` raises as `OSError` is the end of both directions.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, first: bytes = b"") -> None:
        """Neither may block; ``first`` was read from the source before."""
        self._source, self._sink = source, sink
        self._held = memoryview(first)
        self.readable = self.writable = True
        """Whether source and sink may be ready; whoever hears of it says so."""
        self.ended = False
        """The end has been passed on."""
        self.passed = 0
        """Bytes that the sink has taken."""

    @property
    def is_held_up(self) -> bool:
        """Whether the sink has to take something before more is read."""
        return len(self._held) > 0

    def pump(self) -> bool:
        """Pass on what there is; tell whether more can be done at once."""
        return all(self._drain() if self._held else self._fill() for _ in range(ROUNDS))

    def _fill(self) -> bool:
        if self.ended or not self.readable:
            return False
        try:
            data = self._source.recv(CHUNK, *_at_once(self._source))
        except _WAITS:
            self.readable = False
            return False
        if data:
            self._held = memoryview(data)
        else:
            self._pass_on_the_end()
        return not self.ended

    def _drain(self) -> bool:
        if not self.writable:
            return False
        try:
            sent = self._sink.send(self._held, *_at_once(self._sink))
        except _WAITS:
            self.writable = False
            return False
        self._held = self._held[sent:]
        self.passed += sent
        return True

    def _pass_on_the_end(self) -> None:
        self.ended = True
        if isinstance(self._sink, ssl.SSLSocket):
            say_goodbye(self._sink)
        else:
            self._sink.shutdown(socket.SHUT_WR)


def _at_once(sock: socket.socket) -> tuple[int, ...]:
    """Return the flag that keeps a call from waiting at a socket that may block; TLS knows none."""
    return () if isinstance(sock, ssl.SSLSocket) else (socket.MSG_DONTWAIT,)


def say_goodbye(sock: ssl.SSLSocket) -> None:
    """End what is sent, by TLS and by TCP; what comes in may still be read."""
    with contextlib.suppress(OSError, ValueError):  # the other side may not have ended yet
        sock.unwrap()
    socket.socket.shutdown(sock, socket.SHUT_WR)
