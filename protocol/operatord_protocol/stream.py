# SPDX-License-Identifier: MIT
"""The stream format: JSON header lines with binary payloads between them, and no I/O.

    hello\\n  (frame\\n payload…)*  end\\n

`StreamParser` takes any chunks and gives hello, frames and end; `parse_hello` reads only the first
line, in either format, which is what proves that a location delivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .errors import Error
from .pictures.pixels import NAMES, PIXELS, Pixels, picture_bytes

if TYPE_CHECKING:
    from numpy import dtype, ndarray, uint8, uint16

    Picture = ndarray[tuple[int, ...], dtype[uint8] | dtype[uint16]]
    """Rows from top to bottom: a number for each pixel, or three."""
    Mask = ndarray[tuple[int, ...], dtype[uint8]]
    """Rows likewise, a byte for each pixel."""

HEADER_BYTES = 64 * 1024
"""Longest header line."""
PAYLOAD_BYTES = 64 * 1024 * 1024
"""Largest payload of one frame, all its parts together."""
CHECK = b'{"type":"check"}\n'
"""What a verifier sends first: it wants only the hello and must not count as a consumer."""
CONSUME_LIVE = b'{"type":"consume","policy":"live"}\n'
"""What a consumer says that nobody is to wait for."""

OPENIGTLINK = "openigtlink"
"""The format of a location that does not serve the stream format, but OpenIGTLink."""
IGTL_GREETINGS = (b"\0\1STATUS\0", b"\0\2STATUS\0")
"""What is sent there first: a STATUS message, with a header of version 1 or 2."""
OPEN_ELSEWHERE = (
    "this stream is OpenIGTLink: open it in 3D Slicer (OpenIGTLinkIF, as client, with the location's "
    "host and port)"
)
"""For whoever wants frames of such a location; 123 bytes are the most that closes a WebSocket."""

Y4M = b"YUV4MPEG2 "
"""What the first line of a stream for players begins with."""
READ_ALREADY = (
    "; most likely it has been read to its end already: `operatorctl get ID` tells whether its session has "
    "ended"
)
META_BYTES = 4096
"""Most bytes of a hello's `meta`, as JSON without white space."""

_Size = Annotated[int, Meta(ge=1, le=65536)]
_Length = Annotated[float, Meta(gt=0, le=1e6)]
_Cosine = Annotated[float, Meta(ge=-1.001, le=1.001)]
"""A direction cosine, as rounding goes."""
_Coordinate = Annotated[float, Meta(ge=-1e6, le=1e6)]
_Word = Annotated[str, Meta(max_length=64)]
_Rate = Annotated[float, Meta(ge=0, le=1e6)]
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class StreamError(Error):
    """The peer does not speak the stream format, or stopped in the middle of it."""


class CutOff(StreamError):
    """It ended, or broke, in the middle of the stream."""


class Unbegun(CutOff):
    """It ended before its hello."""

    def __init__(self, reason: str = "") -> None:
        """``reason`` is why, if that is known; if not, what is likely is said."""
        super().__init__(
            f"the stream ended before its hello{': ' if reason else ''}{reason or READ_ALREADY}"
        )


class Forbidden(StreamError):
    """The hello is malformed, or of a format that is not allowed here."""


