# SPDX-License-Identifier: MIT
"""The three dialects, one daemon: what is sent, what comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, Wire, netcat

PROTOCOL = Path(__file__).parents[3] / "protocol" / "PROTOCOL.md"
REPLIES = PROTOCOL.with_name("vectors") / "replies.jsonl"


async def test_plain_line_gets_one_result(wire: Wire) -> None:
    reply = await wire.ask('{"method":"system.ping"}')
    assert set(reply) == {"result"}
    assert reply["result"]["pong"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", reply["result"]["time"])


async def test_plain_line_echoes_an_id_when_given(wire: Wire) -> None:
    assert (await wire.ask('{"method":"system.ping","id":7}'))["id"] == 7
    assert (await wire.ask('{"method":"system.ping","id":"x"}'))["id"] == "x"


async def test_plain_error_has_code_message_and_type(wire: Wire) -> None:
    reply = await wire.ask('{"method":"system.pong"}')
    assert set(reply) == {"error"}
    assert reply["error"]["code"] == -32601
    assert "system.ping" in reply["error"]["message"], "a slip is met with a suggestion"
    assert reply["error"]["data"]["retryable"] is False


async def test_json_rpc_request_gets_its_id_back(wire: Wire) -> None:
    reply = await wire.ask('{"jsonrpc":"2.0","id":"é","method":"system.ping"}')
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", "é")
    assert reply["result"]["pong"] is True


async def test_json_rpc_notification_gets_no_reply(wire: Wire) -> None:
    wire.send('{"jsonrpc":"2.0","method":"system.ping"}', '{"jsonrpc":"2.0","method":"no.such"}')
    assert (await wire.ask('{"method":"system.ping","id":1}'))["id"] == 1


async def test_json_rpc_batch_is_refused_as_a_whole(wire: Wire) -> None:
    await wire.ask('{"method":"system.ping"}')
    reply = await wire.ask('[{"jsonrpc":"2.0","id":1,"method":"system.ping"}]')
    assert reply["jsonrpc"] == "2.0"
    assert reply["id"] is None
    assert reply["error"]["code"] == -32600
    assert (await wire.ask('{"method":"system.ping"}'))["result"]["pong"]


async def test_blank_lines_and_carriage_returns_are_skipped(wire: Wire) -> None:
    wire.send("", "\r", "   ", '{"method":"system.ping","id":1}\r', "\r")
    assert (await wire.line())["id"] == 1
    assert (await wire.ask('{"method":"system.ping","id":2}'))["id"] == 2


async def test_seed_line_gets_one_flat_reply(lab: Lab, wire: Wire) -> None:
    reply = await wire.ask('{"count": 100000, "plain_stream": false}')
    assert re.fullmatch("[0-9A-F]{16}", reply["session_id"])
    assert reply["network"] == f"network_{reply['session_id'][:5]}"
    stages = lab.fake.stages()
    assert {name: reply[name] for name in ("probe", "stream", "segmentation")} == stages
    location = reply["location"]
    assert location["url"] == f"tcp://{location['host']}:{location['port']}"
    assert location["format"] == "json"
    assert reply["phase"] == "running"


SEED = [
    ({"count": 100000, "plain_stream": False}, "seed: segmented"),
    ({"count": 5, "plain_stream": True}, "seed: plain has no segmentation"),
]


@pytest.mark.parametrize(("line", "name"), SEED, ids=["segmented", "plain"])
async def test_what_the_golden_lines_show_is_what_is_sent_whole(
    wire: Wire, line: Json, name: str
) -> None:
    golden = {
        each["name"]: each for each in map(json.loads, REPLIES.read_text("utf-8").splitlines())
    }
    reply = await wire.ask(line)
    assert list(reply) == list(json.loads(golden[name]["line"]))
    if name == "seed: segmented":
        assert golden[name]["line"] in PROTOCOL.read_text("utf-8")


async def test_seed_line_for_a_plain_stream_has_no_segmentation(wire: Wire) -> None:
    reply = await wire.ask('{"count": 5, "plain_stream": true}')
    assert {"session_id", "network", "probe", "stream", "location"} <= set(reply)
    assert "segmentation" not in reply


async def test_an_empty_object_is_a_seed_line_too(wire: Wire) -> None:
    reply = await wire.ask("{}")
    assert (reply["pipeline"], reply["phase"]) == ("segmented", "running")


async def test_failed_seed_line_gets_the_error_alone(wire: Wire) -> None:
    reply = await wire.ask('{"count": 0}')
    assert set(reply) == {"error"}
    assert reply["error"]["code"] == -32602
    assert reply["error"]["data"]["path"] == "params.count"


async def test_only_json_rpc_requesters_get_progress(lab: Lab) -> None:
    plain, seed, rpc = [await lab.wire() for _ in range(3)]
    assert "result" in await plain.ask('{"method":"session.start"}')
    assert "session_id" in await seed.ask("{}")
    session = await rpc.call("session.start")
    steps = [note["params"] for note in rpc.notes]
    assert all(note["method"] == "session.progress" for note in rpc.notes)
    assert {note["session_id"] for note in steps} == {session["session_id"]}
    assert {note["id"] for note in steps} == {1}
    assert [note["stage"] for note in steps][-3:] == ["create", "start", "verify"]
    for wire in (plain, seed):
        assert (await wire.ask('{"method":"system.ping","id":9}'))["id"] == 9


async def test_netcat_gets_exactly_one_line(lab: Lab, nc: str) -> None:
    out = await netcat(lab.address, '{"method":"system.status"}\n')
    assert out.count("\n") == 1
    assert json.loads(out)["result"]["sessions"]["running"] == 0


async def test_netcat_gets_the_seed_reply_though_its_input_has_ended(lab: Lab, nc: str) -> None:
    out = await netcat(lab.address, '{"count": 200, "plain_stream": false}\n')
    assert out.count("\n") == 1
    assert json.loads(out)["location"]["port"]


async def test_the_daemon_does_not_speak_first(wire: Wire, lab: Lab) -> None:
    silent = await lab.wire()
    await wire.ask('{"method":"session.start"}')
    silent.half_close()
    assert await silent.at_end()


async def test_half_close_answers_everything_pending_then_closes(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("start")
    wire.send('{"method":"session.start","id":1}', '{"method":"system.ping","id":2}')
    wire.half_close()
    assert (await wire.line())["id"] == 2
    await gate.reached.wait()
    gate.open.set()
    assert (await wire.line())["result"]["phase"] == "running"
    assert await wire.at_end()


async def test_half_a_line_is_answered_and_not_executed(lab: Lab, wire: Wire) -> None:
    wire.writer.write(b'{"method":"system.drain"}')
    wire.half_close()
    reply = await wire.line()
    assert reply["error"]["code"] == -32700
    assert await wire.at_end()
    status = await (await lab.wire()).call("system.status")
    assert status["draining"] is False


async def test_replies_come_as_they_are_ready_with_their_ids(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("start")
    start = wire.begin("session.start")
    await gate.reached.wait()
    assert (await wire.call("system.ping"))["pong"]
    gate.open.set()
    assert (await wire.reply(start))["phase"] == "running"
