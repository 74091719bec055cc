# SPDX-License-Identifier: MIT
"""Whatever the stream format allows an upstream to say, the stages take, and what they say is allowed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from emulator_stages import CONSUME, Consumer, Launcher, Received, play
from hypothesis import given, settings
from hypothesis import strategies as st

from operatord_protocol.stream import End, Frame, Hello, StreamParser

END = {"type": "end"}


def line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def served_by(launch: Launcher, script: str, *said: bytes, **env: object) -> bytes:
    """Return all that a stage sends to a consumer of it, whose upstream says these things."""
    with ThreadPoolExecutor() as pool:
        port, played = play(pool, b"".join(said))
        stage = launch(script, port, **env)
        with Consumer(stage.port) as consumer:
            consumer.sock.sendall(CONSUME)
            whole = consumer.rest()
        played.result()
        ended = stage.ended()
    assert (ended.code, ended.sentence) == (0, "")
    return whole


def understood(stream: bytes) -> tuple[Hello, list[Frame], End]:
    hello, *frames, end = StreamParser().feed(stream)
    assert isinstance(hello, Hello) and isinstance(end, End)
    return hello, [frame for frame in frames if isinstance(frame, Frame)], end


SIZES = [(1, 1), (4, 4), (2, 7), (7, 2), (1, 40), (40, 1), (6, 6), (65536, 1)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_pictures_of_any_size_pass(launch: Launcher, script: str, width: int, height: int) -> None:
    """A16: sizes from 1 to 65536, without anything that may be left out, or with nothing in it."""
    size, picture = width * height, bytes(range(256)) * (width * height // 256 + 1)
    hello = {"type": "hello", "stream": "tiny", "width": width, "height": height, "count": None}
    frame = {"type": "frame", "seq": 0, "parts": [{"name": "image", "bytes": size}]}
    stream = served_by(launch, script, line(hello), line(frame), picture[:size], line(END))
    said, [received], end = understood(stream)

    assert stream.startswith(b'{"type":"hello"')  # as it was: some look no further
    assert (said.width, said.height, said.fps, said.count) == (width, height, 0, None)
    assert received.image == picture[:size]
    assert (end.frames, end.dropped) == (1, 0)
    if script == "segmentation":
        assert received.mask is not None and set(received.mask) <= {0, 255}


GEOMETRY = {
    "spacing": [0.2, 1e-9], "depth": 80, "origin": [-12.5, 0, 1e6],
    "orientation": [1.0000001, 0, 0, 0, 0, -1],
    "meta": {"transducer": "x" * 4079},
}  # fmt: skip
"""What a hello may say besides, up to its limits."""
LARGE_HELLO = {
    "type": "hello", "stream": "somebody's", "width": 4, "height": 4, "format": "gray8",
    "fps": 29.97, "count": 2, "vendor": {"model": [1, None]}, **GEOMETRY,
}  # fmt: skip
IMAGE = {"name": "image", "bytes": 16, "unit": "dB"}
FRAMES: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    ("no pts", [IMAGE], {}),
    ("a whole pts", [IMAGE], {"pts": 3}),
    ("unknown members", [IMAGE], {"pts": 0.5, "truth": "none", "extra": {"deep": [1]}}),
    ("a part before", [{"name": "depth", "bytes": 5}, IMAGE], {"pts": 0.0}),
    ("a part after, and an empty one", [IMAGE, {"name": "a", "bytes": 3}, {"name": "b", "bytes": 0}], {}),
    ("a mask", [{"name": "mask", "bytes": 16, "area": 3}, IMAGE], {}),
    ("sixteen parts", [*({"name": f"p{n}", "bytes": n} for n in range(15)), IMAGE], {}),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "more"), [f[1:] for f in FRAMES], ids=[f[0] for f in FRAMES])
@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_frames_of_any_kind_pass(
    launch: Launcher, script: str, parts: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    """A16: parts in any order, members that nobody knows, no time: what arrives is what was sent."""
    payloads = {part["name"]: bytes([7]) * part["bytes"] for part in parts}
    head = {"type": "frame", "seq": 5, "parts": parts, **more}
    frame = line(head) + b"".join(payloads.values())

    said, [received], _ = understood(served_by(launch, script, line(LARGE_HELLO), frame, line(END)))

    assert (said.fps, said.count) == (29.97, 2)
    assert (received.seq, received.pts) == (5, more.get("pts", 0.0))
    assert received.image == payloads["image"]
    names = [part.name for part in received.header.parts]
    assert len(names) == len(set(names)) <= 16
    if script == "streaming":
        assert received.payloads == payloads
    else:
        assert names[names.index("image") + 1] == "mask"
        assert received.mask is not None and set(received.mask) <= {0, 255}
        kept = set(names) - {"mask"}
        assert {name: received.payloads[name] for name in kept} == {n: payloads[n] for n in kept}


@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_players_get_the_picture_alone(launch: Launcher, script: str) -> None:
    """A16: as YUV4MPEG2, other parts are left out wherever they are, and so is a time that was not said."""
    parts = [{"name": "depth", "bytes": 3}, {"name": "image", "bytes": 16}]
    frame = line({"type": "frame", "seq": 0, "parts": parts}) + b"xyz" + bytes([9]) * 16
    more = line({"type": "frame", "seq": 1, "pts": 0.5, "parts": parts[1:]}) + bytes([9]) * 16

    whole = served_by(launch, script, line(LARGE_HELLO), frame, more, line(END), format="y4m")

    first, rest = whole.split(b"\n", 1)
    assert first.startswith(b"YUV4MPEG2 W4 H4 F29970:1000 ")
    assert (
        rest.startswith(b"FRAME Xseq=0\n") and rest[13:29].count(9) + rest[13:29].count(255) == 16
    )
    assert rest[29:].startswith(b"FRAME Xseq=1 Xpts=0.5\n")
    assert len(rest) == 13 + 16 + 22 + 16


@pytest.mark.parametrize(
    "truth",
    [{"cx": 1}, [], 7, dict.fromkeys(("cx", "cy"), 0), "nan",
     {"cx": 0, "cy": 0, "rx": 0, "ry": 1, "angle": 0},
     {"cx": "a", "cy": 0, "rx": 1, "ry": 1, "angle": 0}],
)  # fmt: skip
def test_a_truth_that_is_none_gives_no_dice(launch: Launcher, truth: object) -> None:
    """A16: members that the format does not know are passed over, also when their name is in use."""
    frame = {"type": "frame", "seq": 0, "parts": [IMAGE], "truth": truth}
    _, [received], _ = understood(
        served_by(
            launch, "segmentation", line(LARGE_HELLO), line(frame), bytes(16), line({**END, "frames": 1})
        )
    )  # fmt: skip

    mask = received.part("mask")
    assert mask is not None and mask.dice is None


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_the_mask_of_a_small_picture_is_what_most_of_its_boxes_say(
    segmentation_script: SimpleNamespace, width: int, height: int, data: st.DataObject
) -> None:
    """A16: where the picture is smaller than the box, the box is smaller, down to one pixel."""
    drawn = data.draw(st.binary(min_size=width * height, max_size=width * height))
    picture = drawn.replace(b"\0", b"\1")  # black at a side is not seen
    radius = min(3, (min(width, height) - 1) // 2)
    threshold = segmentation_script.masks.threshold_of(picture, picture)

    def dark(x: int, y: int) -> bool:
        inside = radius <= x < width - radius and 0 <= y < height
        return inside and picture[y * width + x] <= threshold

    def most(x: int, y: int) -> bool:
        around = range(-radius, radius + 1)
        votes = sum(dark(x + dx, y + dy) for dx in around for dy in around)
        return votes > (2 * radius + 1) ** 2 // 2

    expected = bytes(255 * most(x, y) for y in range(height) for x in range(width))
    assert segmentation_script.masks.segment(picture, width, height) == expected


def test_a_segmented_stream_can_be_segmented_again(launch: Launcher) -> None:
    """A16: a session's location registered as a probe brings masks of its own."""
    _, streaming = launch.chain(6, width=16, height=16)
    first = launch("segmentation", streaming.port)
    second = launch("segmentation", first.port)
    with Consumer(second.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        frames: list[Received] = list(consumer.frames())
    assert [[p["name"] for p in f.header["parts"]] for f in frames] == [["image", "mask"]] * 6
