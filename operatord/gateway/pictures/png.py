# SPDX-License-Identifier: MIT
"""Writes a picture as PNG (ISO/IEC 15948), which is zlib and four chunks."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 3
"""zlib's effort: pictures of probes are noise, of which more effort makes little less."""
GREY, COLOURS = 0, 2
KINDS = {"gray8": (8, GREY, 1), "gray16le": (16, GREY, 2), "rgb24": (8, COLOURS, 3)}
"""By the format of pixels: bits of a value, what the values are, and the bytes of a pixel."""


def written(image: bytes | memoryview, width: int, height: int, format: str = "gray8") -> bytes:
    """Return a picture of ``height`` rows of ``width`` pixels as a PNG file, with all their bits."""
    bits, kind, depth = KINDS[format]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    packer = zlib.compressobj(LEVEL)
    values = _swapped(image) if bits == 16 else image
    data = packer.compress(_unfiltered(values, width * depth, height)) + packer.flush()
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _swapped(image: bytes | memoryview) -> bytearray:
    """Return values of two bytes with the high one first, as PNG has them."""
    values = bytes(image)
    swapped = bytearray(len(values))
    swapped[0::2], swapped[1::2] = values[1::2], values[0::2]
    return swapped


def _unfiltered(image: bytes | bytearray | memoryview, row_bytes: int, height: int) -> bytearray:
    """Return the rows, each after a byte 0, which says that no filter was used."""
    rows = bytearray((row_bytes + 1) * height)
    for row in range(height):
        begin = row * (row_bytes + 1) + 1
        rows[begin : begin + row_bytes] = image[row * row_bytes : (row + 1) * row_bytes]
    return rows


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
