# SPDX-License-Identifier: MIT
"""TLS for the blocking connection: a thread that passes bytes between it and the encrypted socket.

`Connection` is written for a socket that any number of threads use at once, and that an interrupt leaves as
it was; an object of OpenSSL is for one thread at a time. Only this thread, which is never interrupted, uses
it.
"""

from __future__ import annotations

import atexit
import select
import socket
import ssl
import threading
import time
import weakref
from contextlib import suppress

from . import forks

CHUNK = 64 * 1024
"""Bytes that are taken at once."""
MOST = 1024 * 1024
"""Bytes that wait on either side before no more are taken."""
FAREWELL = 2.0
"""Seconds that the end of the program waits for what was written last to go out, on all connections."""


class Tunnel:
    """Passes bytes on until either side ends."""

    def __init__(self, encrypted: ssl.SSLSocket, inner: socket.socket) -> None:
        """Own both: ``encrypted``, over which the handshake has been done, and ``inner``."""
        self._encrypted = encrypted
        self._inner = inner
        self._out = b""
        """Bytes for the daemon."""
        self._in = b""
        """Bytes from it."""
        self._inner_ended = self._outer_ended = False
        self.fault: OSError | None = None
        """What has ended it, if neither side has."""
        for sock in (encrypted, inner):
            sock.setblocking(False)
        forks.note(self)
        _living.add(self)
        self._thread = threading.Thread(target=self._run, name="operatord TLS", daemon=True)
        self._thread.start()

    def after_fork(self) -> None:
        """Leave the connection to the parent: here its thread does not run."""
        self._inner.close()
        self._encrypted.close()

    def finish(self) -> None:
        """End once everything written has gone out. Returns at once."""
        with suppress(OSError):  # it has ended
            self._inner.shutdown(socket.SHUT_RD)

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or so much later; where its thread does not run, at once."""
        if self._inner.fileno() >= 0:
            self._thread.join(seconds)

    def _run(self) -> None:
        with self._inner, self._encrypted:  # either end is the other's
            try:
                while not self._is_done():
                    self._wait()
                    self._read_inner()
                    self._read_outer()
                    self._write()
            except OSError as exc:
                self.fault = exc

    def _is_done(self) -> bool:
        return (self._inner_ended and not self._out) or (self._outer_ended and not self._in)

    def _wait(self) -> None:
        if self._encrypted.pending() and len(self._in) < MOST and not self._outer_ended:
            return  # already decrypted, which `select` does not show
        poll = select.poll()
        for sock, reads, writes in (
            (self._inner, not self._inner_ended and len(self._out) < MOST, self._in),
            (self._encrypted, not self._outer_ended and len(self._in) < MOST, self._out),
        ):
            if wanted := (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0):
                poll.register(sock, wanted)
        poll.poll()

    def _read_inner(self) -> None:
        if self._inner_ended or len(self._out) >= MOST:
            return
        try:
            data = self._inner.recv(CHUNK)
        except BlockingIOError:
            return
        self._out += data
        self._inner_ended = not data

    def _read_outer(self) -> None:
        if self._outer_ended or len(self._in) >= MOST:
            return
        try:
            data = self._encrypted.recv(CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            data = b""
        self._in += data
        self._outer_ended = not data

    def _write(self) -> None:
        if self._out:
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._out = self._out[self._encrypted.send(self._out) :]
        if self._in:
            with suppress(BlockingIOError):
                self._in = self._in[self._inner.send(self._in) :]


def tunnelled(encrypted: ssl.SSLSocket) -> socket.socket:
    """Return a plain socket for what is encrypted on its way; closing it closes both."""
    inner, plain = socket.socketpair()
    _tunnels[plain] = Tunnel(encrypted, inner)
    return plain


def fault_of(plain: socket.socket) -> OSError | None:
    """Return what has broken the tunnel behind a socket, if it has one and that was broken."""
    tunnel = _tunnels.get(plain)
    return None if tunnel is None else tunnel.fault


_tunnels: weakref.WeakKeyDictionary[socket.socket, Tunnel] = weakref.WeakKeyDictionary()
_living: weakref.WeakSet[Tunnel] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    tunnels, until = list(_living), time.monotonic() + FAREWELL
    for tunnel in tunnels:
        tunnel.finish()
    for tunnel in tunnels:
        tunnel.wait(max(0.0, until - time.monotonic()))
