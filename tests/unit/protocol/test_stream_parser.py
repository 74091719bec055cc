# SPDX-License-Identifier: MIT
"""The stream format: any chunking gives the same items, and lies are found out."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_vectors import load, raw

from operatord_protocol.stream import (
    CHECK,
    HEADER_BYTES,
    PAYLOAD_BYTES,
    End,
    Forbidden,
    Frame,
    FrameHeader,
    Hello,
    Part,
    StreamError,
    StreamParser,
    check_parts,
    parse_hello,
    parse_upstream,
)

HELLO = b'{"type":"hello","stream":"probe","width":2,"height":2}\n'
VECTORS = load("stream")
STREAMS = [vector for vector in VECTORS if "base64" in vector]
ALWAYS = ("stream", "width", "height", "format", "fps", "count")
"""Members of a hello that vectors have even if they say nothing."""
HEADERS = [vector for vector in VECTORS if "line" in vector]


def parse(chunks: Iterable[bytes]) -> tuple[list[Any], bool, bool]:
    """Return the items of ``chunks`` as plain data, whether it went wrong, whether it ended."""
    parser = StreamParser()
    items: list[Hello | Frame | End] = []
    try:
        for chunk in chunks:
            items += parser.feed(chunk)
    except StreamError:
        pass
    return [plainly(item) for item in items], parser.fault is not None, parser.ended


def plainly(item: Hello | Frame | End) -> dict[str, Any]:
    if isinstance(item, Hello):
        said = msgspec.json.decode(msgspec.json.encode(item))
        del said["type"]
        return {"hello": {n: each for n, each in said.items() if n in ALWAYS or each is not None}}
    if isinstance(item, End):
        return {"end": {"frames": item.frames, "dropped": item.dropped}}
    payloads = {name: base64.b64encode(data).decode() for name, data in item.payloads.items()}
    return {"frame": {"seq": item.seq, "pts": item.pts, "payloads": payloads}}


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("vector", STREAMS, ids=lambda vector: vector["name"])
def test_stream_vector(vector: dict[str, Any]) -> None:
    want = vector["expect"]
    assert parse(each_byte(raw(vector))) == (want["items"], want["error"], want["ended"])
    whole = parse([raw(vector)])
    assert whole[1:] == (want["error"], want["ended"])
    if not want["error"]:
        assert whole[0] == want["items"]


@pytest.mark.parametrize("vector", HEADERS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_y4m_vector(vector: dict[str, Any], end: bytes) -> None:
    line = raw(vector) + end
    if "error" in vector["expect"]:
        with pytest.raises(StreamError):
            parse_hello(line)
    else:
        assert plainly(parse_hello(line)) == {"hello": vector["expect"]["hello"]}


parts = st.lists(st.binary(max_size=40), max_size=3)


def make_stream(frames: list[list[bytes]], end: bool) -> bytes:
    data = HELLO
    for seq, payloads in enumerate(frames):
        described = [{"name": f"p{i}", "bytes": len(body)} for i, body in enumerate(payloads)]
        header = {"type": "frame", "seq": seq, "pts": seq / 30, "parts": described}
        data += json.dumps(header).encode() + b"\n" + b"".join(payloads)
    return data + (b'{"type":"end","frames":%d}\n' % len(frames) if end else b"")


@given(st.lists(parts, max_size=5), st.booleans(), st.data())
def test_any_chunking_gives_the_same_items(
    frames: list[list[bytes]], end: bool, draw: st.DataObject
) -> None:
    data = make_stream(frames, end)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)))))
    edges = [0, *cuts, len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
    items, wrong, ended = parse(chunks)
    assert (items, wrong, ended) == parse([data]) == parse(each_byte(data))
    assert not wrong and ended == end
    bodies = [list(item["frame"]["payloads"].values()) for item in items if "frame" in item]
    assert bodies == [[base64.b64encode(body).decode() for body in frame] for frame in frames]


@given(st.lists(parts, min_size=1, max_size=3), st.data())
def test_a_cut_stream_gives_whole_frames_only_and_has_not_ended(
    frames: list[list[bytes]], draw: st.DataObject
) -> None:
    data = make_stream(frames, True)
    cut = data[: draw.draw(st.integers(0, len(data) - 1))]
    items, wrong, ended = parse([cut])
    assert not wrong and not ended
    assert items == parse([data])[0][: len(items)]


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: HELLO + tail))
def test_arbitrary_bytes_are_items_or_a_stream_error(data: bytes) -> None:
    parse([data])
    parse(each_byte(data))


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"YUV4MPEG2 " + tail))
def test_arbitrary_first_lines_are_a_hello_or_a_stream_error(line: bytes) -> None:
    try:
        hello = parse_hello(line)
    except StreamError:
        return
    assert hello.width >= 1 and hello.height >= 1 and hello.fps >= 0


def test_memoryviews_are_taken_as_well() -> None:
    assert len(StreamParser().feed(memoryview(HELLO))) == 1


def test_a_header_may_be_as_long_as_the_limit() -> None:
    padding = HEADER_BYTES - len(HELLO) + 1 - len(b',"x":""')
    line = HELLO.replace(b"}", b',"x":"%b"}' % (b"x" * padding))
    assert len(line) == HEADER_BYTES + 1  # with its newline
    assert parse([line])[0] == parse([HELLO])[0]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_longer_header_is_an_error_before_its_end_is_seen(end: bytes) -> None:
    assert parse([b"x" * (HEADER_BYTES + 1) + end]) == ([], True, False)


def test_a_frame_of_the_largest_size_is_only_announced_not_allocated() -> None:
    header = b'{"type":"frame","seq":0,"parts":[{"name":"image","bytes":%d}]}\n' % PAYLOAD_BYTES
    assert parse([HELLO + header])[1:] == (False, False)


def test_parts_together_are_bounded() -> None:
    part = b'{"name":"p","bytes":%d}' % (PAYLOAD_BYTES // 16 + 1)
    header = b'{"type":"frame","seq":0,"parts":[%b]}\n' % b",".join([part] * 16)
    assert parse([HELLO, header])[1]


def test_more_than_sixteen_parts_are_refused() -> None:
    part = b'{"name":"p","bytes":0}'
    header = b'{"type":"frame","seq":0,"parts":[%b]}\n' % b",".join([part] * 17)
    assert parse([HELLO, header])[1]


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 5000, "1e400", "NaN", "-1", "65537"])
def test_numbers_without_measure_are_refused(digits: str) -> None:
    with pytest.raises(StreamError):
        parse_hello(HELLO.replace(b":2,", f":{digits},".encode()))


def test_pictures_that_no_frame_can_have_are_refused_with_the_hello() -> None:
    """A16: 8192×8192 is the largest square; how many bytes another format takes is not known here."""
    line = b'{"type":"hello","stream":"probe","width":8192,"height":8192}'
    largest = parse_hello(line)
    assert largest.width == largest.height == 8192
    too_large = line.replace(b'"height":8192', b'"height":8193')
    with pytest.raises(Forbidden, match="8192×8193 pixels have 67117056 bytes"):
        parse_hello(too_large)
    assert parse_hello(too_large[:-1] + b',"format":"jpeg"}').height == 8193


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ('"spacing":[0.2,-1]', r"its hello is malformed: .* > 0.0 - at spacing\[1\]"),
        ('"orientation":[1,0,0,0,1]', "its hello is malformed: .* length 6 - at orientation"),
        ('"meta":{"secret":"' + "x" * 4096 + '"}', "its hello is malformed: meta has more than 4096 bytes$"),
        ('"meta":{"secret":1e999}', "its hello is malformed: Number out of range"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_hello_is_said_without_what_it_says(
    member: str, sentence: str
) -> None:
    with pytest.raises(Forbidden, match=sentence) as info:
        parse_hello(HELLO.strip()[:-1] + f",{member}}}".encode())
    assert "secret" not in str(info.value) and "-1" not in str(info.value)


def test_a_frame_has_the_format_of_its_stream() -> None:
    deep = HELLO.replace(b"}", b',"format":"gray16le"}').replace(b'"height":2', b'"height":1')
    frame = StreamParser().feed(deep + GOOD)[1]
    assert isinstance(frame, Frame)
    assert (frame.width, frame.height, frame.format) == (2, 1, "gray16le")


@pytest.mark.parametrize(
    ("format", "image", "mask", "sentence"),
    [
        ("gray16le", 8, 4, ""),
        ("rgb24", 12, 4, ""),
        ("yuyv422", 7, 4, ""),
        ("gray16le", 4, 4, "the image of frame 0 has 4 bytes, and 2×2 pixels of gray16le have 8"),
        ("rgb24", 4, 4, "the image of frame 0 has 4 bytes, and 2×2 pixels of rgb24 have 12"),
        ("rgb24", 12, 12, "the mask of frame 0 has 12 bytes, and 2×2 pixels have 4"),
        ("yuyv422", 8, 8, "the mask of frame 0 has 8 bytes"),
    ],
)
def test_an_image_has_the_bytes_of_its_format_and_a_mask_one_for_each_pixel(
    format: str, image: int, mask: int, sentence: str
) -> None:
    header = FrameHeader(0, [Part("image", image), Part("mask", mask)])
    hello = Hello("s", 2, 2, format)
    if not sentence:
        check_parts(header, hello)
        return
    with pytest.raises(StreamError, match=sentence):
        check_parts(header, hello)


def test_stages_read_json_only() -> None:
    """A16: what is for players is a stream, but none that a stage can read."""
    line = b"YUV4MPEG2 W2 H2 F30:1"
    assert parse_hello(line).width == 2
    with pytest.raises(Forbidden, match="stages read json"):
        parse_upstream(line)
    assert parse_upstream(HELLO.strip()) == parse_hello(HELLO.strip())


def test_a_frame_gives_its_parts_by_name() -> None:
    header = {
        "type": "frame",
        "seq": 3,
        "parts": [
            {"name": "image", "bytes": 2},
            {"name": "mask", "bytes": 1, "area": 1, "bbox": [0, 0, 1, 1], "dice": 0.5},
        ],
    }
    frame = StreamParser().feed(HELLO + json.dumps(header).encode() + b"\n\x01\x02\xff")[1]
    assert isinstance(frame, Frame)
    assert (frame.seq, frame.pts, frame.image, frame.mask) == (3, 0.0, b"\x01\x02", b"\xff")
    mask = frame.part("mask")
    assert mask is not None and (mask.area, mask.bbox, mask.dice) == (1, [0, 0, 1, 1], 0.5)
    assert frame.part("depth") is None


def test_a_plain_frame_has_no_mask() -> None:
    header = b'{"type":"frame","seq":0,"parts":[{"name":"image","bytes":1}]}\n'
    frame = StreamParser().feed(HELLO + header + b"\x01")[1]
    assert isinstance(frame, Frame) and frame.mask is None


def test_nothing_is_kept_of_what_follows_the_end() -> None:
    parser = StreamParser()
    end = b'{"type":"end","frames":0}\n'
    assert len(parser.feed(HELLO + end + b"x" * 100)) == 2
    assert parser.feed(b'{"type":"end","frames":0}\n') == []
    assert parser.ended


def test_the_check_is_one_line() -> None:
    assert json.loads(CHECK) == {"type": "check"}
    assert CHECK.endswith(b"\n") and CHECK.count(b"\n") == 1


@pytest.mark.parametrize(
    "member",
    [
        '"fps":-1', '"fps":1e300', '"fps":1e400', '"fps":true', '"count":-1', '"count":9007199254740992',
        '"count":1e23', '"format":"' + "x" * 65 + '"', '"format":"\\ud800"',
    ],
)  # fmt: skip
def test_hello_with_a_member_out_of_range_is_none(member: str) -> None:
    """A10: what is computed from a hello has to be a number."""
    with pytest.raises(StreamError):
        parse_hello(HELLO.strip()[:-1] + f",{member}}}".encode())


IMAGE = b'{"name":"image","bytes":4}'
MASK = b'{"name":"mask","bytes":4}'
GOOD = b'{"type":"frame","seq":0,"parts":[' + IMAGE + b"]}\nABCD"
WRONG = {
    "has no image": b'{"name":"depth","bytes":4}',
    "frame 1 has no image": b"",
    "the image of frame 1 has 3 bytes, and 2×2 pixels have 4": b'{"name":"image","bytes":3}',
    "the mask of frame 1 has 5 bytes": IMAGE + b',{"name":"mask","bytes":5}',
    "two parts of one name": IMAGE + b"," + IMAGE,
}


@pytest.mark.parametrize(("sentence", "parts"), WRONG.items())
def test_parts_that_do_not_fit_are_told_in_a_sentence(sentence: str, parts: bytes) -> None:
    """A15: a frame without an image, or of another size than the hello says."""
    stream = HELLO + b'{"type":"frame","seq":1,"parts":[' + parts + b"]}\nABCDEFGHI"
    hello, frame = StreamParser().feed(stream)
    assert isinstance(hello, Hello) and isinstance(frame, Frame)
    with pytest.raises(StreamError, match=sentence):
        check_parts(frame.header, hello)
    if "image" not in frame.payloads:
        with pytest.raises(StreamError, match="no image"):
            frame.image  # noqa: B018


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_right_before_a_fault_comes_out_in_any_chunking(whole: bool) -> None:
    """A15: whole frames before a header that is none are not lost over it."""
    stream = HELLO + GOOD + b"nonsense\n"
    parser, items = StreamParser(), []
    with pytest.raises(StreamError):
        for chunk in [stream, b""] if whole else each_byte(stream):
            items += parser.feed(chunk)
    assert [type(item) for item in items] == [Hello, Frame]


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"frame","parts":[]}', b'{"type":"frame","seq":0}', b'{"type":"frame","seq":-1,"parts":[]}',
        b'{"type":"frame","seq":"0","parts":[]}', b'{"type":"frame","seq":0,"parts":{}}',
        b'{"type":"frame","seq":0,"parts":["image"]}', b'{"type":"frame","seq":0,"parts":[{"name":"image"}]}',
        b'{"type":"frame","seq":0,"parts":[{"name":"image","bytes":"4"}]}', b'{"type":"end"}', b"null", b"{}",
        b'{"type":"frame","seq":0,"pts":NaN,"parts":[' + IMAGE + b"]}", b'{"type":"end","frames":-1}',
    ],
)  # fmt: skip
def test_wrong_types_are_a_stream_error(line: bytes) -> None:
    """A15: whatever a header holds, it is never a KeyError or a TypeError."""
    with pytest.raises(StreamError):
        parser = StreamParser()
        parser.feed(HELLO)
        parser.feed(line + b"\n")


def test_parts_may_come_in_any_order_and_others_with_them() -> None:
    parts = b'{"name":"depth","bytes":3},' + MASK + b"," + IMAGE
    stream = HELLO + b'{"type":"frame","seq":0,"parts":[' + parts + b"]}\nxyzMASKABCD"
    [_, frame] = StreamParser().feed(stream)
    assert isinstance(frame, Frame)
    assert (frame.image, frame.mask, frame.payloads["depth"]) == (b"ABCD", b"MASK", b"xyz")


def test_a_frame_is_shown_without_its_pixels() -> None:
    described = FrameHeader(seq=7, parts=[Part(name="image", bytes=1_000_000)])
    shown = repr(Frame(described, {"image": bytes(1_000_000)}))
    assert "seq=7" in shown
    assert len(shown) < 1000
