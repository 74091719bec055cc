# SPDX-License-Identifier: MIT
"""The quick look at a line never finds anything but what the careful one finds."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operatord_protocol import codec

WORDS = st.sampled_from(
    ["jsonrpc", "2.0", "id", "method", "params", "system.ping", "a:b", "[", "é", "\\", '"', ""]
)
SCALARS = WORDS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=5,
)
MEMBERS = st.lists(st.tuples(WORDS, VALUES), max_size=5)


def as_line(members: list[tuple[str, object]]) -> bytes:
    """Write an object, duplicate keys and all."""
    pairs = (f"{json.dumps(key)}:{json.dumps(value)}" for key, value in members)
    return ("{" + ",".join(pairs) + "}").encode()


@given(MEMBERS, MEMBERS)
@example([("method", "a"), ("params", {"x": 1})], [("method", "b")])
@example([("method", "a:b"), ("params", {})], [("jsonrpc", "2.0"), ("id", 1)])
@example([("params", {"x": 10**40, "y": -(2**64), "z": 2.0**80})], [])
@example([("params", {"env": {"probe": {"count": "9"}}})], [])
def test_quick_and_careful_agree(
    some: list[tuple[str, object]], more: list[tuple[str, object]]
) -> None:
    line = as_line([("method", "m"), *some, *more])
    quick = codec._decode_quickly(line)
    assert quick is None or quick.request() == codec.decode_with_care(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"method":"system.ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"session.get","params":{"session_id":"A"}}',
        b'{"id":"x","method":"session.start","params":{"count":5,"plain_stream":false}}',
        b'{"method":"session.start","params":{"env":{"probe":{"url":"http://[::1]:80"}}}}',
    ],
)
def test_common_lines_need_a_quick_look_only(line: bytes) -> None:
    found = codec._decode_quickly(line)
    assert found is not None and found.request() == codec.decode_with_care(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"method":"a","method":"b"}',
        b'{"method":"a","params":{"x":1,"x":2}}',
        b'{"method":"a","params":{"x":{"y":1,"y":2}}}',
        b'{"method":"a","params":{"x":' + b"[" * 80 + b"]" * 80 + b"}}",
        b'{"method":"a","params":{"x":{"y":{"z":{}}}}}',
        b'{"method":"a","method":"\\u003a"}',
        b'{"method":"a","id":null}',
        b'{"method":"a","id":1.0}',
        b'{"method":"a","id":9223372036854775808}',
    ],
)
def test_what_needs_care_gets_it(line: bytes) -> None:
    assert codec._decode_quickly(line) is None
