# SPDX-License-Identifier: MIT
"""The stream format: JSON header lines with binary payloads between them, and no I/O.

    hello\\n  (frame\\n payload…)*  end\\n

`StreamParser` takes any chunks and gives hello, frames and end; `parse_hello` reads only the first
line, in either format, which is what proves that a location delivers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from numpy import dtype, ndarray, uint8

    Picture = ndarray[tuple[int, int], dtype[uint8]]
    """Rows from top to bottom, a byte for each pixel."""

HEADER_BYTES = 64 * 1024
"""Longest header line."""
PAYLOAD_BYTES = 64 * 1024 * 1024
"""Largest payload of one frame, all its parts together."""
CHECK = b'{"type":"check"}\n'
"""What a verifier sends first: it wants only the hello and must not count as a consumer."""

Y4M = b"YUV4MPEG2 "
"""What the first line of a stream for players begins with."""
USUAL_RATE = 30
"""Frames per second that players are told where the stream says none."""
_MOST = 999_999_999
"""Nine digits are what readers take."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
"""A stage's name that may stand in the first line, of which ffmpeg takes 96 bytes."""

_Size = Annotated[int, Meta(ge=1, le=65536)]
_Word = Annotated[str, Meta(max_length=64)]
_Rate = Annotated[float, Meta(ge=0, le=1e6)]
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class StreamError(Exception):
    """The peer does not speak the stream format, or stopped in the middle of it."""


class Forbidden(StreamError):
    """The hello is of a format that is not allowed here."""


class Hello(msgspec.Struct, frozen=True, tag="hello", tag_field="type"):
    """What a server says first: frames are ``height`` rows of ``width`` 8-bit grey pixels."""

    stream: _Word
    width: _Size
    height: _Size
    format: _Word = "gray8"
    fps: _Rate = 0.0
    """Frames per second; 0 means as fast as they can be made."""
    count: _Count | None = None
    """Frames to come; None when that is not known."""


class Part(msgspec.Struct, frozen=True):
    """One binary part of a frame; a mask also says what was found."""

    name: str
    bytes: Annotated[int, Meta(ge=0, le=PAYLOAD_BYTES)]
    area: int | None = None
    bbox: list[int] | None = None
    dice: float | None = None


class FrameHeader(msgspec.Struct, frozen=True, tag="frame", tag_field="type"):
    seq: _Count
    parts: Annotated[list[Part], Meta(max_length=16)]
    pts: float = 0.0
    """Seconds since the stream's first frame."""


class End(msgspec.Struct, frozen=True, tag="end", tag_field="type"):
    frames: _Count
    dropped: _Count = 0


class Frame(msgspec.Struct, frozen=True):
    """One frame with its payloads by the parts' names."""

    header: FrameHeader
    payloads: dict[str, bytes]
    width: int = 0
    height: int = 0
    """Of its pictures, by the stream's hello."""

    def __repr__(self) -> str:
        # Without the payloads, which would only fill a terminal with bytes.
        return f"Frame({self.header!r})"

    @property
    def seq(self) -> int:
        return self.header.seq

    @property
    def pts(self) -> float:
        return self.header.pts

    @property
    def image(self) -> bytes:
        """Rows of grey pixels, top to bottom. Raises `StreamError` if there are none (see `check_parts`)."""
        try:
            return self.payloads["image"]
        except KeyError as exc:
            raise StreamError(f"frame {self.seq} has no image") from exc

    @property
    def mask(self) -> bytes | None:
        """0 or 255 for each pixel; None in a plain stream."""
        return self.payloads.get("mask")

    @property
    def array(self) -> Picture:
        """The image as a numpy array of ``uint8``, ``(height, width)``: a view of the frame's own bytes,
        which cannot be written to; ``.copy()`` can. Raises `ImportError` without numpy, `ValueError` for
        pictures of another format than ``gray8``.
        """
        return _picture(self.image, self.height, self.width)

    @property
    def mask_array(self) -> Picture | None:
        """The mask likewise, 0 or 255 for each pixel; None in a plain stream."""
        return None if self.mask is None else _picture(self.mask, self.height, self.width)

    def part(self, name: str) -> Part | None:
        """Return the description of a part."""
        return next((part for part in self.header.parts if part.name == name), None)


