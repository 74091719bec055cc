# SPDX-License-Identifier: MIT
"""Cuts the bytes of a location into its hello and whole frames, without I/O; both formats.

A frame is one object of bytes from here on, however many are sent it: nothing is copied for each viewer.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import structs

from operatord_protocol.pictures.pixels import picture_bytes
from operatord_protocol.stream import (
    HEADER_BYTES,
    PAYLOAD_BYTES,
    Y4M,
    End,
    FrameHeader,
    Hello,
    StreamError,
    check_end,
    check_parts,
    parse_header,
    parse_hello,
)

from . import y4m

PARTS = 16
"""All parts of a frame together may be so many times as large as its picture."""
SPARE = 64 * 1024
"""Bytes that they may have beyond that."""


class _Terms(msgspec.Struct):
    """What a hello says besides of how it serves."""

    watch: object = False


_terms_of = msgspec.json.Decoder(_Terms).decode


class Picture(NamedTuple):
    """A frame as it is in the stream: its header line and its payloads, in ``raw``."""

    header: FrameHeader
    raw: bytes
    body: int
    """Where the payloads begin."""

    @property
    def seq(self) -> int:
        """The number of the frame; a gap is a dropped frame."""
        return self.header.seq

    def part(self, name: str) -> memoryview | None:
        """Return the bytes of a part, not copied; None if there is no such part."""
        start = self.body
        for part in self.header.parts:
            if part.name == name:
                return memoryview(self.raw)[start : start + part.bytes]
            start += part.bytes
        return None

    @property
    def image(self) -> memoryview:
        """The picture's pixels; every frame has them, the cutter has seen to that."""
        image = self.part("image")
        assert image is not None
        return image


class Cutter:
    """Bytes in, in any chunks; out comes a `Hello`, then each `Picture`, and the `End`."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.hello_line = b""
        """The hello as a line of ``format=json``, its newline included."""
        self.is_y4m = False
        """Whether the location speaks YUV4MPEG2, where the connection's end is the stream's."""
        self.knows_watch = False
        """Whether the stage has said that it knows spectators."""
        self.largest = 0
        """The bytes of the largest frame that was announced, be it whole yet or not."""
        self.ended = False
        self._buffer = bytearray()
        self._head: tuple[FrameHeader, int, int] | None = (
            None  # not whole yet; where parts begin, end
        )
        self._cut = 0  # frames

    def feed(self, data: bytes) -> list[Hello | Picture | End]:
        """Return what ``data`` completes; what comes after the end is dropped. Raises `StreamError`."""
        self._buffer += data
        found: list[Hello | Picture | End] = []
        while not self.ended and (item := self._next()) is not None:
            found.append(item)
        return found

    def finish(self) -> End:
        """Return the end that the connection's end stands for, or raise `StreamError`: it was cut short."""
        if self.is_y4m and not self._buffer:
            self.ended = True
            return End(frames=self._cut)
        what = "before its hello" if self.hello is None else "before its end"
        raise StreamError(f"the stream was cut off {what}")

    @property
    def limit(self) -> int:
        """The most bytes that all parts of a frame may have, by the hello's size of the pictures."""
        assert self.hello is not None
        width, height, format = self.hello.width, self.hello.height, self.hello.format
        picture = picture_bytes(format, width, height) or width * height
        return min(PAYLOAD_BYTES, PARTS * picture + SPARE)

    def _next(self) -> Hello | Picture | End | None:
        if self._head is None:
            at = self._end_of_line()
            if at < 0:
                return None
            if self.hello is None:
                return self._take_hello(at)
            header = self._header(bytes(self._buffer[:at]), self.hello)
            if isinstance(header, End):
                check_end(header, self._cut)
                self.ended = True
                return header
            self._head = header, at + 1, at + 1 + sum(part.bytes for part in header.parts)
        return self._picture(*self._head)

    def _end_of_line(self) -> int:
        """Return where the first line ends; -1 if that has not come yet."""
        at = self._buffer.find(b"\n", 0, HEADER_BYTES + 1)
        if at < 0 and len(self._buffer) > HEADER_BYTES:
            raise StreamError(f"a header line is at most {HEADER_BYTES} bytes")
        return at

    def _take_hello(self, at: int) -> Hello:
        line = bytes(self._buffer[: at + 1])
        del self._buffer[: at + 1]
        self.is_y4m = line.startswith(Y4M)
        self.hello = parse_hello(line[:-1])
        self.hello_line = line
        if self.is_y4m:
            self.hello = structs.replace(self.hello, format=y4m.pixels_of(line))
            self.hello_line = y4m.as_json(self.hello)
            self.knows_watch = y4m.WATCH in line.split()
        else:
            self.knows_watch = _terms_of(line).watch is True
        return self.hello

    def _header(self, line: bytes, hello: Hello) -> FrameHeader | End:
        header = y4m.read_frame(line, hello, self._cut) if self.is_y4m else parse_header(line)
        if isinstance(header, Hello):
            raise StreamError("a second hello came in the middle of the stream")
        if isinstance(header, FrameHeader):
            check_parts(header, hello)
            if (total := sum(part.bytes for part in header.parts)) > self.limit:
                size = f"{hello.width}×{hello.height} pixels"
                raise StreamError(
                    f"frame {header.seq} has {total} bytes, and one of {size} may have {self.limit} here"
                )
            self.largest = max(self.largest, total)
        return header

    def _picture(self, header: FrameHeader, body: int, stop: int) -> Picture | None:
        """Take a frame out of the buffer: that is the one time that its bytes are copied."""
        if len(self._buffer) < stop:
            return None
        with memoryview(self._buffer) as whole:
            if self.is_y4m:
                line = y4m.frame_as_json(header)
                picture = Picture(header, b"".join((line, whole[body:stop])), len(line))
            else:
                picture = Picture(header, bytes(whole[:stop]), body)
        del self._buffer[:stop]
        self._head = None
        self._cut += 1
        return picture
