#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Serve a stream's pictures and masks over OpenIGTLink, to 3D Slicer and others at once.

Each frame is an IMAGE message of `device`, one of `mask_device` if it has a mask, and the messages in its
part `igtl`, as they are. The pictures' place is that in the hello, in RAS. Who connects gets a STATUS
message first, and need not send anything: what clients send (GET_IMAGE, STATUS …) is read and ignored.
For a client that takes messages more slowly than others, whole frames are dropped.

    device             what the pictures are called                      (Image)
    mask_device        what the masks are called                         (Mask)
    header_version     of the messages: 1, or 2                          (1)
"""

from __future__ import annotations

import time

import operatord_stage as stage
from igtl.geometry import to_matrix
from igtl.messages import DEVICE_BYTES, INT16, RAS, UINT8, UINT16, image_head, message, status
from operatord_stage.headers import blame_upstream
from operatord_stage.stage import BAD_SETTING, BROKEN_STREAM, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from operatord_stage.source import Buffer

SCALARS = {"gray8": (1, UINT8), "gray16le": (1, UINT16), "rgb24": (3, UINT8)}
"""Components and scalar type of a stream's pictures."""
OFFSET = 32768
"""What openigtlink-in adds to signed pixels; its hello says so in meta.offset."""
FLIP = bytes(value ^ 0x80 for value in range(256))
MOST_SIDE = 65535
"""Pixels in a row or a column of an IMAGE message."""
PLACE = ("spacing", "orientation", "origin")


class OpenIGTLink(stage.Dialect):
    """Consumers are sent messages, of which a frame's picture is the first."""

    def prepare(self) -> None:
        """Read and check the settings. Raises `Fault`."""
        self._device = _name("device", "Image")
        self._mask_device = _name("mask_device", "Mask")
        self._version = stage.number("header_version", 1, 1, 2)
        self.first_bytes = bytes((0, self._version)) + b"IMAGE"

    def greeting(self, hello: dict[str, Any]) -> bytes:
        """Return a STATUS message. Raises `Fault` for pictures that IMAGE has no word for."""
        self._size = columns, rows = hello["width"], hello["height"]
        if max(self._size) > MOST_SIDE:
            raise Fault(BROKEN_STREAM, f"an IMAGE message has up to {MOST_SIDE} pixels in a row")
        self._components, self._scalar = SCALARS[hello["format"]]
        if hello["format"] == "gray16le" and (hello.get("meta") or {}).get("offset") == OFFSET:
            self._scalar = INT16
        self._began: float | None = None  # the time of day at pts 0
        self._place = {name: hello[name] for name in PLACE if name in hello}
        with blame_upstream("hello"):
            self._heads = self._heads_at(self._place)
        words = f"operatord: {columns}x{rows} pixels as {self._device}"
        return status("operatord", time.time(), words, self._version)

    def frame(self, header: dict[str, Any], parts: Mapping[str, Buffer]) -> bytes:
        """Return a frame: the picture, the mask if there is one, and messages that came with it."""
        moved = {name: header[name] for name in PLACE if name in header}
        picture, mask = self._heads_at(self._place | moved) if moved else self._heads
        at = self._time(header)
        found = self._image(self._device, at, (picture, self._pixels(parts["image"])))
        if "mask" in parts:
            found += self._image(self._mask_device, at, (mask, parts["mask"]))
        return found + parts.get("igtl", b"")

    def _image(self, device: str, at: float, pieces: tuple[Buffer, Buffer]) -> bytes:
        return message("IMAGE", device, at, pieces, self._version)

    def _pixels(self, payload: Buffer) -> Buffer:
        """Return pixels as the source had them."""
        if self._scalar != INT16:
            return payload
        found = bytearray(payload)
        found[1::2] = found[1::2].translate(FLIP)
        return bytes(found)

    def _time(self, header: dict[str, Any]) -> float:
        """Return when a frame was taken: as its source says, or else counted from the first frame on."""
        if isinstance(said := header.get("time"), int | float) and said > 0:
            return float(said)
        if (pts := header.get("pts")) is None:
            return time.time()
        if self._began is None:
            self._began = time.time() - pts
        return max(0.0, self._began + float(pts))

    def _heads_at(self, place: dict[str, Any]) -> tuple[bytes, bytes]:
        matrix = to_matrix(place, self._size, RAS)
        picture = image_head(self._components, self._scalar, self._size, matrix, RAS)
        return picture, image_head(1, UINT8, self._size, matrix, RAS)


def _name(setting: str, default: str) -> str:
    """Return a setting that is the name of a device. Raises `Fault`."""
    found = stage.text(setting, default)
    if found.isascii() and found.isprintable() and len(found) <= DEVICE_BYTES:
        return found
    raise Fault(
        BAD_SETTING, f"{setting} must have up to {DEVICE_BYTES} ASCII letters, not {found!r}"
    )


if __name__ == "__main__":
    wire = OpenIGTLink()
    stage.serve(
        lambda frame: frame,
        name="openigtlink",
        upstream="segmentation",
        wire=wire,
        prepare=wire.prepare,
    )
