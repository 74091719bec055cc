# SPDX-License-Identifier: MIT
"""YUV4MPEG2 (as mjpegtools' yuv4mpeg(5) has it), read where a location speaks it."""

from __future__ import annotations

import math

import msgspec

from operatord_protocol.pictures.pixels import PIXELS, picture_bytes
from operatord_protocol.pictures.players import USUAL_RATE
from operatord_protocol.stream import FrameHeader, Hello, Part, StreamError

WATCH = b"Xwatch"
"""A word of the first line: the stage knows spectators."""
GREY = {b"C" + PIXELS[name].colours.encode(): name for name in ("gray8", "gray16le")}
"""Words of the first line that say what pixels are."""


def pixels_of(line: bytes) -> str:
    """Return the format of pixels that a first line stands for. Raises `StreamError` unless they are grey."""
    for word in line.split():
        if word in GREY:
            return GREY[word]
    raise StreamError(
        "its YUV4MPEG2 has no grey pictures (Cmono, Cmono16), which are all that can be read of it here; "
        "sessions of format json are shown in colour, too"
    )


def read_frame(line: bytes, hello: Hello, number: int) -> FrameHeader:
    """Return the header of frame ``number`` of a mono stream from its line. Raises `StreamError`."""
    words = line.split()
    if words[:1] != [b"FRAME"]:
        raise StreamError("a line of the YUV4MPEG2 stream is not that of a frame")
    said = dict(word.partition(b"=")[::2] for word in words[1:])
    seq = said.get(b"Xseq", b"")
    pts = _number(said.get(b"Xpts", b""), number / (hello.fps or USUAL_RATE))
    picture = Part("image", picture_bytes(hello.format, hello.width, hello.height) or 0)
    return FrameHeader(int(seq) if seq.isdigit() and len(seq) < 16 else number, [picture], pts)


def _number(digits: bytes, otherwise: float) -> float:
    try:
        value = float(digits)
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise


def as_json(hello: Hello) -> bytes:
    """Return a hello as a line of ``format=json``."""
    said = {
        "type": "hello",
        "stream": hello.stream,
        "width": hello.width,
        "height": hello.height,
        "format": hello.format,
        "fps": hello.fps,
    }
    return msgspec.json.encode(said) + b"\n"


def frame_as_json(header: FrameHeader) -> bytes:
    """Return the header of a frame with one part as a line of ``format=json``."""
    parts = [{"name": part.name, "bytes": part.bytes} for part in header.parts]
    said = {"type": "frame", "seq": header.seq, "pts": header.pts, "parts": parts}
    return msgspec.json.encode(said) + b"\n"
