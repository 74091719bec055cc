# SPDX-License-Identifier: MIT
"""OpenIGTLink's messages as bytes, without I/O: headers of version 1 and 2, IMAGE, STATUS.

A message is a header of 58 bytes, all numbers big endian, and a body:

    version  type      device    time stamp           bytes of the body  CRC of the body
    uint16   char[12]  char[20]  uint32 s, uint32 /2³²  uint64             uint64

From version 2 on, a body begins with an extended header of 12 bytes, and ends with metadata. Neither
is part of what this module calls the content. (openigtlink.org/developers/spec)
"""

from __future__ import annotations

import struct
import sys

try:
    import crcmod
except ImportError:  # of this machine, where no image brings it
    print("the package crcmod is missing: install Debian's python3-crcmod", file=sys.stderr)
    raise SystemExit(2) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER = struct.Struct(">H12s20sIIQQ")
EXTENDED = struct.Struct(">HHII")
"""Of version 2: bytes of itself, of the metadata's index and of the metadata; the message's id."""
NO_METADATA = b"\0\0"
"""An index of metadata with no entries."""
IMAGE = struct.Struct(">HBBBB3H12f6H")
"""What precedes the pixels: version, components, scalar type, endianness, coordinates, size, matrix,
first pixel and size of the part that is there."""
STATUS = struct.Struct(">Hq20s")
"""Code, the device's own code, the error's name; a text follows."""
TYPE_BYTES, DEVICE_BYTES = 12, 20

UINT8, INT16, UINT16 = 3, 4, 5
"""Scalar types of IMAGE."""
BIG, LITTLE = 1, 2
"""Endianness of the pixels."""
RAS, LPS = 1, 2
"""Coordinates: x to the right, y to the front; or x to the left, y to the back, as DICOM has it."""
OK = 1
"""STATUS: all is well."""

crc64: Callable[..., int] = crcmod.mkCrcFun(
    0x142F0E1EBA9EA3693, initCrc=0, rev=False, xorOut=0
)  # ECMA-182
"""Return the checksum of bytes; a second argument is that of the bytes before them."""


class Header:
    """What a message's first 58 bytes say. `time` is in seconds since 1970, 0 for unknown."""

    __slots__ = ("body_bytes", "crc", "device", "time", "type", "version")

    def __init__(self, data: Buffer) -> None:
        """Read a header; raise ValueError if this cannot be one."""
        self.version, kind, device, seconds, fraction, self.body_bytes, self.crc = HEADER.unpack(
            data
        )
        if not 1 <= self.version < 256:
            raise ValueError(f"its version would be {self.version}")
        self.type, self.device = _name(kind), _name(device)
        self.time = seconds + fraction / 2**32


def _name(field: bytes) -> str:
    """Return the text in a field that is filled up with zeros; raise ValueError if it is not ASCII."""
    return field.partition(b"\0")[0].decode("ascii").strip()


def content(header: Header, body: memoryview) -> memoryview:
    """Return a body without what version 2 has around it; raise ValueError if that contradicts itself."""
    if header.version == 1:
        return body
    if len(body) < EXTENDED.size:
        raise ValueError("it is too short for its extended header")
    own, index, metadata, _ = EXTENDED.unpack_from(body)
    if not EXTENDED.size <= own <= len(body) - index - metadata:
        raise ValueError("its extended header says more bytes than it has")
    return body[own : len(body) - index - metadata]


def message(
    kind: str, device: str, time: float, pieces: Sequence[Buffer], version: int = 1
) -> bytes:
    """Return a message whose content is the pieces, one after the other.

    `device` has up to 20 ASCII characters, `version` is 1 or 2.
    """
    if version > 1:
        extended = EXTENDED.pack(EXTENDED.size, len(NO_METADATA), 0, 0)
        pieces = [extended, *pieces, NO_METADATA]
    crc = 0
    for piece in pieces:
        crc = crc64(piece, crc)
    seconds, fraction = divmod(round(time * 2**32), 2**32)
    size = sum(map(len, pieces))
    names = kind.encode(), device.encode()
    header = HEADER.pack(version, *names, seconds % 2**32, fraction, size, crc)
    return b"".join((header, *pieces))


def status(device: str, time: float, text: str, version: int = 1) -> bytes:
    """Return a STATUS message that says that all is well."""
    pieces = STATUS.pack(OK, 0, b"OK"), text.encode("ascii", "replace") + b"\0"
    return message("STATUS", device, time, pieces, version)


class Image:
    """The content of an IMAGE message.

    `size` is columns, rows, slices. `matrix` has twelve numbers: a column's step in mm, a row's, a
    slice's, and the position of the middle of the image.
    """

    __slots__ = (
        "components",
        "coordinates",
        "endian",
        "matrix",
        "pixels",
        "scalar",
        "size",
        "whole",
    )

    def __init__(self, data: memoryview) -> None:
        """Read an image; raise ValueError if this cannot be one."""
        if len(data) < IMAGE.size:
            raise ValueError("it is too short for an image")
        _, self.components, self.scalar, self.endian, self.coordinates, *more = IMAGE.unpack_from(
            data
        )
        self.size, self.matrix, part = tuple(more[:3]), tuple(more[3:15]), tuple(more[15:])
        self.whole = part == (0, 0, 0, *self.size)  # its pixels are all there
        self.pixels = data[IMAGE.size :]


def image_head(
    components: int, scalar: int, size: tuple[int, int], matrix: Sequence[float], coordinates: int
) -> bytes:
    """Return what precedes the pixels, little endian, of an image of columns × rows in one slice."""
    whole = *size, 1
    return IMAGE.pack(1, components, scalar, LITTLE, coordinates, *whole, *matrix, 0, 0, 0, *whole)
