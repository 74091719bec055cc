# SPDX-License-Identifier: MIT
"""Cuts a stream's bytes into what is whole: its head, each frame, its end. No I/O.

What comes in is told by its first line: the stream format with JSON headers, or YUV4MPEG2. Pieces are as they
came, or the pictures of the former as YUV4MPEG2, which has no room for masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from operatord_protocol.pictures.pixels import NAMES, PIXELS
from operatord_protocol.pictures.players import USUAL_RATE, first_line, frame_line
from operatord_protocol.pictures.yuv import planes
from operatord_protocol.stream import (
    HEADER_BYTES,
    PAYLOAD_BYTES,
    Y4M,
    CutOff,
    End,
    FrameHeader,
    Hello,
    StreamError,
    Unbegun,
    check_end,
    check_parts,
    parse_header,
    parse_hello,
)

Format = Literal["raw", "y4m"]
COLOURS = {"mono": (1, 1), "mono16": (2, 1), "420": (3, 2), "422": (2, 1), "444": (3, 1)}
"""Bytes for a pixel of an even size, by how YUV4MPEG2 calls colours (yuv4mpeg(5))."""


class Piece(NamedTuple):
    """Something whole, as it is to be kept."""

    kind: Literal["head", "frame", "end"]
    data: bytes
    seq: int | None = None
    """The frame's number, where it has one."""
    expected: int | None = None
    """Of a head: frames to come, if that is known."""
    assumed_fps: float | None = None
    """Of a head for players: their rate, where the stream says none."""
    dropped: int = 0
    """Of an end: frames that this consumer was not sent."""


class Cutter:
    """Bytes in, in any chunks; pieces out."""

    def __init__(self, wanted: Format, fps: float | None = None) -> None:
        """``wanted``: as they came, or for players, who are told ``fps`` where the stream says no rate."""
        self._wanted, self._fps = wanted, fps
        self._buffer = bytearray()
        self._kind: _Json | _Players | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[Piece]:
        """Yield what ``data`` completes. Raises `StreamError` after all that was right before."""
        self._buffer += data
        while (piece := self._next()) is not None:
            yield piece

    def finish(self) -> None:
        """Note that nothing more comes. Raises `CutOff` when that cuts the stream short."""
        if self._kind is None:
            raise Unbegun
        if self._buffer or not self._kind.may_end:
            raise CutOff("the stream was cut off before its end")

    def _next(self) -> Piece | None:
        if self._kind is not None:
            return self._kind.take(self._buffer)
        if (line := take_line(self._buffer)) is None:
            return None
        self._kind = _Players() if line.startswith(Y4M) else _Json(self._wanted, self._fps)
        return self._kind.begin(line)


class _Json:
    """The stream format with JSON headers."""

    def __init__(self, wanted: Format, fps: float | None) -> None:
        self._players, self._fps = wanted == "y4m", fps or USUAL_RATE
        self._hello: Hello
        self._header: tuple[FrameHeader, bytes] | None = None
        self._came = 0  # frames
        self.may_end = False

    def begin(self, line: bytes) -> Piece:
        self._hello = hello = parse_hello(line)
        if not self._players:
            return Piece("head", line, expected=hello.count)
        if hello.format not in PIXELS:
            raise StreamError(
                f"its pictures are {hello.format}, and only {NAMES} can be made into y4m: keep it as it is"
            )
        if hello.fps:
            return Piece("head", first_line(hello), expected=hello.count)
        line = first_line(hello, self._fps)
        return Piece("head", line, expected=hello.count, assumed_fps=self._fps)

    def take(self, buffer: bytearray) -> Piece | None:
        if self._header is None and not self.may_end:
            if (line := take_line(buffer)) is None:
                return None
            header = parse_header(line)
            if isinstance(header, End):
                check_end(header, self._came)
                self.may_end = True
                return Piece("end", b"" if self._players else line, dropped=header.dropped)
            self._header = self._checked(header), line
        return None if self._header is None else self._frame(*self._header, buffer)

    def _checked(self, header: Hello | FrameHeader) -> FrameHeader:
        if isinstance(header, Hello):
            raise StreamError("a second hello came in the middle of the stream")
        check_parts(header, self._hello)
        if sum(part.bytes for part in header.parts) > PAYLOAD_BYTES:
            raise StreamError(f"a frame has at most {PAYLOAD_BYTES} bytes")
        return header

    def _frame(self, header: FrameHeader, line: bytes, buffer: bytearray) -> Piece | None:
        total = sum(part.bytes for part in header.parts)
        if len(buffer) < total:
            return None
        self._header = None
        self._came += 1
        payload = _taken(buffer, total)
        if not self._players:
            return Piece("frame", line + payload, header.seq)
        start = 0
        for part in header.parts:
            if part.name == "image":
                break
            start += part.bytes
        picture = payload[start : start + part.bytes]
        if self._hello.format == "rgb24":
            picture = planes(picture)
        return Piece("frame", frame_line(header) + picture, header.seq)


class _Players:
    """YUV4MPEG2, which stays what it is."""

    may_end = True
    """It has no end but that of the connection."""

    def __init__(self) -> None:
        self._size = 0
        self._line: bytes | None = None

    def begin(self, line: bytes) -> Piece:
        hello = parse_hello(line)
        self._size = _picture_bytes(line, hello)
        if self._size > PAYLOAD_BYTES:
            raise StreamError(f"a frame has at most {PAYLOAD_BYTES} bytes")
        return Piece("head", line)

    def take(self, buffer: bytearray) -> Piece | None:
        if self._line is None:
            self._line = take_line(buffer)
        if self._line is None or len(buffer) < self._size:
            self.may_end = self._line is None
            return None
        line, self._line, self.may_end = self._line, None, True
        if not line.startswith(b"FRAME"):
            raise StreamError("a frame of YUV4MPEG2 begins with FRAME, and this one does not")
        return Piece("frame", line + _taken(buffer, self._size), _seq_of(line))


def _picture_bytes(line: bytes, hello: Hello) -> int:
    """Return the bytes of each picture. Raises `StreamError` for colours that nobody knows here."""
    fields = {token[:1]: token[1:] for token in line.decode("ascii", "replace").split()[1:]}
    colour = fields.get("C", "420")
    known = "420" if colour.startswith("420") and "p1" not in colour else colour
    if known not in COLOURS:
        raise StreamError(f"how large pictures with the colours {colour!r} are is not known here")
    if known in {"mono", "mono16", "444"}:
        return hello.width * hello.height * COLOURS[known][0]
    wide, high = (hello.width + 1) // 2, (hello.height + 1) // 2 if known == "420" else hello.height
    return hello.width * hello.height + 2 * wide * high


def _seq_of(line: bytes) -> int | None:
    for token in line.split():
        if token.startswith(b"Xseq=") and token[5:].isdigit():
            return int(token[5:])
    return None


def take_line(buffer: bytearray) -> bytes | None:
    """Take a line with its end; None when it has not come. Raises `StreamError` for one that is too long."""
    at = buffer.find(b"\n", 0, HEADER_BYTES + 1)
    if at < 0:
        if len(buffer) > HEADER_BYTES:
            raise StreamError(f"a header line is at most {HEADER_BYTES} bytes")
        return None
    return _taken(buffer, at + 1)


def _taken(buffer: bytearray, size: int) -> bytes:
    with memoryview(buffer) as view:
        data = bytes(view[:size])
    del buffer[:size]
    return data
