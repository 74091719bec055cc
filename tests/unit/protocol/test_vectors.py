# SPDX-License-Identifier: MIT
"""The golden lines themselves: well-formed as their README says, and replies as clients see them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from protocol_vectors import FOLDER, load, raw

from operatord_protocol import codec, errors
from operatord_protocol.codec import Request
from operatord_protocol.methods import METHODS

FILES = ["framing", "notifications", "replies", "requests", "stream"]
MEMBERS: dict[str, set[str]] = {
    "framing": {"name", "limit", "chunks", "lines", "too_long"},
    "notifications": {"name", "line", "expect"},
    "replies": {"name", "method", "line", "expect"},
    "requests": {"name", "line", "base64", "live", "expect", "reply"},
    "stream": {"name", "line", "base64", "expect"},
}
REPLIES = load("replies")


def test_every_file_is_tested_and_described() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.jsonl")) == FILES
    text = (FOLDER / "README.md").read_text("utf-8")
    for name in FILES:
        assert f"`{name}.jsonl`" in text
        for member in MEMBERS[name]:
            assert f"`{member}`" in text


@pytest.mark.parametrize("name", FILES)
def test_names_are_unique_and_members_known(name: str) -> None:
    vectors = load(name)
    names = [vector["name"] for vector in vectors]
    assert len(set(names)) == len(names)
    assert all(vector.keys() <= MEMBERS[name] for vector in vectors)


def test_what_is_safe_to_execute_starts_and_changes_nothing() -> None:
    changes = re.compile(r"session\.(start|extend)|register|remove|drain|reload|login|subscribe")
    for vector in load("requests"):
        if vector["live"] and "method" in vector["expect"]:
            assert not changes.search(vector["expect"]["method"]), vector["name"]


def test_every_error_has_a_golden_reply() -> None:
    types = {v["expect"]["error"]["type"] for v in REPLIES if "error" in v["expect"]}
    assert errors.BY_TYPE.keys() <= types


@pytest.mark.parametrize("vector", REPLIES, ids=lambda vector: vector["name"])
def test_reply_vector(vector: dict[str, Any]) -> None:
    want = vector["expect"]
    assert vector["method"] in METHODS
    reply = codec.decode(raw(vector))
    if want["dialect"] == "seed":
        assert reply == want["result"]
        return
    assert reply.get("id") == want["id"]
    assert ("jsonrpc" in reply) == (want["dialect"] == "rpc")
    if "result" in want:
        assert reply["result"] == want["result"]
    else:
        check_error(errors.from_wire(reply["error"]), want["error"])


def check_error(exc: errors.WireError, want: dict[str, Any]) -> None:
    found = {
        "code": exc.code,
        "type": exc.type,
        "message": exc.message,
        "retryable": exc.retryable,
        "data": exc.data,
    }
    assert found == want
    known = errors.BY_TYPE.get(want["type"], errors.WireError)
    assert type(exc) is known


@pytest.mark.parametrize("vector", REPLIES, ids=lambda vector: vector["name"])
def test_the_codec_writes_the_reply_to_the_byte(vector: dict[str, Any]) -> None:
    want = vector["expect"]
    if "result" in want:
        request = Request(want["dialect"], want["id"], vector["method"], {}, True)
        line = codec.encode_result(request, codec.encode(want["result"]))
    else:
        wire = codec.decode(raw(vector))["error"]
        line = codec.encode_error(want["dialect"], want["id"], errors.from_wire(wire))
    assert line == raw(vector) + b"\n"
