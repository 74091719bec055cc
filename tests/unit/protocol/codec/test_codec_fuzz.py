# SPDX-License-Identifier: MIT
"""No bytes whatever make the codec raise, lose a duplicate name, or write more than one line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_vectors import examine, load, raw

from operatord_protocol import codec
from operatord_protocol.codec import Refusal, Request, decode_line
from operatord_protocol.errors import InvalidRequest

LINES = [raw(vector) for vector in load("requests") if "method" in vector["expect"]]
TOKENS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"NaN", b"-", b"1e999", b"9" * 5000,
    b'"jsonrpc"', b'"id"', b'"method"', b'"params"', b"\xff", b"\xef\xbb\xbf", b"\x00", b"\\ud800",
]  # fmt: skip


def check(line: bytes) -> None:
    """The verdict on a line is a request or a refusal, and its answer is one line of JSON."""
    found, _ = examine(line)
    if isinstance(found, Refusal):
        answer = codec.encode_error(found.dialect, found.id, found.error)
        error = json.loads(answer)["error"]
        assert error["message"] and error["data"]["type"] == found.error.type
    else:
        assert isinstance(found, Request)
        answer = codec.encode_result(found, b"{}")
        assert isinstance(json.loads(answer), dict)
    assert answer.endswith(b"\n") and answer.count(b"\n") == 1
    if found.dialect == "rpc":
        assert json.loads(answer)["id"] == found.id


@given(st.binary(max_size=200))
def test_arbitrary_bytes(line: bytes) -> None:
    check(line)


@given(st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join))
def test_arbitrary_pieces_of_json(line: bytes) -> None:
    check(line)


@settings(max_examples=300)
@given(st.sampled_from(LINES), st.data())
def test_mutated_requests(line: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line)))
        to = data.draw(st.integers(at, min(len(line), at + 8)))
        piece = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from(TOKENS)))
        line = line[:at] + piece + line[to:]
    check(line)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "x"]), values))
def test_any_object(obj: dict[str, Any]) -> None:
    check(json.dumps(obj, allow_nan=False).encode())


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: names may come twice."""


names = st.sampled_from(["a", "b", "count", "a:b", '":', "\\", "", "é"])
doubtful = st.recursive(
    st.integers(0, 9) | st.sampled_from([":", '{"a":1,"a":2}', "\\", '\\":', "::", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner)).map(Pairs),
    max_leaves=10,
)


def write(value: Any, escape: bool) -> str:
    """Return a value as JSON, `Pairs` as objects with all their names, as they are or escaped."""
    if isinstance(value, Pairs):
        body = (f"{_name(name, escape)}:{write(inner, not escape)}" for name, inner in value)
        return "{" + ",".join(body) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(write(inner, escape) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=escape)


def _name(name: str, escape: bool) -> str:
    if not escape:
        return json.dumps(name, ensure_ascii=False)
    escaped = (f"\\u{ord(letter):04x}" for letter in name)
    return f'"{"".join(escaped)}"'


def has_duplicates(line: str) -> bool:
    """Ask the standard library's parser, which shows every pair that it reads."""
    found: list[bool] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.append(len({name for name, _ in pairs}) < len(pairs))

    json.loads(line, object_pairs_hook=note)
    return any(found)


@settings(max_examples=400)
@given(st.lists(st.tuples(names, doubtful), min_size=1, max_size=4).map(Pairs), st.booleans())
def test_a_name_given_twice_is_refused_at_any_depth_and_nothing_else_is(
    pairs: Pairs, escape: bool
) -> None:
    line = write(pairs, escape)
    found = decode_line(line.encode())
    refused = isinstance(found, Refusal)
    assert refused == has_duplicates(line)
    if isinstance(found, Refusal):
        assert isinstance(found.error, InvalidRequest)
        assert "is given twice" in found.error.message
