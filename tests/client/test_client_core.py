# SPDX-License-Identifier: MIT
"""The conversation without I/O: which line belongs to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
from client_stub import SESSION_ID, golden, vectors
from hypothesis import given
from hypothesis import strategies as st

from operatord_client import notices
from operatord_client._transport.core import Call, Core, decode_result
from operatord_client.errors import (
    ClientError,
    ConnectionLost,
    NoCapacity,
    TooManyRequests,
    UnexpectedAnswer,
    WireError,
)
from operatord_protocol.messages import Session
from operatord_protocol.methods import METHODS

REPLIES = [v for v in vectors("replies") if v["expect"]["dialect"] == "rpc"]
RESULTS = [v for v in REPLIES if "result" in v["expect"]]
ERRORS = [v for v in REPLIES if "error" in v["expect"] and v["expect"]["id"] is not None]


def readdressed(line: str, call: Call) -> bytes:
    return json.dumps({**json.loads(line), "id": call.id}).encode() + b"\n"


def reply(call: Call, result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call.id, "result": result}).encode() + b"\n"


def ask(core: Core, method: str = "system.ping") -> Call:
    call, _ = core.request(method, {})
    return call


def progress(call: Call, stage: str) -> bytes:
    params = {"id": call.id, "session_id": "S", "stage": stage, "position": None, "reason": None}
    body = {"jsonrpc": "2.0", "method": "session.progress", "params": params}
    return json.dumps(body).encode() + b"\n"


@pytest.mark.parametrize("vector", RESULTS, ids=lambda v: v["name"])
def test_every_golden_result_is_of_its_method_s_type(vector: dict[str, Any]) -> None:
    core = Core()
    call = ask(core, vector["method"])
    core.feed(readdressed(vector["line"], call))
    result = decode_result(call.method, call.result(), METHODS[call.method].result)
    assert isinstance(result, METHODS[call.method].result)
    if isinstance(result, Session):
        assert result.stages == vector["expect"].get("stages", result.stages)


@pytest.mark.parametrize("vector", ERRORS, ids=lambda v: v["name"])
def test_every_golden_error_is_raised_with_its_type_and_data(vector: dict[str, Any]) -> None:
    core = Core()
    call = ask(core, vector["method"])
    core.feed(readdressed(vector["line"], call))
    expected = vector["expect"]["error"]
    with pytest.raises(WireError, match=r".") as caught:
        call.result()
    assert (caught.value.type, caught.value.code) == (expected["type"], expected["code"])
    assert caught.value.retryable is expected["retryable"]
    assert caught.value.data == expected["data"]


@given(st.lists(st.integers(1, 200)))
def test_any_chunking_of_the_bytes_gives_the_same_answers(cuts: list[int]) -> None:
    core = Core()
    first, second = ask(core), ask(core)
    data = progress(first, "probe") + reply(second, "2\u00b7") + b"\r\n" + reply(first, [1])
    for cut in cuts:
        if data[:cut]:
            core.feed(data[:cut])
        data = data[cut:]
    if data:
        core.feed(data)
    assert [p.stage for p in first.progress] == ["probe"]
    assert json.loads(first.result()) == [1]
    assert json.loads(second.result()) == "2\u00b7"
    assert core.pending == 0


def test_replies_overtake_each_other() -> None:
    core = Core()
    first, second = ask(core), ask(core)
    core.feed(reply(second, 2))
    assert (first.done, second.done) == (False, True)


def test_progress_goes_to_the_start_that_it_is_of() -> None:
    core = Core()
    first, second = ask(core, "session.start"), ask(core, "session.start")
    core.feed(progress(second, "network"))
    assert not first.news
    assert second.progress[0].stage == "network"
    assert second.progress[0].request_id == second.id


def test_the_result_is_kept_as_it_came() -> None:
    core = Core()
    call = ask(core)
    core.feed(b'{"jsonrpc":"2.0","id":1,"result":{"b":1.0,  "a":"\\u00b7"}}\n')
    assert call.result() == b'{"b":1.0,  "a":"\\u00b7"}'


def test_an_abandoned_call_is_cancelled_once_and_its_answer_passed_over() -> None:
    core = Core()
    call = ask(core, "session.start")
    assert json.loads(core.abandon(call)) == {
        "jsonrpc": "2.0",
        "method": "request.cancel",
        "params": {"id": call.id},
    }
    assert core.abandon(call) == b""
    core.feed(progress(call, "probe") + reply(call, 1))
    assert not call.done


def started_line(call: Call) -> bytes:
    return readdressed(json.dumps(golden("rpc: started")), call)


STOP = {"method": "session.stop", "params": {"session_id": SESSION_ID}}


def test_a_start_whose_answer_crosses_its_cancellation_is_stopped() -> None:
    """S1: the daemon had answered before it could hear that the start was taken back."""
    core = Core()
    call = ask(core, "session.start")
    core.abandon(call)
    out = core.feed(started_line(call))
    assert json.loads(out) == {"jsonrpc": "2.0", **STOP}
    assert core.feed(started_line(call)) == b""


def test_a_start_that_is_abandoned_once_it_is_answered_is_stopped() -> None:
    """S1: an interrupt between the answer and the return of it."""
    core = Core()
    call = ask(core, "session.start")
    core.feed(started_line(call))
    assert json.loads(core.abandon(call)) == {"jsonrpc": "2.0", **STOP}


def test_a_start_with_a_key_may_be_somebody_else_s_and_is_not_stopped() -> None:
    """S1: the same key gives the same session to whoever asks again."""
    core = Core()
    for early in (True, False):
        call, _ = core.request("session.start", {"request_key": "k"})
        if early:
            core.abandon(call)
        assert core.feed(started_line(call)) == b""
        if not early:
            assert core.abandon(call) == b""


def test_an_answered_call_is_not_cancelled() -> None:
    core = Core()
    call = ask(core)
    core.feed(reply(call, 1))
    assert core.abandon(call) == b""


def test_an_error_to_nobody_refuses_every_pending_call() -> None:
    core = Core()
    calls = [ask(core), ask(core)]
    core.feed(json.dumps(golden("error: flood")).encode() + b"\n")
    for call in calls:
        with pytest.raises(TooManyRequests):
            call.result()


def test_the_end_of_the_connection_is_said_to_everybody_from_then_on() -> None:
    core = Core()
    ask(core)
    core.feed(b"")
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="the daemon closed the connection"):
            core.check()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            b"HTTP/1.1 400 Bad Request\n",
            r"speaks HTTP: give the control port instead, .* \(7733 unless",
        ),
        (b"[]\n", "not operatord"),
        (b'{"id":[1]}\n', "not operatord"),
        (b"\xff\n", "not operatord"),
    ],
)
def test_what_is_no_answer_ends_the_conversation(line: bytes, sentence: str) -> None:
    core = Core()
    core.feed(line)
    with pytest.raises(UnexpectedAnswer, match=sentence):
        core.check()


def test_a_result_of_another_shape_is_said_to_be_unexpected() -> None:
    for raw in (b"[]", b'{"sessions":[7]}', b'{"phase":"asleep"}'):
        with pytest.raises(UnexpectedAnswer, match=r"session\.get"):
            decode_result("session.get", raw, Session)


def test_notices_are_kept_for_their_reader_in_order() -> None:
    core = Core()
    lines = [v["line"] for v in vectors("notifications") if v["expect"]["method"] == "event"]
    core.feed("\n".join([*lines, ""]).encode())
    taken = iter(core.take_notice, None)
    events = [notices.read_event(notice) for notice in taken]
    assert [event.data for event in events] == [json.loads(line)["params"] for line in lines]
    assert events[0].type == "session.running"
    assert events[0].lost is None


def test_a_gap_in_the_events_is_an_event_without_a_number() -> None:
    core = Core()
    core.feed(json.dumps(golden("event: a gap", "notifications")).encode() + b"\n")
    notice = core.take_notice()
    assert notice is not None
    event = notices.read_event(notice)
    assert (event.type, event.lost, event.seq) == ("events.lost", (17, 512), None)


def test_no_room_says_what_is_missing() -> None:
    core = Core()
    call = ask(core, "session.start")
    core.feed(readdressed(json.dumps(golden("error: no room")), call))
    with pytest.raises(NoCapacity) as caught:
        call.result()
    assert caught.value.data["dimension"] == "memory"


def test_client_errors_have_one_root() -> None:
    assert issubclass(ConnectionLost, ClientError)
    assert not issubclass(WireError, ClientError)
