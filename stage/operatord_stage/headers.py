# SPDX-License-Identifier: MIT
"""The stream format's lines, as a stage between others reads and writes them (protocol/PROTOCOL.md)."""

from __future__ import annotations

import contextlib
import json
import math

from operatord_stage.pictures import FORMATS, PAYLOAD_LIMIT, check_geometry
from operatord_stage.stage import BAD_SETTING, BROKEN_STREAM, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ATTACH = b'{"type":"attach"}'
"""What a stage says upstream that has no consumer, and wants none of the frames."""
CONSUME = b'{"type":"consume"}'
"""What a consumer says that does not want to be taken for a check."""
WATCH = b'{"type":"watch"}'
"""What a spectator says: it wants the frames that others are sent, and counts for nothing."""

MOST_PARTS = 16
"""Parts that a frame may have."""
Y4M_HEADER = 96
"""Bytes of the first line of YUV4MPEG2 that ffmpeg takes."""
SHORT_Y4M_HEADER = 80
"""The same, of GStreamer's y4mdec."""
MOST_FPS = 1_000_000
"""Frames a second that a hello may announce."""


@contextlib.contextmanager
def blame_upstream(what: str) -> Iterator[None]:
    """Turn what is wrong with a line, as a ValueError says it in a sentence, into a `Fault`."""
    try:
        yield
    except ValueError as exc:
        raise Fault(BROKEN_STREAM, f"the upstream sent a malformed {what}: {exc}") from exc
    except (LookupError, TypeError, ArithmeticError) as exc:  # as when two members have one name
        raise Fault(
            BROKEN_STREAM, f"the upstream sent a malformed {what}: it is contradictory"
        ) from exc


def parse_line(line: bytes | bytearray) -> dict[str, Any]:
    """Return what a line says; raise ValueError for one that is not a JSON object with a type."""
    try:
        said = json.loads(line.decode(), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as exc:
        raise ValueError("the line is not JSON, or has NaN or an infinite number") from exc
    if not isinstance(said, dict) or not isinstance(said.get("type"), str):
        raise ValueError("the line is not a JSON object with a type")
    return said


def finite(digits: str) -> float:
    """Return a number; raise ValueError for one that JSON has no word for, as infinity."""
    if math.isfinite(value := float(digits)):
        return value
    raise ValueError(digits)


def whole_number(said: dict[str, Any], name: str, default: int | None = None) -> int:
    """Return a member that counts something; raise ValueError if it is missing or no such number."""
    value = said.get(name, default)
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{name} is not a whole number from 0 to 2^53-1")
    return value


def complete_hello(said: dict[str, Any]) -> dict[str, Any]:
    """Return a hello with what it may leave out; raise ValueError for one that breaks the format."""
    hello = {**said, "format": said.get("format", "gray8"), "fps": said.get("fps", 0)}
    if hello["type"] != "hello":
        raise ValueError("it is not a hello")
    if not isinstance(hello["format"], str):
        raise ValueError("format is not a string")
    sides = (hello.get("width"), hello.get("height"))
    if not all(type(side) is int and 1 <= side <= 65536 for side in sides):
        raise ValueError("width or height is not a whole number from 1 to 65536")
    if not isinstance(hello["fps"], int | float) or not 0 <= hello["fps"] <= MOST_FPS:
        raise ValueError(f"fps is not a number from 0 to {MOST_FPS}")
    if hello.get("count") is None:
        hello.pop("count", None)
    else:
        whole_number(hello, "count")
    check_geometry(hello)
    return hello


def bytes_around_image(header: dict[str, Any], picture: int) -> tuple[int, int]:
    """Return the bytes of a frame's parts before and behind its image, which has `picture` bytes itself.

    Raises:
        ValueError: the header breaks the format.
        Fault: the frame is larger than this stage takes.
    """
    if header["type"] != "frame":
        raise ValueError("it is neither a frame nor the end")
    whole_number(header, "seq")
    if not isinstance(header.get("pts", 0.0), int | float):
        raise ValueError("pts is not a number")
    sizes = part_sizes(header.get("parts"))
    if (total := sum(sizes.values())) > PAYLOAD_LIMIT:
        limit = f"and this stage takes up to {PAYLOAD_LIMIT}"
        raise Fault(BROKEN_STREAM, f"the upstream's frame has {total} bytes in all parts, {limit}")
    if sizes.get("image") != picture:
        raise ValueError(f"it has no image of {picture} bytes, the size in the hello")
    before = sum(list(sizes.values())[: list(sizes).index("image")])
    return before, total - before - picture


def part_sizes(parts: object) -> dict[str, int]:
    """Return the bytes of each of a frame's parts by name, in order; raise ValueError for what is none."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ValueError("parts is not a list of objects")
    if not all(isinstance(part.get("name"), str) for part in parts):
        raise ValueError("a part has no name")
    sizes = {part["name"]: whole_number(part, "bytes") for part in parts}
    if len(sizes) < len(parts) or len(sizes) > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS} parts, or two of one name")
    return sizes


def y4m_hello(hello: dict[str, Any], stage: str, colours: str | None = None) -> bytes:
    """Return the header line of a YUV4MPEG2 stream (yuv4mpeg(5)), of which ffmpeg takes 96 bytes.

    ``colours`` are those of the pictures' format unless they are given, for a reader that takes 80. A name of
    the stage that is too long for the line is left out.
    """
    fps = hello["fps"] or 30
    rate = f"{fps}:1" if isinstance(fps, int) else f"{max(1, round(fps * 1000))}:1000"
    size = f"W{hello['width']} H{hello['height']}"
    named = colours or FORMATS[hello["format"]][1]
    begin, name, end = (
        f"YUV4MPEG2 {size} F{rate} Ip A1:1 C{named}",
        f" Xstream={stage}",
        " Xwatch\n",
    )
    room = (Y4M_HEADER if colours is None else SHORT_Y4M_HEADER) - len(begin + end)
    return f"{begin}{name if len(name) <= room else ''}{end}".encode()


def without_colour(hello: dict[str, Any], chroma: str) -> bytes:
    """Return what follows each picture for players that read no grey: Cb and Cr of `420jpeg`, all neutral.

    Nothing follows for `mono`. Raises `Fault` for pictures that are not grey.
    """
    if chroma == "mono":
        return b""
    if hello["format"] != "gray8":
        pictures = f"these are of {hello['format']}"
        raise Fault(BAD_SETTING, f"chroma={chroma} is for pictures of gray8, and {pictures}")
    halved: int = ((hello["width"] + 1) // 2) * ((hello["height"] + 1) // 2)
    return b"\x80" * (2 * halved)


def y4m_frame(header: dict[str, Any]) -> bytes:
    """Return the line that comes before a frame's picture; ffmpeg takes up to 80 bytes."""
    due = f" Xpts={header['pts']}" if "pts" in header else ""
    return f"FRAME Xseq={header['seq']}{due}\n".encode()
