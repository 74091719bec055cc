# SPDX-License-Identifier: MIT
"""Lines into requests and answers into lines, in the three dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from protocol_vectors import examine, load, raw

from operatord_protocol import codec
from operatord_protocol.codec import Dialect, Refusal, Request, RequestId, decode_line
from operatord_protocol.errors import InvalidParams, InvalidRequest, NoCapacity, ParseError


def wire_error(refusal: Refusal) -> dict[str, Any]:
    wire = refusal.error.to_wire()
    path = {"path": wire["data"]["path"]} if "path" in wire["data"] else {}
    return {"code": wire["code"], "type": wire["data"]["type"], **path}


@pytest.mark.parametrize("vector", load("requests"), ids=lambda vector: vector["name"])
def test_request_vector(vector: dict[str, Any]) -> None:
    found, answered = examine(raw(vector))
    common = {"dialect": found.dialect, "id": found.id, "wants_reply": answered}
    if isinstance(found, Refusal):
        assert {**common, "error": wire_error(found)} == vector["expect"]
    else:
        assert {**common, "method": found.method, "params": found.params} == vector["expect"]


def test_a_boolean_is_no_id() -> None:
    found = decode_line(b'{"id":true,"method":"system.ping"}')
    assert isinstance(found, Refusal) and found.id is None


def test_a_refused_line_still_gets_its_id_back() -> None:
    found = decode_line(b'{"jsonrpc":"2.0","id":"x","method":"system.ping","parms":{}}')
    assert isinstance(found, Refusal)
    assert found.id == "x"
    assert "did you mean 'params'?" in found.error.message


def test_the_first_unknown_member_is_named() -> None:
    found = decode_line(b'{"method":"system.ping","zz":1,"aa":2}')
    assert isinstance(found, Refusal) and "'zz'" in found.error.message


@pytest.mark.parametrize("depth", [64, 65, 150, 400, 499, 500, 501, 700, 990, 5000, 30_000])
@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_nesting_is_bounded_whatever_the_stack_would_bear(
    depth: int, opening: bytes, closing: bytes
) -> None:
    levels = depth // (2 if len(closing) == 2 else 1)
    line = opening * levels + b"1" + closing * levels
    found = decode_line(b'{"a":' + line + b"}")
    assert isinstance(found, Refusal)
    assert isinstance(found.error, ParseError)
    assert "nested too deeply: 64 levels are the most" in found.error.message


def test_sixty_four_levels_are_fine() -> None:
    found = decode_line(b'{"a":' + b"[" * 63 + b"]" * 63 + b"}")
    assert isinstance(found, Request)


def test_a_peers_own_words_do_not_make_an_answer_long() -> None:
    word = b"x" * 60_000
    for line in (
        b'{"method":"m","%b":1}' % word,
        b'{"%b":1,"%b":1}' % (word, word),
        b'{"%b":1}' % word,
        b'{"format":"%b"}' % word,
        b'{"lease":{"ttl":1,"%b":1}}' % word,
        b'{"env":{"%b":{}}}' % word,
    ):
        found, _ = examine(line)
        assert isinstance(found, Refusal)
        assert len(codec.encode_error(found.dialect, found.id, found.error)) < 1000


@pytest.mark.parametrize(
    "dialect, request_id, line",
    [
        ("rpc", 1, b'{"jsonrpc":"2.0","id":1,"result":{"pong":true}}\n'),
        ("rpc", "a", b'{"jsonrpc":"2.0","id":"a","result":{"pong":true}}\n'),
        ("plain", None, b'{"result":{"pong":true}}\n'),
        ("plain", "a", b'{"id":"a","result":{"pong":true}}\n'),
        ("plain", 0, b'{"id":0,"result":{"pong":true}}\n'),
        ("seed", None, b'{"pong":true}\n'),
    ],
)
def test_a_result_in_its_dialect(dialect: Dialect, request_id: RequestId, line: bytes) -> None:
    request = Request(dialect, request_id, "system.ping", {}, True)
    assert codec.encode_result(request, codec.encode({"pong": True})) == line


@pytest.mark.parametrize(
    "dialect, request_id, envelope",
    [
        ("rpc", 1, {"jsonrpc": "2.0", "id": 1}),
        ("rpc", None, {"jsonrpc": "2.0", "id": None}),
        ("plain", None, {}),
        ("plain", "a", {"id": "a"}),
        ("seed", None, {}),
    ],
)
def test_an_error_in_its_dialect(
    dialect: Dialect, request_id: RequestId, envelope: dict[str, Any]
) -> None:
    error = NoCapacity("not enough memory", dimension="memory")
    line = codec.encode_error(dialect, request_id, error)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line) == {**envelope, "error": error.to_wire()}


def test_text_with_line_breaks_stays_on_one_line() -> None:
    line = codec.encode_error("plain", "a\nb", NoCapacity("one\ntwo\r\u2028three"))
    assert line.count(b"\n") == 1


def test_notifications_from_the_daemon() -> None:
    params = {"seq": 1, "type": "session.running"}
    assert json.loads(codec.encode_notification("rpc", "event", params)) == {
        "jsonrpc": "2.0",
        "method": "event",
        "params": params,
    }
    assert json.loads(codec.encode_notification("plain", "event", params)) == {
        "method": "event",
        "params": params,
    }


@pytest.mark.parametrize("vector", load("notifications"), ids=lambda vector: vector["name"])
def test_notification_vector(vector: dict[str, Any]) -> None:
    want = vector["expect"]
    line = codec.encode_notification(want["dialect"], want["method"], want["params"])
    assert codec.decode(raw(vector)) == codec.decode(line)


@pytest.mark.parametrize("request_id, wants_reply", [(1, True), ("a", True), (None, False)])
def test_a_client_s_request_is_understood(request_id: RequestId, wants_reply: bool) -> None:
    line = codec.encode_request("session.start", {"count": 5}, request_id)
    assert line.endswith(b"\n")
    want = Request("rpc", request_id, "session.start", {"count": 5}, wants_reply)
    assert decode_line(line[:-1]) == want


def test_a_client_may_leave_params_out() -> None:
    assert b"params" not in codec.encode_request("system.ping", {}, 1)


@pytest.mark.parametrize("line", [b"", b"nonsense", b"\xff", b"[" * 5000, b'{"a":1e999}'])
def test_a_daemon_that_sends_nonsense_is_a_parse_error(line: bytes) -> None:
    with pytest.raises(ParseError):
        codec.decode(line)


def test_a_typo_in_params_is_answered_with_the_likely_name() -> None:
    found, _ = examine(b'{"plain_straem":true}')
    assert isinstance(found, Refusal) and isinstance(found.error, InvalidParams)
    assert found.error.message == (
        "params.plain_straem: unknown member; did you mean 'plain_stream'?"
    )


def test_a_wrong_choice_is_answered_with_the_choices() -> None:
    found, _ = examine(b'{"on_shortage":"wait"}')
    assert isinstance(found, Refusal)
    assert "known: degrade, queue, refuse" in found.error.message


@pytest.mark.parametrize("name", ["a`b", "x - at `$.evil", "`", "a.b", "$", "", "{}"])
def test_any_unknown_name_is_reported_as_it_is(name: str) -> None:
    found, _ = examine(json.dumps({name: 1}).encode())
    assert isinstance(found, Refusal)
    assert found.error.data["path"] == f"params.{name}"


def test_a_batch_says_what_to_do() -> None:
    found = decode_line(b'[{"method":"system.ping"}]')
    assert isinstance(found, Refusal) and isinstance(found.error, InvalidRequest)
    assert "one request object per line" in found.error.message
