# SPDX-License-Identifier: MIT
"""What a function returned for a frame, checked, and what is wrong with it in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from operatord_stage.headers import MOST_PARTS
from operatord_stage.pictures import PAYLOAD_LIMIT, picture_bytes
from operatord_stage.serving.calling import Mistake
from operatord_stage.serving.frame import Frame, Part
from operatord_stage.stage import LINE_LIMIT, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from operatord_stage.source import Buffer

    Content = tuple[dict[str, Any], dict[str, Buffer]]
    """A frame's whole header, and its parts by their names."""


def shown(result: object) -> str:
    """Return what a result is, as a sentence has it."""
    return "nothing" if result is None else f"{type(result).__name__}"


def flat(data: object, *, mask: bool = False) -> Buffer:
    """Return the bytes of a bytes-like object in order, without a copy if they lie so.

    A mask of truth values becomes one of 0 and 255. Raises `TypeError` for what has no bytes.
    """
    view = memoryview(data)  # type: ignore[arg-type]
    if view.nbytes == 0 or not view.c_contiguous:
        content: Buffer = view.tobytes()
    else:
        content = view.cast("B") if view.format in "BbcHhIiLlQqfd?" else view.tobytes()
    if mask and view.format == "?":
        return bytes(content).translate(b"\0" + b"\xff" * 255)
    return content


def unlike_pixels(data: object) -> str:
    """Return what the elements of an array are whose bytes are no pixels; empty for what may be a picture."""
    array = data.data if isinstance(data, Part) else data
    kind: str = memoryview(array).format  # type: ignore[arg-type]
    if kind[-1:] in "?Bbc":
        return ""
    return str(getattr(array, "dtype", f"elements of the format {kind!r}"))


class Results:
    """Makes of what a function returns a frame's header and parts.

    `hello` is the one that this stage sends, so what consumers rely on.
    """

    def __init__(self, name: str, did: str, hello: dict[str, Any]) -> None:
        """Name and verb begin each sentence: `segment()` and `returned`, or `frames()` and `yielded`."""
        self.name, self._did, self._pixels = name, did, hello["width"] * hello["height"]
        self._picture = picture_bytes(hello)
        self._size = "{width}×{height} of {format}".format(**hello)

    def extended(self, frame: Frame, new: Mapping[Any, object]) -> Content:
        """Return a frame with new parts, or others in place of those that it had. Raises `Mistake`."""
        parts: dict[str, object] = {**frame.parts, **new}
        known = {part["name"]: part for part in frame.header["parts"]}
        described = [
            self._described(name, data) if name in new else known[name]
            for name, data in parts.items()
        ]
        return self._checked({**frame.header, "parts": described}, parts)

    def made(self, frame: Frame, seq: int, pts: float | None) -> Content:
        """Return a frame of the function's own, with a number, and a time if it has none. Raises Mistake."""
        described = [self._described(name, data) for name, data in frame.parts.items()]
        time = {} if pts is None else {"pts": pts}
        header = {"type": "frame", "seq": seq, **time, **frame.header, "parts": described}
        return self._checked(header, frame.parts)

    def wrong(self, seq: int, sentence: str) -> Mistake:
        """Return what is raised for a result."""
        return Mistake(f"{self.name} {self._did} {sentence} (frame {seq})")

    def _described(self, name: object, data: object) -> dict[str, object]:
        members = data.members if isinstance(data, Part) else {}
        return {"name": name, **members}

    def _checked(self, header: dict[str, Any], parts: Mapping[Any, object]) -> Content:
        """Return the frame with the sizes of its parts. Raises `Mistake`."""
        seq = header["seq"]
        flattened = {name: self._bytes(seq, name, data) for name, data in parts.items()}
        sizes = {name: len(content) for name, content in flattened.items()}
        if len(sizes) > MOST_PARTS or sum(sizes.values()) > PAYLOAD_LIMIT:
            limits = f"{MOST_PARTS} parts of {PAYLOAD_LIMIT} bytes in all"
            raise self.wrong(seq, f"more than the {limits} that a frame may have")
        self._check_size(seq, "image", sizes.get("image"), self._picture)
        if "mask" in sizes:
            self._check_mask(seq, parts["mask"])
            self._check_size(seq, "mask", sizes["mask"], self._pixels)
        header["parts"] = [
            {**described, "bytes": sizes[described["name"]]} for described in header["parts"]
        ]
        self._check_header(header)
        return header, flattened

    def _bytes(self, seq: int, name: object, data: object) -> Buffer:
        if not isinstance(name, str):
            raise self.wrong(seq, f"a part whose name is no string but {name!r:.40}")
        try:
            return flat(data.data if isinstance(data, Part) else data, mask=name == "mask")
        except TypeError as exc:
            raise self.wrong(
                seq, f"a part {name!r} that is neither bytes nor an array, but {shown(data)}"
            ) from exc

    def _check_mask(self, seq: int, mask: object) -> None:
        if kind := unlike_pixels(mask):
            raise self.wrong(
                seq,
                f"a part 'mask' of {kind}, and a mask has one byte for each pixel: return `mask > 0.5` for "
                "what lies between 0 and 1, or `mask.astype('uint8')` for 0 to 255",
            )

    def _check_size(self, seq: int, name: str, size: int | None, wanted: int) -> None:
        if size != wanted:
            has = "no image" if size is None else f"a part {name!r} of {size} bytes"
            raise self.wrong(seq, f"{has}: {self._size} has {wanted}, one after the other")

    def _check_header(self, header: dict[str, Any]) -> None:
        try:
            length = len(encode(header))
        except (TypeError, ValueError) as exc:
            raise self.wrong(header["seq"], f"a header that JSON has no word for: {exc}") from exc
        if length > LINE_LIMIT:
            raise self.wrong(header["seq"], f"a header of {length} bytes; it may have {LINE_LIMIT}")
