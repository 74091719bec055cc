# SPDX-License-Identifier: MIT
"""Frames from a session's location, over a blocking socket.

    with open_frames("tcp://127.0.0.1:40001") as stream:
        for frame in stream:
            print(frame.seq, len(frame.image), stream.hello.width)
    print(stream.end)

A stream is connected from the beginning.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from typing import Self

from operatord_protocol.stream import End, Frame, Hello, StreamError

from ._recording.tape import Tape
from ._transport import forks
from ._transport.reception import (
    GLANCE,
    SKIM,
    LocationLike,
    Policy,
    Reception,
    address_of,
    first_words,
    require_policy,
    require_stream,
)
from ._transport.sockets import open_socket
from .address import Address
from .errors import LocationUnreachable
from .options import Recorded

RawStream = BufferedReader
"""A stream's bytes: a binary file."""
READ_BYTES = 512 * 1024
"""One read takes several frames of 256×256 pixels at once when the network is ahead of the reader."""


class FrameStream:
    """An iterator and context manager over the frames of one stream, up to its end."""

    def __init__(self, sock: socket.socket) -> None:
        """Own ``sock``, a connected socket at which the stream has not been read yet."""
        self._socket = sock
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._reception = Reception()
        self.received = 0
        """Frames that were taken so far."""
        self.skipped = 0
        """Frames that `latest` has passed over."""
        self.before_read: Callable[[], object] = lambda: None
        """Called before each read, which may take long. The reader gets what it raises."""
        self.why_cut: Callable[[], str] = str
        """Called when the stream is cut off, which may take a moment: the reason, or an empty string."""
        forks.note(self)

    def after_fork(self) -> None:
        """After a fork, leave the connection to the parent: this process no longer reads it."""
        self._reception.close(forks.INHERITED)
        self._socket.close()  # this process's share of it, no more

    def __enter__(self) -> Self:
        """Open it, see `open`."""
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        """Return the next frame. Raises as `open`, and `StreamError` when the stream is cut off."""
        frames = self._reception.frames
        while not frames:
            if self._reception.end is not None:
                self.close()
                raise StopIteration
            self._reception.check()
            self._read()
        self.received += 1
        return frames.popleft()

    def latest(self) -> Frame | None:
        """Return the newest frame that has come, and pass over those before it; wait for one if none has come
        since the last that was taken. None after the stream's end. Raises as `open`, and `StreamError` when
        the stream is cut off.

        For who takes longer over a frame than the stream takes for the next one. Others that read the stream
        wait meanwhile, unless this one is read with the policy ``live``.
        """
        self.open()
        self._skim()
        return next(self, None)

    def open(self) -> None:
        """Wait for the hello, unless it has come. Raises `StreamError`."""
        while self._reception.hello is None:
            self._reception.check()
            self._read()

    @property
    def hello(self) -> Hello:
        """The stream's first line: size, format, rate, count. Opens it if that is not done, see `open`."""
        self.open()
        assert self._reception.hello is not None
        return self._reception.hello

    @property
    def end(self) -> End | None:
        """The stream's last line: frames sent and dropped; None until all frames were taken."""
        return self._reception.end

    def fileno(self) -> int:
        """Return the socket's descriptor, as `select` wants it: more of a frame may have come already."""
        return self._socket.fileno()

    def close(self) -> None:
        """Disconnect. Readers get a `StreamError` after the frames that had already come."""
        self._reception.close()
        with suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _skim(self) -> None:
        """Take what has come, and keep the newest frame of it, with the error that follows it."""
        until = time.monotonic() + SKIM
        self.skipped += self._reception.keep_newest()
        while self._reception.may_go_on and time.monotonic() < until and self._glance():
            try:
                self._read()
            except StreamError as exc:
                self._reception.fail(exc)
            self.skipped += self._reception.keep_newest()

    def _glance(self) -> bool:
        """Tell whether more comes at once, or the end."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
        except ValueError:  # it was closed meanwhile
            return False
        return bool(poll.poll(GLANCE * 1000))

    def _read(self) -> None:
        self.before_read()
        try:
            size = self._socket.recv_into(self._buffer)
        except OSError as exc:
            if self._reception.is_cut(b"", exc):
                self._reception.reason = self.why_cut()
            raise self._reception.broken(exc) from exc
        data = self._buffer[:size]
        if self._reception.is_cut(data):
            self._reception.reason = self.why_cut()
        self._reception.feed(data)


def open_frames(
    location: LocationLike,
    *,
    connect_timeout: float | None = 5.0,
    timeout: float | None = None,
    daemon: Address | None = None,
    policy: Policy | None = None,
) -> FrameStream:
    """Return the frames of a location whose format is ``json``; ``timeout`` is the longest silence (s).

    With ``policy="live"`` nobody waits for this reader, who misses frames instead. ``daemon`` is where a
    location with TLS is from, which shows the same certificate; without it, its files are those that the
    environment names for `tls://`. Raises `ValueError` for another policy; connecting raises
    `LocationUnreachable`.
    """
    require_policy(policy)
    sock = _opened(require_stream(location), daemon, connect_timeout, policy)
    sock.settimeout(timeout)
    return FrameStream(sock)


def open_located(  # noqa: PLR0913 - they are those of opening, and one more
    locate: Callable[[], LocationLike],
    *,
    connect_timeout: float | None,
    timeout: float | None,
    daemon: Address | None = None,
    policy: Policy | None = None,
    why_refused: Callable[[], str],
) -> FrameStream:
    """As `open_frames`, at what ``locate`` returns; connecting also raises what that does.

    ``why_refused`` is asked when nothing answers there; the sentence that it has, if any, is raised as a
    `StreamError`.
    """
    require_policy(policy)
    limit, location = connect_timeout, locate()
    try:
        return open_frames(
            location, connect_timeout=limit, timeout=timeout, daemon=daemon, policy=policy
        )
    except LocationUnreachable as exc:
        if reason := why_refused():
            raise StreamError(reason) from exc
        raise


def open_raw(
    location: LocationLike,
    *,
    connect_timeout: float | None = 5.0,
    daemon: Address | None = None,
) -> RawStream:
    """Return the bytes of a location, for y4m; ``daemon`` as for `open_frames`.

    Raises `LocationUnreachable`.
    """
    with _opened(location, daemon, connect_timeout) as sock:
        return sock.makefile("rb")


def record_located(
    locate: Callable[[], LocationLike],
    tape: Tape,
    *,
    connect_timeout: float | None,
    timeout: float | None,
    daemon: Address | None = None,
) -> Recorded:
    """Record the stream at what ``locate`` returns; return how far it came.

    Raises as `open_located`, and `StreamError`, `OSError`.
    """
    with tape, _opened(require_stream(locate()), daemon, connect_timeout) as sock:
        while not tape.done and not tape.is_over:
            sock.settimeout(tape.patience(timeout))
            try:
                data = sock.recv(READ_BYTES)
            except OSError as exc:
                if tape.is_over:
                    break
                raise Reception().broken(exc) from exc
            tape.feed(data)
            tape.tell()
    return tape.so_far


def _opened(
    location: LocationLike,
    daemon: Address | None,
    timeout: float | None,
    policy: Policy | None = None,
) -> socket.socket:
    """Return a connection that has said what is wanted first. Raises `LocationUnreachable`."""
    sock = open_socket(address_of(location, daemon), timeout, LocationUnreachable)
    with suppress(OSError):  # it was ended already: whoever reads sees why
        sock.sendall(first_words(location, policy))
    return sock
