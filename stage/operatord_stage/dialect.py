# SPDX-License-Identifier: MIT
"""In which words consumers are told a stream: the stream format, YUV4MPEG2, or another protocol."""

from __future__ import annotations

from operatord_stage.headers import parse_line, without_colour, y4m_frame, y4m_hello
from operatord_stage.stage import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from operatord_stage.source import Buffer, Extent


class Dialect:
    """A protocol that consumers are served in. A subclass says the greeting, and how a frame is written.

    A consumer gets the greeting as soon as it is connected (so before the daemon's check of the location has
    said anything), then frames, then the end if there is one, and then the end of file. What is dropped for a
    slow consumer are whole frames.
    """

    first_bytes = b""
    """With what every message after the greeting begins, as far as that is always the same. Four bytes are
    used: each tells whether a consumer that sends no more is still there."""
    policy = "fastest"
    """The default policy. Readers of another protocol cannot ask for frames to be dropped, so a slow one of
    these should not hold up the others."""

    draws = False
    """Whether a filter draws the outline of a mask into the image, as readers show nothing else."""

    def greeting(self, hello: dict[str, Any]) -> bytes:
        """Return the first bytes for a consumer; up to some kilobytes.

        The hello is this stage's, with its name as `stream`. This is called once, before any frame.
        """
        raise NotImplementedError

    def frame(self, header: dict[str, Any], parts: Mapping[str, Buffer]) -> Buffer:
        """Return a frame as consumers are sent it, given its header and its parts by their names."""
        raise NotImplementedError

    def end(self, frames: int, dropped: int) -> bytes:
        """Return the last message for a consumer, by the frames it was sent and missed; b"" for none."""
        return b""

    def passed_on(self, block: memoryview, frame: Extent) -> Buffer:
        """Return a frame of the upstream as consumers are sent it."""
        header = parse_line(bytes(block[frame.start : frame.body]))
        return self.frame(header, parts_of(header, block[frame.body : frame.stop]))


class StreamFormat(Dialect):
    """The stream format, as protocol/PROTOCOL.md describes it."""

    first_bytes = b'{"type"'
    policy = "lossless"

    def greeting(self, hello: dict[str, Any]) -> bytes:
        """Return the hello's line."""
        return encode(hello)

    def frame(self, header: dict[str, Any], parts: Mapping[str, Buffer]) -> Buffer:
        """Return the header's line and the parts."""
        return b"".join((encode(header), *parts.values()))

    def end(self, frames: int, dropped: int) -> bytes:
        """Return the line that says that there is no more."""
        return encode({"type": "end", "frames": frames, "dropped": dropped})

    def passed_on(self, block: memoryview, frame: Extent) -> Buffer:
        """Return a frame as it has come."""
        return block[frame.start : frame.stop]


class Y4m(Dialect):
    """YUV4MPEG2 for players: of a frame, only its image."""

    first_bytes = b"FRAME"
    draws = True
    _planes: Callable[[Buffer], bytes] | None = None
    _behind = b""

    def __init__(self, chroma: str = "mono") -> None:
        """Serve pictures of gray8 as ``chroma``, `mono` or `420jpeg`."""
        self._chroma = chroma

    def greeting(self, hello: dict[str, Any]) -> bytes:
        """Return the header line. Raises `Fault` for pictures that cannot be of that chroma."""
        if self._chroma != "mono":
            self._behind = without_colour(hello, self._chroma)
            return y4m_hello(hello, hello["stream"], f"{self._chroma} XCOLORRANGE=FULL")
        if hello["format"] == "rgb24":
            from operatord_stage.yuv import planes  # noqa: PLC0415 - most streams are grey

            self._planes = planes
        return y4m_hello(hello, hello["stream"])

    def frame(self, header: dict[str, Any], parts: Mapping[str, Buffer]) -> Buffer:
        """Return the image behind the line that begins a frame."""
        image = parts["image"]
        pixels = self._planes(image) if self._planes else image
        return b"".join((y4m_frame(header), pixels, self._behind))


def parts_of(header: dict[str, Any], payload: memoryview) -> dict[str, memoryview]:
    """Return a frame's parts by their names, in order, given its checked header and all their bytes."""
    parts, offset = {}, 0
    for part in header["parts"]:
        parts[part["name"]] = payload[offset : offset + part["bytes"]]
        offset += part["bytes"]
    return parts
