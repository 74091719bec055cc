# SPDX-License-Identifier: MIT
"""What a hello says of its pictures: the format of their pixels, and where they are in the patient."""

from __future__ import annotations

import json

from operatord_stage.stage import BROKEN_STREAM, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = {"gray8": (1, "mono"), "gray16le": (2, "mono16"), "rgb24": (3, "444")}
"""The formats of pixels: their bytes, and what YUV4MPEG2 calls their colours."""
PAYLOAD_LIMIT = 16 * 1024 * 1024
"""Bytes that a frame may have in all its parts."""

LEAST, MOST = 5e-324, 1e6
"""Millimetres: the least number above 0, and the most that a length or a position may have."""
COSINE = 1.001
"""The largest direction cosine, as rounding goes."""
MEASURES = {
    "spacing": ("two numbers above 0 and up to 1000000", 2, LEAST, MOST),
    "depth": ("a number above 0 and up to 1000000", 0, LEAST, MOST),
    "orientation": ("six numbers from -1 to 1", 6, -COSINE, COSINE),
    "origin": ("three numbers from -1000000 to 1000000", 3, -MOST, MOST),
}
"""Members of a hello, what each has to be, how many numbers (0: no list) and between which."""
META_BYTES = 4096
"""Bytes that the free member `meta` may have, as JSON without white space."""


def picture_bytes(hello: dict[str, Any]) -> int:
    """Return the bytes of each picture of a stream, whose format is one of FORMATS."""
    size: int = hello["width"] * hello["height"] * FORMATS[hello["format"]][0]
    return size


def require_format(hello: dict[str, Any], formats: tuple[str, ...]) -> None:
    """Raise `Fault` for a hello whose pictures the protocol allows and this stage cannot take."""
    if hello["format"] not in formats:
        shown, taken = repr(hello["format"][:64]), " and ".join(formats)
        raise Fault(
            BROKEN_STREAM,
            f"the upstream sends pictures as {shown}, and this stage takes {taken} only",
        )
    if (size := picture_bytes(hello)) > PAYLOAD_LIMIT:
        sides = f"{hello['width']}×{hello['height']}"
        limit = f"and this stage takes up to {PAYLOAD_LIMIT}"
        raise Fault(BROKEN_STREAM, f"the upstream's pictures of {sides} have {size} bytes, {limit}")


def check_geometry(hello: dict[str, Any]) -> None:
    """Raise ValueError for a member on where pictures are, or `meta`, that breaks the format."""
    for name, (what, count, low, high) in MEASURES.items():
        value = hello.get(name)
        numbers = value if count else [value]
        if value is not None and not _are_numbers(numbers, count or 1, low, high):
            raise ValueError(f"{name} is not {what}")
    meta = hello.get("meta")
    if meta is not None and not isinstance(meta, dict):
        raise ValueError("meta is not an object")
    if (
        meta
        and len(json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()) > META_BYTES
    ):
        raise ValueError(f"meta has more than {META_BYTES} bytes")


def _are_numbers(values: object, count: int, low: float, high: float) -> bool:
    """Tell whether this is a list of so many numbers from low to high."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and low <= value <= high for value in values)
    )
