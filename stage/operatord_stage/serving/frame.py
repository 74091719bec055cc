# SPDX-License-Identifier: MIT
"""A frame as the function of a stage is given it, or makes it."""

from __future__ import annotations

from operatord_stage.dialect import parts_of
from operatord_stage.headers import parse_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from typing_extensions import Buffer as Bytes

    from operatord_stage.source import Extent


class Part:
    """A part of a frame: its bytes, and what its header says besides.

    `Part(mask, area=812)` is a mask with its area in pixels. The data is anything with the bytes in it in
    order: bytes, a memoryview, an array of numpy.
    """

    __slots__ = ("data", "members")

    def __init__(self, data: Bytes, **members: object) -> None:
        self.data, self.members = data, members


class Frame:
    """A picture of the stream, and what belongs to it.

    What a function is given lies in a buffer that is used again: `image` and `parts` hold until the function
    returns. Copy what is kept longer: `bytes(frame.image)`.
    """

    __slots__ = ("header", "hello", "parts")

    header: dict[str, Any]
    """All members of its header; `parts` describes its parts."""
    hello: dict[str, Any]
    """What the upstream said of the stream: `width`, `height`, `format`, `fps`, and others if known."""
    parts: dict[str, Any]
    """Its parts by their names, as flat memoryviews of bytes."""

    def __init__(
        self,
        image: Bytes,
        *,
        pts: float | None = None,
        parts: Mapping[str, Bytes | Part] | None = None,
        **members: object,
    ) -> None:
        """Make a frame of one's own.

        Args:
            image: the picture, as many bytes as the hello promises.
            pts: when it was taken, in seconds since the first frame; None: now, or when the frame was from
                which it was made.
            parts: more parts, by their names.
            members: more members of its header.
        """
        self.hello = {}
        self.parts = {"image": image, **(parts or {})}
        self.header = members if pts is None else {"pts": pts, **members}

    @classmethod
    def received(cls, block: memoryview, extent: Extent, hello: dict[str, Any]) -> Self:
        """Return the frame that lies in a buffer."""
        frame = cls.__new__(cls)
        frame.header = parse_line(bytes(block[extent.start : extent.body]))
        frame.parts = dict(parts_of(frame.header, block[extent.body : extent.stop]))
        frame.hello = hello
        return frame

    @property
    def image(self) -> memoryview:
        """The picture, rows from top to bottom without gaps; `format` says how many bytes a pixel has."""
        return memoryview(self.parts["image"])

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return int(self.hello["width"])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.hello["height"])

    @property
    def format(self) -> str:
        """What a pixel is, as `gray8`: a byte."""
        return str(self.hello["format"])

    @property
    def seq(self) -> int:
        """Its number, from 0; a gap is a frame that was dropped."""
        return int(self.header["seq"])

    @property
    def pts(self) -> float | None:
        """When it was taken, in seconds since the first frame; None if the upstream does not say."""
        return self.header.get("pts")
