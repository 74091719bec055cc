# SPDX-License-Identifier: MIT
"""The lines of YUV4MPEG2 (yuv4mpeg(5)), as which players are sent a stream."""

from __future__ import annotations

import re

from operatord_protocol.stream import FrameHeader, Hello, StreamError

from .pixels import NAMES, PIXELS

USUAL_RATE = 30
"""Frames per second that players are told where the stream says none."""
_MOST = 999_999_999
"""Nine digits are what readers take."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,30}")
"""A stage's name that may stand in the first line, of which ffmpeg takes 96 bytes."""


def first_line(hello: Hello, assumed_fps: float = USUAL_RATE) -> bytes:
    """Return the line that a stream for players (YUV4MPEG2) begins with; at most 96 bytes.

    ``assumed_fps``: frames per second that players are told where the stream says none.
    Raises `StreamError` for pictures of a format that cannot be made into it.
    """
    if (pixels := PIXELS.get(hello.format)) is None:
        raise StreamError(f"its pictures are {hello.format}, and players can be sent {NAMES} only")
    size = f"W{hello.width} H{hello.height}"
    stream = f" Xstream={hello.stream}" if _NAME.fullmatch(hello.stream) else ""
    return f"YUV4MPEG2 {size} F{_rate(hello.fps or assumed_fps)} Ip A1:1 C{pixels.colours}{stream}\n".encode()


def frame_line(header: FrameHeader) -> bytes:
    """Return the line that comes before a picture for players; at most 80 bytes, which ffmpeg takes."""
    return f"FRAME Xseq={header.seq} Xpts={header.pts!r}\n".encode()


def _rate(fps: float) -> str:
    return f"{int(fps)}:1" if fps == int(fps) else f"{min(max(1, round(fps * 1000)), _MOST)}:1000"
