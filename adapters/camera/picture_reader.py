# SPDX-License-Identifier: MIT
"""The pictures of one run of the decoder, in the pixel format that the stream has."""

from __future__ import annotations

import ctypes

from camera_settings import BYTES_PER_PIXEL
from colours import LAYOUTS, Colours, Converter
from nut import NutError, NutReader


class PictureReader:
    """Reads pictures into views; those in luma and chroma, which come where that is allowed, become rgb24."""

    def __init__(
        self,
        stream: NutReader,
        pixel_format: str,
        colours: Colours,
        swscale: ctypes.CDLL | None,
    ) -> None:
        """Read pictures of the size that the stream's head says."""
        self._stream = stream
        size = (stream.width, stream.height)
        self.bytes = stream.width * stream.height * BYTES_PER_PIXEL[pixel_format]
        """Of a picture as it is sent."""
        layout = LAYOUTS.get(stream.layout)
        self._converter = Converter(swscale, layout, size, colours) if swscale and layout else None
        self._expected = len(self._converter.source) if self._converter else self.bytes

    def read(self, size: int, view: memoryview) -> None:
        """Read the next picture, of so many bytes. Raises `EOFError`, NutError or TimeoutError."""
        if size != self._expected:
            raise NutError("its pictures have another size, or other pixels, from here on")
        if self._converter is None:
            self._stream.read_frame(view)
            return
        self._stream.read_frame(self._converter.source)
        self._converter.convert(view)

    def close(self) -> None:
        """Give back what is not Python's."""
        if self._converter:
            self._converter.close()
