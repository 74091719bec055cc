# SPDX-License-Identifier: MIT
"""What of a stream has come so far, without I/O: bytes in, hello, frames and end out."""

from __future__ import annotations

from collections import deque

from operatord_protocol.messages import Location
from operatord_protocol.stream import End, Frame, Hello, StreamError, StreamParser

from .address import Tcp

LocationLike = Location | str | tuple[str, int]


class Reception:
    """Keeps a parser's output for a reader who wants one frame at a time."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.end: End | None = None
        self.frames: deque[Frame] = deque()
        self._parser = StreamParser()

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived; no bytes are the end of the connection. Raises `StreamError`."""
        if not data:
            raise StreamError(self._cut())
        for item in self._parser.feed(data):
            if isinstance(item, Frame):
                self.frames.append(item)
            elif isinstance(item, End):
                self.end = item
            else:
                self._greet(item)

    @property
    def finished(self) -> bool:
        """Whether all frames were taken and the end was said."""
        return self.end is not None and not self.frames

    def _greet(self, hello: Hello) -> None:
        if hello.stream == "y4m":
            raise StreamError("this location speaks y4m; take its bytes with open_raw()")
        self.hello = hello

    def _cut(self) -> str:
        if self.hello is None:
            return "the stream ended before its hello"
        return "the stream was cut off before its end"


def address_of(location: LocationLike) -> Tcp:
    """Return where to connect. Raises `ValueError` for text that is no ``[tcp://]host:port``."""
    if isinstance(location, Location):
        return Tcp(location.host, location.port)
    if isinstance(location, tuple):
        return Tcp(*location)
    host, _, port = location.removeprefix("tcp://").rpartition(":")
    return Tcp(host.strip("[]"), int(port))
