# SPDX-License-Identifier: MIT
"""The upstream: connect to it, read its hello, and cut its stream into whole frames."""

from __future__ import annotations

import contextlib
import re
import socket
import time

from operatord_stage.headers import (
    ATTACH,
    CONSUME,
    blame_upstream,
    bytes_around_image,
    complete_hello,
    parse_line,
    whole_number,
)
from operatord_stage.pictures import FORMATS, picture_bytes, require_format
from operatord_stage.sockets import keep_trying, resolve
from operatord_stage.stage import BROKEN_STREAM, LINE_LIMIT, Fault, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol, TypeAlias

    from operatord_stage.terms import Settings

    Buffer: TypeAlias = bytes | memoryview
    Render: TypeAlias = Callable[[memoryview, "Extent"], Buffer]
    """Returns what consumers are sent for a frame in a buffer."""

    class Readable(Protocol):
        """A socket, or an open pipe: what a selector waits for."""

        def fileno(self) -> int:
            """Return the number of the open file."""

        def close(self) -> None:
            """Close it."""

    class Upstream(Protocol):
        """Where a relay's frames come from."""

        hello: dict[str, Any]
        """A complete hello."""
        view: memoryview
        """What the last frames that were read lie in, until the next read()."""
        ended: bool
        """There are no more frames."""
        dropped: int
        """Frames that were dropped before they came here, once it has ended."""

        @property
        def sock(self) -> Readable:
            """Ready when there is something to read(), in which it may become another one."""

        def read(self) -> list[Extent]:
            """Receive once, without waiting, and return the frames that are whole now. Raises `Fault`."""

        def ask_for_frames(self, wanted: bool) -> None:
            """As an attached stage, tell the upstream whether frames would reach anybody."""


ALL_FORMATS = tuple(FORMATS)
BLOCK = 1024 * 1024
"""Bytes that are read ahead of the consumers, unless one frame needs more."""
USUAL_HEADER = re.compile(
    rb'\{"type":"frame","seq":\d+,"pts":[\d.]+,'
    rb'"parts":\[\{"name":"image","bytes":(\d+)\}\][^\n]*\}\n'
)
"""A frame's header that says nothing unusual: to match it costs a sixth of reading the JSON."""
SPARE: list[bytearray] = []
"""A rehearsal's buffer for the first source: to make another takes a millisecond."""


class Extent:
    """Where a whole frame is in the source's buffer: its header line is [start:body], its parts [body:stop].

    Of these, the image is [image:behind]. The offsets hold until the source reads again.
    """

    __slots__ = ("behind", "body", "image", "start", "stop")

    def __init__(self, start: int, body: int, image: int, behind: int, stop: int) -> None:
        self.start, self.body, self.image, self.behind, self.stop = start, body, image, behind, stop

    def moved(self, by: int) -> Extent:
        """Return the frame as it is so many bytes further on."""
        return Extent(
            self.start + by, self.body + by, self.image + by, self.behind + by, self.stop + by
        )


