# SPDX-License-Identifier: MIT
"""IMAGE messages as pictures of the stream format, or a sentence why one cannot be shown."""

from __future__ import annotations

import array

from igtl.geometry import from_matrix
from igtl.messages import BIG, INT16, LPS, RAS, UINT8, UINT16, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = {
    (1, UINT8): "gray8",
    (1, INT16): "gray16le",
    (1, UINT16): "gray16le",
    (3, UINT8): "rgb24",
}
"""What a stream calls pictures of so many components of such a scalar type."""
PIXEL_BYTES = {"gray8": 1, "gray16le": 2, "rgb24": 3}
OFFSET = 32768
"""What is added to signed pixels, so that none is lost and brighter ones stay brighter."""
FLIP = bytes(value ^ 0x80 for value in range(256))


class CannotShow(ValueError):
    """A picture that the stream format has no word for; the text is a sentence."""


def describe(image: Image) -> dict[str, Any]:
    """Return what a hello says of such pictures. Raises `CannotShow`."""
    columns, rows, slices = image.size
    if slices != 1:
        raise CannotShow(f"volumes are left out ({slices} slices): only single pictures are shown")
    if not image.whole:
        raise CannotShow("parts of pictures (sub-volumes) are left out: have whole ones sent")
    kind = FORMATS.get((image.components, image.scalar))
    if kind is None:
        what = f"{image.components} components of scalar type {image.scalar}"
        raise CannotShow(
            f"pictures with {what} are left out: uint8, int16, uint16, or three of uint8 are shown"
        )
    size = columns * rows * PIXEL_BYTES[kind]
    if not size or len(image.pixels) != size:
        raise CannotShow(f"a picture has {len(image.pixels)} bytes, and its size says {size}")
    said: dict[str, Any] = {"width": columns, "height": rows, "format": kind}
    return said | ({"meta": {"offset": OFFSET}} if image.scalar == INT16 else {})


def place(image: Image) -> dict[str, list[float]]:
    """Return where a picture lies, as a hello says it."""
    coordinates = LPS if image.coordinates == LPS else RAS
    return from_matrix(image.matrix, image.size[:2], coordinates)


def pixels(image: Image) -> bytes | memoryview:
    """Return a picture's pixels as the stream format has them."""
    if image.scalar == UINT8:
        return image.pixels
    words = array.array("H", image.pixels.tobytes())
    if image.endian == BIG:
        words.byteswap()
    if image.scalar == UINT16:
        return words.tobytes()
    found = bytearray(words)
    found[1::2] = found[1::2].translate(FLIP)
    return bytes(found)
