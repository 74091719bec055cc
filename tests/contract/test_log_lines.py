# SPDX-License-Identifier: MIT
"""Laws of the log readers: how the bytes are cut into pieces makes no difference."""

from __future__ import annotations

import asyncio
import itertools
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operatord.engines.base import LogLine
from operatord.engines.logs import MOST_LINES, FrameReader, LinesRead, LogBook, TruncatingSplitter
from operatord.engines.process.pace import BYTES, LINES, Pace

LIMIT = 8


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


text = st.binary(max_size=60).map(lambda b: b.replace(b"a", b"\n"))
cuts = st.lists(st.integers(min_value=0), max_size=10)


@given(text, cuts)
def test_any_chunking_gives_the_same_bounded_lines(data: bytes, cuts: list[int]) -> None:
    splitter = TruncatingSplitter(LIMIT)
    lines = [line for piece in pieces(data, cuts) for line in splitter.feed(piece)]
    lines += splitter.flush()
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert lines == [raw[:LIMIT].removesuffix(b"\r").decode("utf-8", "replace") for raw in expected]


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@given(cuts)
def test_any_chunking_of_frames_gives_the_same_lines(cuts: list[int]) -> None:
    data = b"".join(
        [
            frame(1, b"t1 one\n"),
            frame(1, b"t2 begun "),
            frame(2, b"t3 oops\n"),
            frame(1, b"t4 and ended\n"),
            frame(2, b"t5 no end"),
        ]
    )
    reader = FrameReader(line_limit=16)
    lines = [line for piece in pieces(data, cuts) for line in reader.feed(piece)]
    lines += reader.flush()
    assert lines == [
        LogLine(time="t1", stream="stdout", line="one"),
        LogLine(time="t3", stream="stderr", line="oops"),
        LogLine(time="t2", stream="stdout", line="begun and ended"),
        LogLine(time="t5", stream="stderr", line="no end"),
    ]


@pytest.mark.parametrize("data", [b"HTTP/1.1", frame(1, b"")[:4] + b"\xff\xff\xff\xff"])
def test_what_is_no_frame_is_an_error_and_no_buffer(data: bytes) -> None:
    with pytest.raises(ValueError, match="frames"):
        FrameReader().feed(data)


records = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([1, 2]), st.sampled_from(["", "\n", "a", "b\n"])),
    max_size=20,
)


@settings(max_examples=500)
@given(records, st.integers(min_value=0), st.integers(1, 3))
def test_second_reading_goes_on_where_the_first_one_ended(
    written: list[tuple[int, int, str]], cut: int, unit: int
) -> None:
    """Law: whatever times lines share and however many writes they took; times are understood in units."""
    times = list(itertools.accumulate(step for step, _, _ in written))
    frames = [
        (time, frame(stream, f"{time:03d} {text}".encode()))
        for time, (_, stream, text) in zip(times, written, strict=True)
    ]
    first, again, whole = FrameReader(), FrameReader(), FrameReader()
    cut %= len(frames) + 1
    lines, read = first.feed(b"".join(each for _, each in frames[:cut])), LinesRead()
    for line in lines:
        read.add(line)
    since = int(read.since(first.begun_at) or 0) // unit * unit
    told = again.feed(b"".join(each for time, each in frames if time >= since))
    lines += [line for line in [*told, *again.flush()] if not read.had(line)]
    assert lines == [*whole.feed(b"".join(each for _, each in frames)), *whole.flush()]


@given(st.lists(st.sampled_from("abc"), min_size=1), st.integers(0, 9))
def test_second_reading_tells_all_that_is_newer_than_what_it_forgot(
    texts: list[str], kept: int
) -> None:
    read = LinesRead()
    read.add(LogLine("1", "stdout", "forgotten"))
    rest = [LogLine("2", "stdout", each) for each in texts][:kept]
    assert [line for line in rest if not read.had(line)] == rest


def written(book: LogBook, count: int, stream: Literal["stdout", "stderr"] = "stdout") -> LogBook:
    for number in range(count):
        book.write(stream, f"{number:03d}")
    return book


async def test_book_forgets_the_oldest_beyond_its_limit() -> None:
    book = written(LogBook(size=12), 10)
    assert [line.line for line in book.tail(100)] == ["007", "008", "009"]


async def test_slow_follower_misses_lines_and_goes_on() -> None:
    book = written(LogBook(size=12), 2)
    lines = book.follow(10)
    assert (await anext(lines)).line == "000"
    written(book, 10)
    book.close()
    assert [line.line async for line in lines] == ["007", "008", "009"]


async def test_every_follower_is_woken() -> None:
    book = LogBook()
    waiting = [asyncio.ensure_future(anext(book.follow(0))) for _ in range(3)]
    await asyncio.sleep(0)
    book.write("stderr", "now")
    assert [(await line).line for line in waiting] == ["now"] * 3


@pytest.mark.parametrize(("line", "most"), [("", MOST_LINES), ("x" * 999, 1048), ("x" * 8192, 127)])
async def test_book_is_bounded_in_lines_and_in_size(line: str, most: int) -> None:
    """A11: a line without a letter takes memory, too."""
    book = LogBook()
    for _ in range(5):
        book.write("stdout", *[line] * 5000)
    assert len(book.tail(100_000)) == min(most, MOST_LINES)


@given(st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 4096)), max_size=300))
def test_no_flood_is_taken_in_faster_than_its_pace(reads: list[tuple[int, int]]) -> None:
    """A11: law: after each rest, at most a second's worth more was taken in than time has passed for."""
    pace, now, lines, size = Pace(0.0), 0.0, 0, 0
    for count, length in reads:
        lines, size = lines + count, size + length
        now += pace.rest(count, length, now)
        assert lines <= LINES * (1 + now) + 1e-6
        assert size <= BYTES * (1 + now) + 1e-6


def test_who_writes_little_never_waits() -> None:
    """A11"""
    pace = Pace(0.0)
    assert not any(pace.rest(LINES // 20, BYTES // 20, moment / 10) for moment in range(1, 1000))