class Source:
    """The upstream's stream, read into one buffer and cut into whole frames."""

    def __init__(self, sock: socket.socket, formats: tuple[str, ...] = ALL_FORMATS) -> None:
        """Read the hello. Raises `OSError` if none comes, and `Fault` for one that cannot be used.

        `formats` are those of pictures that this stage takes.
        """
        self.sock = sock
        self.hello = read_hello(sock)
        require_format(self.hello, formats)
        self.ended = False
        self.dropped = 0  # frames that the upstream's end says it dropped
        self.buffer = SPARE.pop() if SPARE else bytearray(BLOCK)
        self.view = memoryview(self.buffer)
        self._start = self._fill = 0
        self._head: Extent | None = None  # the next one, which is not whole yet, from offset 0
        self._picture = picture_bytes(self.hello)
        self._asked = False  # it was told that there is a consumer

    def ask_for_frames(self, wanted: bool) -> None:
        """As an attached stage, tell the upstream whether frames would reach anybody."""
        if wanted != self._asked:
            self._asked = wanted
            with contextlib.suppress(OSError):  # a loss shows where it is read
                self.sock.send((CONSUME if wanted else ATTACH) + b"\n")

    def read(self) -> list[Extent]:
        """Receive once and return the frames that are whole now. Raises `Fault`."""
        self._free_space()
        try:
            received = self.sock.recv_into(self.view[self._fill :])
        except OSError as exc:
            raise Fault(BROKEN_STREAM, f"the upstream was lost in mid-stream: {exc}") from exc
        if not received:
            raise Fault(BROKEN_STREAM, "the upstream closed in mid-stream, without an end")
        self._fill += received
        with blame_upstream("header"):
            return list(self._frames())

    def _free_space(self) -> None:
        """Move what is left to the front; grow if one frame fills the whole buffer."""
        left = bytes(self.view[self._start : self._fill]) if self._start else b""
        if self._start:
            self._start, self._fill = 0, len(left)
            self.view[: self._fill] = left
        elif self._fill == len(self.view):
            self.buffer = self.buffer + bytes(self._fill)
            self.view = memoryview(self.buffer)

    def _frames(self) -> Iterator[Extent]:
        while (head := self._head or self._read_head()) is not None:
            if self._start + head.stop > self._fill:
                self._head = head
                return
            frame = head.moved(self._start)
            self._start, self._head = frame.stop, None
            yield frame

    def _read_head(self) -> Extent | None:
        """Return the next frame, as if it began at 0; None if its header is not here, or at the end."""
        limit = min(self._fill, self._start + LINE_LIMIT)
        if usual := USUAL_HEADER.match(self.buffer, self._start, limit):
            body, picture = usual.end() - self._start, self._picture
            if int(usual[1]) == picture:
                return Extent(0, body, body, body + picture, body + picture)
        newline = self.buffer.find(b"\n", self._start, limit)
        if newline < 0:
            if limit < self._fill:
                raise ValueError(f"no end of line within {LINE_LIMIT} bytes")
            return None
        header = parse_line(self.buffer[self._start : newline])
        if header["type"] == "end":
            self.ended = True
            self.dropped = whole_number(header, "dropped", 0)
            return None
        body = newline + 1 - self._start
        before, after = bytes_around_image(header, self._picture)
        image = body + before
        behind = image + self._picture
        return Extent(0, body, image, behind, behind + after)


def read_hello(sock: socket.socket) -> dict[str, Any]:
    """Read the hello and not a byte more: frames stay in the kernel until somebody wants them."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        seen = sock.recv(min(4096, LINE_LIMIT - len(line)), socket.MSG_PEEK)
        if not seen:
            raise ConnectionError("it closed before its hello")
        line += sock.recv(seen.find(b"\n") + 1 or len(seen))
    with blame_upstream("hello"):
        if not line.endswith(b"\n"):
            raise ValueError(f"no end of line within {LINE_LIMIT} bytes")
        return complete_hello(parse_line(line))


def open_connection(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first of a name's addresses that answers. Raises `OSError`."""
    refusal = OSError("the name has no address")
    for family, kind, protocol, _, address in resolve(host, port):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(seconds)
        try:
            sock.connect(address)
        except OSError as exc:
            sock.close()
            refusal = exc
        else:
            return sock
    raise refusal


def connect(settings: Settings, formats: tuple[str, ...] = ALL_FORMATS) -> Source:
    """Connect to the upstream and read its hello, repeatedly while it is not there yet. Raises `Fault`.

    `formats` are those of pictures that this stage takes.
    """
    (host, port), seconds = settings.upstream, settings.connect_timeout
    deadline = time.monotonic() + seconds

    def attempt() -> Source:
        left = max(0.05, deadline - time.monotonic())
        sock = open_connection(host, port, left)
        try:
            if settings.attached:
                sock.sendall(ATTACH + b"\n")  # at once: who is silent counts as a consumer
            source = Source(sock, formats)
        except BaseException:  # also a port proxy's connection, accepted before anybody listens
            sock.close()
            raise
        sock.setblocking(False)
        return source

    return keep_trying(attempt, f"get a hello from {host}:{port}", seconds)


def rehearse(prepare: Callable[[dict[str, Any]], Render]) -> None:
    """Do once what a session begins with: look a name up, read a hello and a frame, render the frame.

    `prepare` returns what renders the frames of a stream with such a hello.
    """
    resolve("localhost", 0)
    size = {"width": 256, "height": 256, "format": "gray8", "fps": 30, "count": 1}
    truth = {"cx": 128, "cy": 128, "rx": 64, "ry": 48, "angle": 0}
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    with ours, theirs:
        theirs.send(encode({"type": "hello", "stream": "", **size}))
        source = Source(ours)
        parts = [{"name": "image", "bytes": 256 * 256}]
        head = encode({"type": "frame", "seq": 0, "pts": 0.0, "parts": parts, "truth": truth})
        theirs.send(head + bytes(256 * 256))
        for frame in source.read():
            prepare(source.hello)(source.view, frame)
        SPARE.append(source.buffer)