def _picture(data: bytes, height: int, width: int) -> Picture:
    """Return the same memory as an array. Raises `ImportError`, `ValueError` for another number of bytes."""
    try:
        import numpy  # noqa: PLC0415 - it is not needed otherwise, and takes a tenth of a second
    except ImportError as exc:
        raise ImportError("arrays take numpy: pip install numpy") from exc
    found: Any = numpy.frombuffer(data, numpy.uint8)
    array: Picture = found.reshape(height, width)
    return array


class Refused(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    """What a gate says, in place of a stream, to whoever may not read it."""

    message: Annotated[str, Meta(max_length=1000)]


def open_line(token: str) -> bytes:
    """Return what a consumer says first at a gate that needs a token."""
    return msgspec.json.encode({"type": "open", "token": token}) + b"\n"


_decode_refused = msgspec.json.Decoder(Refused).decode
_decoder: msgspec.json.Decoder[Hello | FrameHeader | End] = msgspec.json.Decoder(
    Hello | FrameHeader | End
)


def parse_hello(line: bytes) -> Hello:
    """Return the hello in the first line of a stream, json or y4m. Raises `StreamError`, `Forbidden`."""
    if line.startswith(Y4M):
        return _parse_y4m(line)
    header = parse_header(line)
    if not isinstance(header, Hello):
        raise StreamError("the stream did not begin with a hello")
    size = header.width * header.height
    if header.format == "gray8" and size > PAYLOAD_BYTES:
        raise Forbidden(
            f"pictures of {header.width}×{header.height} pixels have {size} bytes, and a frame has at most "
            f"{PAYLOAD_BYTES}"
        )
    return header


def parse_upstream(line: bytes) -> Hello:
    """Return the hello of a stream that a stage is to read, which is json.

    Raises `StreamError`, `Forbidden`.
    """
    hello = parse_hello(line)
    if line.startswith(Y4M):
        raise Forbidden("it is YUV4MPEG2, which is for players: stages read json")
    return hello


def parse_header(line: bytes) -> Hello | FrameHeader | End:
    """Return what a header line of ``format=json`` says. Raises `StreamError`."""
    try:
        return _decoder.decode(line)
    except (ValueError, RecursionError) as exc:
        if (refused := _refusal(line)) is not None:
            raise StreamError(f"the stream is refused: {refused.message}") from exc
        raise StreamError("this is not a header of the stream format") from exc


def _refusal(line: bytes) -> Refused | None:
    try:
        return _decode_refused(line)
    except (ValueError, RecursionError):
        return None


def _parse_y4m(line: bytes) -> Hello:
    """Read ``W``, ``H`` and ``F`` of a YUV4MPEG2 header (as mjpegtools' yuv4mpeg(5) has them)."""
    fields = {token[:1]: token[1:] for token in line.decode("ascii", "replace").split()[1:]}
    rate, _, base = fields.get("F", "0:1").partition(":")
    try:
        hello = {
            "type": "hello",
            "stream": "y4m",
            "width": _y4m_number(fields["W"]),
            "height": _y4m_number(fields["H"]),
            "fps": _y4m_number(rate) / _y4m_number(base or "1"),
        }
        return msgspec.convert(hello, Hello)
    except (KeyError, ValueError, ZeroDivisionError) as exc:
        raise StreamError("the YUV4MPEG2 header has no valid size or rate") from exc


def _y4m_number(digits: str) -> int:
    """Return a number of at most nine digits; `int` alone would take signs and underscores."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise ValueError(digits)
    return int(digits)


def check_parts(header: FrameHeader, hello: Hello) -> None:
    """Hold a frame's parts against the hello. Raises `StreamError`."""
    sizes = {part.name: part.bytes for part in header.parts}
    if len(sizes) < len(header.parts):
        raise StreamError(f"frame {header.seq} has two parts of one name")
    if "image" not in sizes:
        raise StreamError(f"frame {header.seq} has no image")
    if hello.format != "gray8":
        return  # how many bytes such a picture has is not known here
    for name in ("image", "mask"):
        size, expected = sizes.get(name, 0), hello.width * hello.height
        if name in sizes and size != expected:
            raise StreamError(
                f"the {name} of frame {header.seq} has {size} bytes, and {hello.width}×{hello.height} "
                f"pixels have {expected}"
            )


class StreamParser:
    """Bytes in; `Hello`, `Frame` and `End` out, in any chunking."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: FrameHeader | None = None
        self._size = (0, 0)
        self._state: Literal["hello", "frames", "end"] = "hello"
        self.fault: StreamError | None = None
        """The error that follows everything returned so far."""

    @property
    def ended(self) -> bool:
        """Whether `End` has come."""
        return self._state == "end"

    def feed(self, data: bytes | memoryview) -> list[Hello | Frame | End]:
        """Return what ``data`` completes; what comes after the end is dropped.

        Raises `StreamError`, once all that was right before it has been returned: until the next call it is
        the `fault`.
        """
        if self.fault is not None:
            raise self.fault
        if self.ended:
            return []
        self._buffer += data
        out: list[Hello | Frame | End] = []
        try:
            while (item := self._next()) is not None:
                out.append(item)
        except StreamError as exc:
            self.fault = exc
            if not out:
                raise
        return out

    def _next(self) -> Hello | Frame | End | None:
        if self._header is None:
            header = self._read_header()
            if not isinstance(header, FrameHeader):
                return header
            self._header = header
        return self._read_payloads(self._header)

    def _read_header(self) -> Hello | FrameHeader | End | None:
        if self._state == "end":
            self._buffer.clear()
            return None
        at = self._buffer.find(b"\n", 0, HEADER_BYTES + 1)
        if at < 0:
            if len(self._buffer) > HEADER_BYTES:
                raise StreamError(f"a header line is at most {HEADER_BYTES} bytes")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return self._advance(line)

    def _advance(self, line: bytes) -> Hello | FrameHeader | End:
        if self._state == "hello":
            self._state = "frames"
            hello = parse_hello(line)
            self._size = hello.width, hello.height
            return hello
        header = parse_header(line)
        if isinstance(header, Hello):
            raise StreamError("a second hello came in the middle of the stream")
        if isinstance(header, End):
            self._state = "end"
        return header

    def _read_payloads(self, header: FrameHeader) -> Frame | None:
        total = sum(part.bytes for part in header.parts)
        if total > PAYLOAD_BYTES:
            raise StreamError(f"a frame has at most {PAYLOAD_BYTES} bytes")
        if len(self._buffer) < total:
            return None
        payloads: dict[str, Any] = {}
        start = 0
        for part in header.parts:
            payloads[part.name] = bytes(self._buffer[start : start + part.bytes])
            start += part.bytes
        del self._buffer[:total]
        self._header = None
        return Frame(header, payloads, *self._size)


def first_line(hello: Hello) -> bytes:
    """Return the line that a stream for players (YUV4MPEG2) begins with; at most 96 bytes."""
    size = f"W{hello.width} H{hello.height}"
    stream = f" Xstream={hello.stream}" if _NAME.fullmatch(hello.stream) else ""
    return f"YUV4MPEG2 {size} F{_rate(hello.fps)} Ip A1:1 Cmono{stream}\n".encode()


def frame_line(header: FrameHeader) -> bytes:
    """Return the line that comes before a picture for players; at most 80 bytes, which ffmpeg takes."""
    return f"FRAME Xseq={header.seq} Xpts={header.pts!r}\n".encode()


def _rate(fps: float) -> str:
    fps = fps or USUAL_RATE
    return f"{int(fps)}:1" if fps == int(fps) else f"{min(max(1, round(fps * 1000)), _MOST)}:1000"
