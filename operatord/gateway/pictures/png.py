# SPDX-License-Identifier: MIT
"""Writes a grey picture as PNG (ISO/IEC 15948), which is zlib and four chunks."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 3
"""zlib's effort: pictures of probes are noise, of which more effort makes little less."""
GREY = 0
BITS = 8


def written(image: bytes | memoryview, width: int, height: int) -> bytes:
    """Return a picture of ``height`` rows of ``width`` bytes as a PNG file."""
    header = struct.pack(">IIBBBBB", width, height, BITS, GREY, 0, 0, 0)
    packer = zlib.compressobj(LEVEL)
    rows = bytearray((width + 1) * height)  # each begins with a byte 0: no filter
    for row in range(height):
        begin = row * (width + 1) + 1
        rows[begin : begin + width] = image[row * width : (row + 1) * width]
    data = packer.compress(rows) + packer.flush()
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