class Hello(msgspec.Struct, frozen=True, tag="hello", tag_field="type"):
    """What a server says first: frames are ``height`` rows of ``width`` pixels."""

    stream: _Word
    width: _Size
    height: _Size
    format: _Word = "gray8"
    """Of the pixels; those that are known here are in `pictures.pixels.PIXELS`."""
    fps: _Rate = 0.0
    """Frames per second; 0 means as fast as they can be made."""
    count: _Count | None = None
    """Frames to come; None when that is not known."""
    spacing: tuple[_Length, _Length] | None = None
    """Millimetres from a pixel to the next one on its right, and to the one below."""
    depth: _Length | None = None
    """Millimetres that the picture reaches into the patient."""
    orientation: tuple[_Cosine, _Cosine, _Cosine, _Cosine, _Cosine, _Cosine] | None = None
    """Direction cosines of the rows and of the columns, as DICOM's Image Orientation (Patient)."""
    origin: tuple[_Coordinate, _Coordinate, _Coordinate] | None = None
    """Where the first pixel is, in millimetres, as DICOM's Image Position (Patient)."""
    meta: dict[str, Any] | None = None
    """Whatever else whoever makes the pictures wants to say of them."""

    def __post_init__(self) -> None:
        if self.meta is not None and len(msgspec.json.encode(self.meta)) > META_BYTES:
            raise ValueError(f"meta has more than {META_BYTES} bytes")


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
    format: str = "gray8"
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
        """Rows of pixels, top to bottom. Raises `StreamError` if there are none (see `check_parts`)."""
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
        """The image as a numpy array: a view of the frame's own bytes, which cannot be written to;
        ``.copy()`` can. ``uint8`` of ``(height, width)`` for gray8, ``uint16`` of the same for gray16le,
        ``uint8`` of ``(height, width, 3)``, red first, for rgb24.

        Raises `ImportError` without numpy, `ValueError` for another format or another number of bytes.
        """
        pixels = PIXELS.get(self.format)
        if pixels is None:
            raise ValueError(
                f"pictures of the format {self.format!r} cannot be made into arrays, only {NAMES}; the "
                "frame's image has their bytes"
            )
        array: Picture = _rows(self.image, self.height, self.width, pixels)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Be the image where numpy is given a frame, as in ``numpy.asarray(frame)``. Raises as `array`."""
        picture = self.array
        return _numpy().array(picture, dtype=dtype, copy=copy)

    @property
    def mask_array(self) -> Mask | None:
        """The mask as an array of ``uint8``, ``(height, width)``, 0 or 255 for each pixel; None in a plain
        stream. Raises as `array`.
        """
        if self.mask is None:
            return None
        mask: Mask = _rows(self.mask, self.height, self.width, PIXELS["gray8"])
        return mask

    def part(self, name: str) -> Part | None:
        """Return the description of a part."""
        return next((part for part in self.header.parts if part.name == name), None)


def _rows(data: bytes, height: int, width: int, pixels: Pixels) -> Any:
    """Return the same memory as an array. Raises `ImportError`, `ValueError` for another number of bytes."""
    shape = (height, width) if pixels.values == 1 else (height, width, pixels.values)
    return _numpy().frombuffer(data, pixels.dtype).reshape(shape)


def _numpy() -> Any:
    """Return the module. Raises `ImportError`."""
    try:
        import numpy  # noqa: PLC0415 - it is not needed otherwise, and takes a tenth of a second
    except ImportError as exc:
        raise ImportError("arrays take numpy: pip install numpy") from exc
    return numpy


class Refused(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    """What a gate says, in place of a stream, to whoever may not read it."""

    message: Annotated[str, Meta(max_length=1000)]


def open_line(token: str) -> bytes:
    """Return what a consumer says first at a gate that needs a token."""
    return msgspec.json.encode({"type": "open", "token": token}) + b"\n"


class _Greeting(msgspec.Struct, frozen=True, tag="hello", tag_field="type"):
    """A hello, whatever it says."""


_decode_greeting = msgspec.json.Decoder(_Greeting).decode
_decode_hello = msgspec.json.Decoder(Hello).decode
_decode_refused = msgspec.json.Decoder(Refused).decode
_decoder: msgspec.json.Decoder[Hello | FrameHeader | End] = msgspec.json.Decoder(
    Hello | FrameHeader | End
)


def require_stream(format: str) -> None:
    """Raise `StreamError` for a location of this format, if it does not have frames."""
    if format == OPENIGTLINK:
        raise StreamError(OPEN_ELSEWHERE)


def parse_hello(line: bytes) -> Hello:
    """Return the hello in the first line of a stream, json or y4m. Raises `StreamError`, `Forbidden`."""
    if line.startswith(Y4M):
        return _parse_y4m(line)
    header = parse_header(line)
    if not isinstance(header, Hello):
        raise StreamError("the stream did not begin with a hello")
    size = picture_bytes(header.format, header.width, header.height)
    if size is not None and size > PAYLOAD_BYTES:
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
        if (fault := _fault_of_hello(line)) is not None:
            raise Forbidden(f"its hello is malformed: {fault}") from exc
        raise StreamError("this is not a header of the stream format") from exc


def _refusal(line: bytes) -> Refused | None:
    try:
        return _decode_refused(line)
    except (ValueError, RecursionError):
        return None


def _fault_of_hello(line: bytes) -> str | None:
    """Return what is wrong with a hello, in words without anything that it says; None for another line."""
    try:
        _decode_greeting(line)
    except (ValueError, RecursionError):
        return None
    try:
        _decode_hello(line)
    except msgspec.ValidationError as exc:
        return str(exc).replace("`", "").replace("$.", "")
    except (ValueError, RecursionError):
        return None
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
    for name, format in (("image", hello.format), ("mask", "gray8")):
        expected = picture_bytes(format, hello.width, hello.height)
        if name in sizes and expected is not None and sizes[name] != expected:
            pixels = "pixels" if format == "gray8" else f"pixels of {format}"
            raise StreamError(
                f"the {name} of frame {header.seq} has {sizes[name]} bytes, and {hello.width}×{hello.height} "
                f"{pixels} have {expected}"
            )


def check_end(end: End, came: int) -> None:
    """Hold a stream's end against the frames that came before it. Raises `StreamError` if some are missing.

    More may have come: what a consumer was sent before it attached is counted for nobody.
    """
    if end.frames > came:
        raise StreamError(
            f"frames are missing: by its end the stream has sent {end.frames}, and {came} have come"
        )


class StreamParser:
    """Bytes in; `Hello`, `Frame` and `End` out, in any chunking."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: FrameHeader | None = None
        self._picture = (0, 0, "gray8")
        """Width, height and format of the pictures."""
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
            self._picture = hello.width, hello.height, hello.format
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
        return Frame(header, payloads, *self._picture)
