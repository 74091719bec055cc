# SPDX-License-Identifier: MIT
"""Any chunks give the same frames, as they are in the stream; what is too large or a lie ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.gateway.pictures.cutter import Cutter, Picture
from operatord_protocol.stream import HEADER_BYTES, End, Hello, StreamError

HELLO = {"type": "hello", "stream": "s", "width": 4, "height": 3, "format": "gray8", "fps": 5}


def line(**said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


def frame(seq: int, *parts: tuple[str, bytes], **more: Any) -> bytes:
    described = [{"name": name, "bytes": len(data)} for name, data in parts]
    head = line(type="frame", seq=seq, parts=described, **more)
    return head + b"".join(data for _, data in parts)


IMAGE, MASK = b"abcdefghijkl", bytes(11) + b"\xff"
FRAMES = [
    frame(0, ("image", IMAGE), pts=0.0, truth={"cx": 1}),
    frame(1, ("mask", MASK), ("image", IMAGE[::-1]), ("depth", b"{}\n\n{}")),
]
END = line(type="end", frames=2, dropped=1)


def fed(data: bytes, chunk: int, cutter: Cutter | None = None) -> list[Any]:
    cutter = cutter or Cutter()
    return [
        item for at in range(0, len(data), chunk) for item in cutter.feed(data[at : at + chunk])
    ]


@given(st.integers(1, 400))
def test_frames_are_cut_as_they_are_in_any_chunks(chunk: int) -> None:
    cutter = Cutter()
    hello, first, second, end = fed(line(**HELLO) + b"".join(FRAMES) + END + b"more", chunk, cutter)
    assert isinstance(hello, Hello) and (hello.width, hello.height) == (4, 3)
    assert cutter.hello_line == line(**HELLO)
    assert not cutter.knows_watch
    assert [first.raw, second.raw] == FRAMES
    assert (bytes(first.image), first.part("mask"), first.seq) == (IMAGE, None, 0)
    assert (bytes(second.image), bytes(second.part("mask"))) == (IMAGE[::-1], MASK)
    assert bytes(second.part("depth")) == b"{}\n\n{}"
    assert end == End(frames=2, dropped=1)


@given(st.integers(1, 100))
def test_a_stream_for_players_is_cut_into_the_same_frames(chunk: int) -> None:
    data = b"YUV4MPEG2 W4 H3 F5:1 Ip A1:1 Cmono Xstream=stream Xwatch\n"
    data += b"FRAME Xseq=3 Xpts=0.6\n" + IMAGE + b"FRAME\n" + IMAGE
    cutter = Cutter()
    hello, first, second = fed(data, chunk, cutter)
    assert hello.fps == 5 and cutter.knows_watch
    assert json.loads(cutter.hello_line) == {**HELLO, "stream": "y4m"}
    assert (
        first.raw
        == b'{"type":"frame","seq":3,"pts":0.6,"parts":[{"name":"image","bytes":12}]}\n' + IMAGE
    )
    assert (second.seq, second.header.pts, bytes(second.image)) == (1, 0.2, IMAGE)
    assert cutter.finish() == End(frames=2)


@pytest.mark.parametrize("rest", [b"FRAM", b"FRAME\nabc"])
def test_a_stream_for_players_that_ends_in_a_frame_was_cut_off(rest: bytes) -> None:
    cutter = Cutter()
    fed(b"YUV4MPEG2 W4 H3 F5:1 Cmono\n" + rest, 1000, cutter)
    with pytest.raises(StreamError, match="cut off before its end"):
        cutter.finish()


def test_a_stream_that_closes_without_its_end_was_cut_off() -> None:
    with pytest.raises(StreamError, match="before its hello"):
        Cutter().finish()
    cutter = Cutter()
    assert len(fed(line(**HELLO) + FRAMES[0], 1000, cutter)) == 2
    with pytest.raises(StreamError, match="before its end"):
        cutter.finish()


LIES = {
    "two hellos": (line(**HELLO), "second hello"),
    "no image": (frame(0, ("mask", MASK)), "no image"),
    "an image of another size": (frame(0, ("image", b"abc")), "12"),
    "two parts of one name": (frame(0, ("image", IMAGE), ("image", IMAGE)), "one name"),
    "more than so small a picture may bring": (
        line(type="frame", seq=0, parts=[{"name": "image", "bytes": 12}, {"name": "x", "bytes": 1 << 20}]),
        "may have",
    ),
    "more than any frame may have": (
        line(type="frame", seq=0, parts=[{"name": "image", "bytes": 1 << 62}]), "not a header"
    ),
    "a line without an end": (b"x" * (HEADER_BYTES + 1), "header line"),
    "more frames than came": (FRAMES[0] + END, "has sent 2, and 1 have come"),
    "no header": (b"GET / HTTP/1.1\n", "not a header"),
    "a refusal": (b'{"type":"error","message":"say the token"}\n', "say the token"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_told_before_its_bytes_are_waited_for(lie: str) -> None:
    data, told = LIES[lie]
    with pytest.raises(StreamError, match=told):
        fed(line(**HELLO) + data, 1 << 20)


@pytest.mark.parametrize("size", [{"width": 65536, "height": 65536}, {"width": 0}, {"height": "3"}])
def test_a_hello_of_no_possible_size_is_none(size: dict[str, Any]) -> None:
    with pytest.raises(StreamError):
        fed(line(**{**HELLO, **size}), 1000)


def test_a_frame_of_another_kind_of_pixels_is_passed_on() -> None:
    raw = frame(0, ("image", IMAGE * 2))
    (_, picture) = fed(line(**{**HELLO, "format": "gray16"}) + raw, 7)
    assert isinstance(picture, Picture) and picture.raw == raw
