# SPDX-License-Identifier: MIT
"""The greeting of a stage that serves OpenIGTLink: a STATUS message, of which the header is read.

A header has 58 bytes, all numbers big endian; a body follows.
"""

from __future__ import annotations

import asyncio
import struct

from operatord_protocol.stream import IGTL_GREETINGS, StreamError

HEADER = struct.Struct(">H12s20sIIQQ")
"""Version, type, device, seconds, their fraction, bytes of the body, its checksum."""
MOST_BODY = 64 * 1024
"""Bytes that the body of a greeting may have."""


async def read_greeting(reader: asyncio.StreamReader) -> None:
    """Read a greeting and not a byte more. Raises `StreamError`, `asyncio.IncompleteReadError`, `OSError`."""
    header = await reader.readexactly(HEADER.size)
    await reader.readexactly(_body_bytes(header))


def _body_bytes(header: bytes) -> int:
    if not header.startswith(IGTL_GREETINGS):
        raise StreamError("this is not a STATUS message of OpenIGTLink")
    size: int = HEADER.unpack(header)[5]
    if size > MOST_BODY:
        raise StreamError(f"a greeting of {size} bytes is too long")
    return size
