# SPDX-License-Identifier: MIT
"""Many lines decoded or encoded together give what each of them gives alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from protocol_vectors import load, raw

from operatord_protocol import codec
from operatord_protocol.codec import Envelope, Line, Refusal, Reply, Request, decode_block
from operatord_protocol.framing import split_lines

PING = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}'
GOOD = [PING, b'{"method":"a"}', b'{"id":"x","method":"b","params":{"y":{"z":"p:q"}}}']
DOUBTFUL = [
    b'{"a":1},{"b":2}',
    b'{"method":"a"}{"method":"b"}',
    b'{"method":"a"} {"method":"b"}',
    b'{"method":"a","params":{"x":{}',
    b'{"method":"a","params":{"x":[{}',
    b"{}]}}",
    b'{"method":',
    b'"a"}',
    b'{"method":"a}',
    b'{","id":1}',
    b'{"method":"a","method":"b"}',
    b'{"method":"\\u003a"}',
    b'{"method":"\\u003a\\u003a","method":"b"}',
    b'{"method":"a","params":{"x":[[]]}}',
    b'{"method":"a","id":null}',
    b'{"method":"\xff"}',
    b'{"method":"\x01"}',
    b'{"count":5}',
    b"{}",
    b"[]",
    b"}",
    b"{",
    b"",
    b" ",
    b"nul",
    b"\xef\xbb\xbf" + PING,
    b" " + PING + b"\t",
    *(raw(vector) for vector in load("requests") if len(raw(vector)) < 500),
]
PIECES = [
    b"{",
    b"}",
    b"}\n{",
    b",",
    b":",
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b"[",
    b"]",
    b"\xff",
    b'"method"',
]


def verdict(found: Line) -> Any:
    """Return what it is in the end as something that can be compared."""
    end = found.request() if isinstance(found, Envelope) else codec.decode_with_care(found)
    return (end.dialect, end.id, end.error.to_wire()) if isinstance(end, Refusal) else end


def check(block: bytes) -> None:
    """What the lines hold together is what each of them holds alone."""
    together = [verdict(found) for found in decode_block(block)]
    assert together == [verdict(line) for line in split_lines(block)]


def join(lines: list[bytes], end: bytes = b"\n") -> bytes:
    return b"".join(line + end for line in lines)


lines = st.sampled_from(GOOD) | st.sampled_from(DOUBTFUL) | st.binary(max_size=8)


@settings(max_examples=400)
@given(st.lists(lines, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r\r\n"]))
@example([PING, b'{"a":1},{"b":2}', PING], b"\n")
@example([PING, b'{"method":"a"}{"method":"b"}', PING], b"\n")
@example([b'{"method":', b'"a"}{"method":"b"}'], b"\n")
@example([b'{"method":"a"}{"method":"b"}', b'{"method":"a","params":{"x":{}', b"{}}}"], b"\n")
@example([b'{"method":"a"}{"method":"b"}', b'{"method":"a}', b'{"}'], b"\n")
@example([b"", PING, b"", b'{"method":"a"}{"method":"b"}'], b"\n")
@example([b'{"method":"a","params":{"x":{}', b'{"}}'], b"\n")
@example([b'{"method":"a","method":"b"}', b'{"method":"\\u003a"}'], b"\n")
@example([b'{"method":"a"', b"}"], b"\r\n")
def test_together_and_line_by_line_agree(some: list[bytes], end: bytes) -> None:
    check(join(some, end))


@settings(max_examples=300)
@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=4).map(join), st.data())
def test_agree_on_good_lines_that_were_tampered_with(block: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(block)))
        to = data.draw(st.integers(at, min(len(block), at + 6)))
        block = block[:at] + data.draw(st.sampled_from(PIECES)) + block[to:]
    check(block + b"\n")


@given(st.lists(st.sampled_from(GOOD), min_size=1), st.sampled_from([b"\n", b"\r\n"]))
def test_good_lines_need_one_look_only(some: list[bytes], end: bytes) -> None:
    assert all(isinstance(found, Envelope) for found in decode_block(join(some, end)))


def test_a_line_that_needs_care_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A1: a look at a long line takes most of a millisecond."""
    looked: list[bytes] = []
    monkeypatch.setattr(codec, "_decode_quickly", looked.append)
    line = b'{"method":"\\u0061"}'
    assert decode_block(line + b"\n") == [line]
    assert len(looked) == 1


@pytest.mark.parametrize("bad", DOUBTFUL[:13])
def test_a_bad_line_spoils_nothing_for_its_neighbours(bad: bytes) -> None:
    first, *_, last = decode_block(join([PING, bad, PING]))
    assert isinstance(first, Envelope)
    assert first == last and first.request() == codec.decode_line(PING)


def test_blank_lines_hold_nothing() -> None:
    assert not decode_block(b"\n \r\n\t\n")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["2.0", UNSET]),
            st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9),
            st.binary(max_size=5).map(lambda data: codec.encode(data.hex())),
        )
    )
)
def test_replies_together_are_those_of_each(parts: list[tuple[Any, int | str, bytes]]) -> None:
    each = [
        codec.encode_result(Request("plain" if rpc is UNSET else "rpc", id_, "", {}, True), result)
        for rpc, id_, result in parts
    ]
    replies = [Reply(rpc, id_, Raw(result)) for rpc, id_, result in parts]
    assert codec.encode_replies(replies) == b"".join(each)


def test_a_reply_to_a_plain_line_without_an_id_has_the_result_alone() -> None:
    assert codec.encode_replies([Reply(UNSET, UNSET, Raw(b"{}"))]) == b'{"result":{}}\n'
