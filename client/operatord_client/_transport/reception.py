# SPDX-License-Identifier: MIT
"""The received part of a stream, without I/O: bytes in; hello, frames and end out."""

from __future__ import annotations

from collections import deque
from typing import Literal

from operatord_client.address import Address, Tcp, Tls, from_environment
from operatord_protocol import stream
from operatord_protocol.messages import Location
from operatord_protocol.stream import (
    CutOff,
    End,
    Frame,
    Hello,
    StreamError,
    StreamParser,
    Unbegun,
    check_end,
    check_parts,
    open_line,
)

GLANCE = 0.002
"""Seconds in which more of a stream counts as having come already: it may be on its way through proxies."""
SKIM = 0.1
"""Seconds after which the newest frame so far is taken of a stream that comes faster than it is read."""
Y4M_MAGIC = b"YUV4MPEG2"
LocationLike = Location | str | tuple[str, int]
Policy = Literal["live"]
"""What a consumer may want otherwise than its server: nobody waits for it, and frames are dropped for it."""


class Reception:
    """Keeps a parser's output for a reader who wants one frame at a time."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.frames: deque[Frame] = deque()
        self._came = 0
        self._end: End | None = None
        self._fault: StreamError | None = None
        self._closed: str | None = None
        self.reason = ""
        """Why it was cut off, as far as is known."""
        self._head = b""
        self._parser = StreamParser()

    @property
    def end(self) -> End | None:
        """The stream's last line, once every frame before it was taken."""
        return None if self.frames or self._fault else self._end

    def check(self) -> None:
        """Raise the `StreamError` that comes after what was taken, if nothing more will come."""
        if self._fault is not None:
            raise self._fault
        if self._closed is not None:
            raise StreamError(self._closed)

    @property
    def may_go_on(self) -> bool:
        """Whether more may come than what is kept here."""
        return self._end is None and self._fault is None and self._closed is None

    def fail(self, fault: StreamError) -> None:
        """Note an error, for whoever has taken the frames that came before it."""
        self._fault = self._fault or fault

    def keep_newest(self) -> int:
        """Drop all frames but the newest one; return how many."""
        dropped = max(0, len(self.frames) - 1)
        for _ in range(dropped):
            self.frames.popleft()
        return dropped

    def close(self, why: str = "this stream was closed here") -> None:
        """Note that nothing more is read; what had come can still be taken."""
        self._closed = self._closed or why

    def broken(self, exc: OSError) -> StreamError:
        """Return what is to be raised when the connection cannot be read."""
        if self._closed is not None:
            return StreamError(self._closed)
        if isinstance(exc, TimeoutError):
            return StreamError("the stream fell silent")
        reason = self.reason or (exc.strerror or "no reason given").lower()
        return CutOff(f"the stream was cut off: {reason}")

    def is_cut(self, data: bytes | memoryview, exc: OSError | None = None) -> bool:
        """Tell whether ``data``, or what reading raised, means that the other side has hung up too early."""
        if self._closed is not None or self._fault is not None:
            return False
        return not data and not isinstance(exc, TimeoutError)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived; no bytes are the end of the connection. Raises `StreamError`."""
        if not data:
            self.check()
            raise self._cut()
        if self.hello is None:
            self._check_head(data)
        for item in self._parser.feed(data):
            if isinstance(item, Frame):
                self._take(item)
            elif isinstance(item, End):
                self._finish(item)
            else:
                self.hello = item
        self._fault = self._fault or self._parser.fault
        if not self.frames:
            self.check()

    def _finish(self, end: End) -> None:
        """Keep the end, unless frames before it are missing."""
        self._end = end
        try:
            check_end(end, self._came)
        except StreamError as exc:
            self.fail(exc)

    def _take(self, frame: Frame) -> None:
        """Keep a frame, unless it or one before it contradicts the hello."""
        self._came += 1
        try:
            assert self.hello is not None
            check_parts(frame.header, self.hello)
        except StreamError as exc:
            self.fail(exc)
        if self._fault is None:
            self.frames.append(frame)

    def _check_head(self, data: bytes | memoryview) -> None:
        self._head += bytes(data[: len(Y4M_MAGIC) - len(self._head)])
        if self._head == Y4M_MAGIC:
            raise StreamError("this location speaks y4m; read its bytes with open_raw()")
        if self._head.startswith(stream.IGTL_GREETINGS):
            raise StreamError(stream.OPEN_ELSEWHERE)

    def _cut(self) -> StreamError:
        if self.hello is None:
            return Unbegun(self.reason)
        cut = "the stream was cut off before its end"
        return StreamError(f"{cut}: {self.reason}" if self.reason else cut)


def require_stream(location: LocationLike) -> LocationLike:
    """Return a location whose format may be that of frames. Raises `StreamError` for one that is not."""
    if isinstance(location, Location):
        stream.require_stream(location.format)
    return location


def address_of(location: LocationLike, daemon: Address | None = None) -> Tcp | Tls:
    """Return where to connect. Raises `ValueError` for text that is no ``[tcp://|tls://|igtl://]host:port``.

    ``daemon`` is where the location is from: TLS is spoken there with the same certificate.
    """
    if isinstance(location, Location):
        place, encrypted = Tcp(location.host, location.port), location.tls is True
    elif isinstance(location, tuple):
        return Tcp(*location)
    else:
        encrypted = location.startswith("tls://")
        host, _, port = location.rpartition("://")[2].rpartition(":")
        place = Tcp(host.strip("[]"), int(port))
    if not encrypted:
        return place
    if isinstance(daemon, Tls):
        return daemon._replace(host=place.host, port=place.port, name=daemon.name or daemon.host)
    return from_environment(place)


def first_words(location: LocationLike, policy: Policy | None = None) -> bytes:
    """Return what is to be said there before anything is read."""
    token = location.token if isinstance(location, Location) else None
    opening = open_line(token) if isinstance(token, str) else b""
    return opening if policy is None else opening + stream.CONSUME_LIVE


def require_policy(policy: str | None) -> None:
    """Raise `ValueError` for a policy that no consumer may have."""
    if policy not in (None, "live"):
        raise ValueError(
            f"policy is 'live', or None for that of the server, not {policy!r}: set others with the "
            "session, as env={STAGE: {'policy': …}} of its last stage"
        )
