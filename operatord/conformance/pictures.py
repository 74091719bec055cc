# SPDX-License-Identifier: MIT
"""The frames that a scripted upstream sends: a dark disc on a light ground."""

from __future__ import annotations

import functools

import msgspec

SIDE = 256
"""Pixels of a picture's width, and of its height."""
FPS = 30
FRAMES = 64
"""Frames of a short stream: 4 MiB, more than a stage has to read for its first frame."""
FRAME_BYTES = SIDE * SIDE


def hello(count: int | None, **changed: object) -> bytes:
    """Return an upstream's hello."""
    said: dict[str, object] = {"type": "hello", "stream": "check", "width": SIDE, "height": SIDE}
    said |= {"format": "gray8", "fps": FPS} | ({} if count is None else {"count": count})
    return msgspec.json.encode(said | changed) + b"\n"


def frame(seq: int) -> bytes:
    """Return a frame with its header."""
    parts = [{"name": "image", "bytes": FRAME_BYTES}]
    header = {"type": "frame", "seq": seq, "pts": round(seq / FPS, 6), "parts": parts}
    return msgspec.json.encode(header) + b"\n" + picture()


def end(frames: int) -> bytes:
    """Return an upstream's end."""
    return msgspec.json.encode({"type": "end", "frames": frames, "dropped": 0}) + b"\n"


@functools.cache
def picture() -> bytes:
    """Return the picture, which has some texture, as a segmentation may expect."""
    middle, radius = SIDE // 2, SIDE // 4
    pixels = bytearray()
    for y in range(SIDE):
        for x in range(SIDE):
            inside = (x - middle) ** 2 + (y - middle) ** 2 < radius**2
            pixels.append((40 if inside else 180) + (x * 7 + y * 13) % 31)
    return bytes(pixels)
