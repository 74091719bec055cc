# SPDX-License-Identifier: MIT
"""Pictures as people see them: the mask's outline drawn. Large ones are drawn beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from operatord_protocol.pictures.pixels import NAMES, PIXELS
from operatord_protocol.pictures.yuv import planes
from operatord_protocol.stream import Hello, StreamError

from . import contour
from .cutter import Picture

AT_ONCE = 512 * 1024
"""Bytes of a picture that is drawn in the loop: two milliseconds."""

_T = TypeVar("_T")


def require_known(hello: Hello) -> None:
    """Raise `StreamError` for a stream whose pictures cannot be drawn."""
    if hello.format not in PIXELS:
        raise StreamError(f"its pictures are {hello.format}, and players and PNG get {NAMES} only")


def drawn(picture: Picture, hello: Hello) -> bytes | memoryview:
    """Return the pixels of a frame in the stream's format, with the outline of its mask if it has one."""
    depth = PIXELS[hello.format].bytes
    return contour.drawn(picture.image, picture.part("mask"), hello.width, depth)


def for_players(picture: Picture, hello: Hello) -> bytes | memoryview:
    """Return what players are sent of a frame: its pixels, drawn; colours are Y, then Cb, then Cr."""
    pixels = drawn(picture, hello)
    return planes(pixels) if hello.format == "rgb24" else pixels


async def beside(work: Callable[[], _T], size: int) -> _T:
    """Return what ``work`` returns; for pictures of many bytes, it is done by a thread."""
    return work() if size <= AT_ONCE else await asyncio.to_thread(work)
