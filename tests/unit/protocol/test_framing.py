# SPDX-License-Identifier: MIT
"""Bytes into lines: the chunking never matters, and a long line ends everything."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from protocol_vectors import load

from operatord_protocol.framing import LINE_BYTES, LineSplitter, LineTooLong

LIMIT = 12
pieces = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b" ", b"\t", b"a", b"{}", b"12345678901", b"123456789012", b"\x00\xff"]
)
streams = st.one_of(st.lists(pieces, max_size=30).map(b"".join), st.binary(max_size=80))


def split(chunks: Iterable[bytes], limit: int = LIMIT) -> tuple[list[bytes], bool]:
    """Return all lines of ``chunks``, and whether one was too long."""
    splitter = LineSplitter(limit)
    lines: list[bytes] = []
    too_long = False
    for chunk in chunks:
        try:
            lines += splitter.feed(chunk)
        except LineTooLong as exc:
            assert not too_long, "the error is raised once"
            too_long = True
            lines += exc.lines
            assert exc.limit == limit
    return lines, too_long


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def expected(data: bytes, limit: int = LIMIT) -> tuple[list[bytes], bool]:
    """Say it again, without a buffer: cut at every newline, look at every piece."""
    lines: list[bytes] = []
    *whole, rest = data.split(b"\n")
    for piece in whole:
        text = piece.removesuffix(b"\r")
        if len(text) > limit:
            return lines, True
        if text.strip():
            lines.append(text)
    return lines, len(rest.removesuffix(b"\r")) > limit


@given(streams, st.data())
@example(b"a\n123456789012\r\nb\n", None)
@example(b"a\n123456789012\r\r\nb\n", None)
def test_any_chunking_gives_the_same_lines_and_the_same_error(data: bytes, draw: Any) -> None:
    cuts: list[int] = []
    if draw is not None:
        cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)))))
    edges = [0, *cuts, len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert split(chunks) == split([data]) == split(each_byte(data)) == expected(data)


@pytest.mark.parametrize("vector", load("framing"), ids=lambda vector: vector["name"])
def test_framing_vector(vector: dict[str, Any]) -> None:
    chunks = [chunk.encode() for chunk in vector["chunks"]]
    wanted = [line.encode() for line in vector["lines"]], vector["too_long"]
    assert split(chunks, vector["limit"]) == wanted
    assert split(each_byte(b"".join(chunks)), vector["limit"]) == wanted


def test_a_line_of_exactly_the_default_limit_passes() -> None:
    line = b"x" * LINE_BYTES
    assert split([line + b"\r\n"], LINE_BYTES) == ([line], False)


def test_one_byte_more_does_not() -> None:
    assert split([b"x" * (LINE_BYTES + 1)], LINE_BYTES) == ([], True)


def test_the_tail_of_an_oversized_line_never_becomes_a_line() -> None:
    chunks = [b"x" * 13, b'yyy\n{"method":"system.drain"}\n', b'{"method":"system.ping"}\n']
    assert split(chunks, 12) == ([], True)


def test_lines_completed_before_an_oversized_one_travel_with_the_error() -> None:
    splitter = LineSplitter(4)
    with pytest.raises(LineTooLong) as caught:
        splitter.feed(b"good\n\r\ntoo long\nnever\n")
    assert caught.value.lines == [b"good"]
    assert "4 bytes" in str(caught.value)


def test_after_an_oversized_line_nothing_is_kept() -> None:
    splitter = LineSplitter(4)
    with pytest.raises(LineTooLong):
        splitter.feed(b"too long")
    assert splitter.feed(b"a\n") == []
    assert splitter.pending == b""


def test_a_line_without_its_end_is_pending() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b'{"method":"system.drain"}') == []
    assert splitter.pending == b'{"method":"system.drain"}'
    assert splitter.feed(b"\n") == [b'{"method":"system.drain"}']
    assert splitter.pending == b""
