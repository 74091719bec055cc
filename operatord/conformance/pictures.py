# SPDX-License-Identifier: MIT
"""The frames that a scripted upstream sends: a dark disc on a light ground."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from operatord_protocol.pictures.pixels import PIXELS

SIDE = 256
"""Pixels of a picture's width, and of its height."""
FPS = 30
FRAMES = 64
"""Frames of a short stream: of 8 bits, 4 MiB, which is more than a stage has to read for its first frame."""
SAID: Mapping[str, object] = {"spacing": [0.5, 0.25], "depth": 120, "meta": {"check": "stage"}}
"""Members of a hello that stages pass on."""
EXTRA = "check-stage"
"""The name of a part that stages pass on …"""
EXTRA_BYTES = 16
"""… and its size."""


class Pictures:
    """Frames of one format."""

    def __init__(self, format: str) -> None:
        """Have frames of ``format``, which is one of those of the protocol."""
        self.format = format

    def hello(self, count: int | None, format: str | None = None) -> bytes:
        """Return an upstream's hello, maybe of another format than its frames have."""
        said: dict[str, object] = {
            "type": "hello",
            "stream": "check",
            "width": SIDE,
            "height": SIDE,
        }
        said |= {"format": format or self.format, "fps": FPS, **SAID}
        return msgspec.json.encode(said | ({} if count is None else {"count": count})) + b"\n"

    def frame(self, seq: int, *, extra: bool = False) -> bytes:
        """Return a frame with its header, and maybe one more part."""
        parts: list[dict[str, object]] = [{"name": "image", "bytes": len(self.picture)}]
        parts += [{"name": EXTRA, "bytes": EXTRA_BYTES}] if extra else []
        header = {"type": "frame", "seq": seq, "pts": round(seq / FPS, 6), "parts": parts}
        return msgspec.json.encode(header) + b"\n" + self.picture + bytes(EXTRA_BYTES * extra)

    @cached_property
    def picture(self) -> bytes:
        """The picture, which has some texture, as a segmentation may expect."""
        middle, radius = SIDE // 2, SIDE // 4
        rows = []
        for y in range(SIDE):
            for x in range(SIDE):
                inside = (x - middle) ** 2 + (y - middle) ** 2 < radius**2
                rows.append((40 if inside else 180) + (x * 7 + y * 13) % 31)
        return b"".join(bytes((value,)) * PIXELS[self.format].bytes for value in rows)


def end(frames: int) -> bytes:
    """Return an upstream's end."""
    return msgspec.json.encode({"type": "end", "frames": frames, "dropped": 0}) + b"\n"
