# SPDX-License-Identifier: MIT
"""Pictures in luma and chroma, as most sources have them, made rgb24 by ffmpeg's own library, libswscale.

ffmpeg could do it before it writes them, and does where the library is not found. But then a picture of 1080p
that is 3 MB after decoding has 6 MB when it goes to this process, which costs more than a millisecond of a
processor: the encoder copies it, the kernel takes and gives it in pieces. Here, it is converted on its way
into the buffer that it is sent from, by the same code, so that the bytes are the same.

Only functions of the library are called that all of its versions since 2011 have, with plain numbers: nothing
here depends on how its structures are laid out.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

VERSIONS = range(12, 3, -1)
"""Of the library, the newest first: as the names of its files end."""
QUIET = -8
"""The library's level of messages: none."""
BICUBIC = 4
"""How chroma is brought to the size of the picture where there is a choice: as ffmpeg does it by itself."""
AS_THEY_ARE = (0, 1 << 16, 1 << 16)
"""Brightness, contrast and saturation, in 65536ths."""
BEYOND = 64
"""Bytes after a plane or a row that the library may touch, as it treats many at once."""
STEP = 16
"""Pixels that are treated at once: rows of other widths get room for as many."""


class Plane(NamedTuple):
    """A part of a picture: `bytes` for every `across` pixels of a row, in one of `down` rows."""

    bytes: int
    across: int = 1
    down: int = 1

    def row(self, width: int) -> int:
        """Return the bytes of a row."""
        return self.bytes * -(-width // self.across)

    def rows(self, height: int) -> int:
        """Return how many rows there are."""
        return -(-height // self.down)


class Layout(NamedTuple):
    """How a picture's planes follow each other, in rows without gaps."""

    name: str
    """ffmpeg's."""
    planes: tuple[Plane, ...]


def planar(size: int, across: int, down: int) -> tuple[Plane, ...]:
    """Return the planes of luma and twice chroma, in samples of so many bytes."""
    return (Plane(size), *[Plane(size, across, down)] * 2)


LAYOUTS = {
    b"I420": Layout("yuv420p", planar(1, 2, 2)),
    b"Y42B": Layout("yuv422p", planar(1, 2, 1)),
    b"444P": Layout("yuv444p", planar(1, 1, 1)),
    b"NV12": Layout("nv12", (Plane(1), Plane(2, 2, 2))),
    b"YUY2": Layout("yuyv422", (Plane(4, 2),)),
    b"UYVY": Layout("uyvy422", (Plane(4, 2),)),
    b"Y3\x0b\x0a": Layout("yuv420p10le", planar(2, 2, 2)),
    b"Y3\x0a\x0a": Layout("yuv422p10le", planar(2, 2, 1)),
    b"Y3\x00\x0a": Layout("yuv444p10le", planar(2, 1, 1)),
}
"""By what NUT calls them. Of a source in another one ffmpeg makes the nearest of these first."""
FULL_RANGE = ("yuvj420p", "yuvj422p", "yuvj444p")
"""Other names of three of these, which stand for luma from 0 to 255."""
FORMATS = (*(layout.name for layout in LAYOUTS.values()), *FULL_RANGE)
"""ffmpeg's names of them all."""
MATRICES = {
    "bt709": 1,
    "fcc": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "bt2020nc": 9,
    "bt2020c": 10,
}
"""Numbers of ITU-T H.273 for how luma and chroma were made, by ffmpeg's names."""
UNKNOWN_MATRIX = 2


class Colours(NamedTuple):
    """What ffmpeg says of the colours that it writes."""

    full: bool = False
    """Whether luma goes from 0 to 255, not from 16 to 235."""
    matrix: int = UNKNOWN_MATRIX


Places = ctypes.c_void_p * 4
"""Where the planes of a picture are."""
Numbers = ctypes.c_int * 4
"""Bytes from row to row, of each."""


def library() -> ctypes.CDLL | None:
    """Return libswscale, or None where it is not installed beside ffmpeg."""
    for version in VERSIONS:
        try:
            found = ctypes.CDLL(f"libswscale.so.{version}")
        except OSError:
            continue
        pointer, number = ctypes.c_void_p, ctypes.c_int
        found.av_get_pix_fmt.argtypes = [ctypes.c_char_p]  # this and the last one are libavutil's
        found.sws_getContext.restype = found.sws_getCoefficients.restype = pointer
        found.sws_getContext.argtypes = [*[number] * 7, *[pointer] * 3]
        found.sws_setColorspaceDetails.argtypes = [pointer, pointer, number, pointer, *[number] * 4]
        found.sws_scale.argtypes = [pointer, Places, Numbers, number, number, Places, Numbers]
        found.sws_freeContext.argtypes = [pointer]
        found.av_log_set_level(QUIET)
        return found
    return None


class Converter:
    """Makes pictures of one size and layout rgb24; `source` is where each of them is to be put."""

    def __init__(
        self, swscale: ctypes.CDLL, layout: Layout, size: tuple[int, int], colours: Colours
    ) -> None:
        width, self._height = size
        self._library, self._row = swscale, 3 * width
        self._lay_out(layout.planes, width)
        padded = width % STEP > 0
        wide = 3 * (width + padded * STEP)
        self._room = bytearray(wide * self._height + BEYOND) if padded else None
        self._wide = Numbers(wide)
        same = (width, self._height)
        made, wanted = map(swscale.av_get_pix_fmt, (layout.name.encode(), b"rgb24"))
        self._context = swscale.sws_getContext(
            *same, made, *same, wanted, BICUBIC, None, None, None
        )
        if not self._context:
            raise MemoryError
        matrix, default = map(swscale.sws_getCoefficients, (colours.matrix, UNKNOWN_MATRIX))
        swscale.sws_setColorspaceDetails(
            self._context, matrix, colours.full, default, 0, *AS_THEY_ARE
        )

    def _lay_out(self, planes: tuple[Plane, ...], width: int) -> None:
        sizes = [plane.row(width) * plane.rows(self._height) for plane in planes]
        room = bytearray(sum(sizes) + BEYOND)
        self.source = memoryview(room)[:-BEYOND]
        begin = address(room)
        self._planes = Places(*(begin + sum(sizes[:number]) for number in range(len(planes))))
        self._strides = Numbers(*(plane.row(width) for plane in planes))

    def convert(self, view: memoryview) -> None:
        """Write the picture that is in `source` to a view of just as many bytes as it has in rgb24."""
        place = Places(address(self._room or view))
        source = (self._planes, self._strides, 0, self._height)
        self._library.sws_scale(self._context, *source, place, self._wide)
        if self._room:
            self._close_gaps(self._room, view)

    def _close_gaps(self, room: bytearray, view: memoryview) -> None:
        row, wide = self._row, self._wide[0]
        with memoryview(room) as rows:
            for number in range(self._height):
                view[number * row : (number + 1) * row] = rows[number * wide : number * wide + row]

    def close(self) -> None:
        """Give the library's memory back; nothing can be converted any more."""
        self._library.sws_freeContext(self._context)


def address(buffer: bytearray | memoryview) -> int:
    """Return where a buffer is, for as long as it is not resized."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
