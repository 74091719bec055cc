# SPDX-License-Identifier: MIT
"""The life of a session, as whoever asked for it sees it."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import PATIENCE, Lab, Wire, in_process, until

from operatord.engines.base import StageState
from operatord.monitors.exits import LOOKS

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def test_session_says_all_that_the_protocol_promises(wire: Wire) -> None:
    session = await wire.call("session.start", owner="ward 3")
    assert session["pipeline"] == "segmented"
    assert session["owner"] == "ward 3"
    assert (session["warm"], session["degraded"]) == (False, False)
    assert TIME.fullmatch(session["created"])
    assert TIME.fullmatch(session["started"])
    assert {"network", "create", "start", "verify", "total"} <= set(session["timings"])
    assert "outcome" not in session
    ended = await wire.call("session.stop", session_id=session["session_id"])
    assert (ended["phase"], ended["outcome"], ended["cause"]) == ("ended", "stopped", "client")
    assert ended["reason"]
    assert set(ended["exit_codes"]) == {"probe", "stream", "segmentation"}
    assert TIME.fullmatch(ended["ended"])


async def test_stop_answers_when_everything_is_gone(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    gate = lab.fake.script.hold("remove_network")
    stop = wire.begin("session.stop", session_id=session["session_id"])
    await gate.reached.wait()
    found = await (await lab.wire()).call("session.get", session_id=session["session_id"])
    assert found["phase"] == "stopping"
    gate.open.set()
    assert (await wire.reply(stop))["phase"] == "ended"
    assert lab.fake.empty


async def test_end_is_written_down_before_any_stage_is_stopped(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next daemon would find a session that runs, without its stages, and say that it failed."""
    session = await wire.call("session.start")
    await lab.daemon.supervisor.settled()
    writes, go_on = threading.Event(), threading.Event()

    def take_long(name: str) -> None:
        writes.set()
        assert go_on.wait(PATIENCE)

    monkeypatch.setattr("operatord.store.journal.hit", take_long)
    lab.fake.script.calls.clear()
    stop = wire.begin("session.stop", session_id=session["session_id"])
    await asyncio.to_thread(writes.wait, PATIENCE)
    await (await lab.wire()).call("system.ping")
    assert not {"stop", "remove"} & {call for call, _ in lab.fake.script.calls}
    go_on.set()
    assert (await wire.reply(stop))["outcome"] == "stopped"


async def test_location_is_there_until_the_session_has_ended(lab: Lab, wire: Wire) -> None:
    """From then on the address delivers nothing, or another session's stream."""
    session = await wire.call("session.start")
    asked = {"session_id": session["session_id"]}
    gate = lab.fake.script.hold("remove_network")
    stop = wire.begin("session.stop", **asked)
    await gate.reached.wait()
    other = await lab.wire()
    assert (await other.call("session.get", **asked))["location"] == session["location"]
    gate.open.set()
    assert "location" not in await wire.reply(stop)
    assert "location" not in await wire.call("session.get", **asked)
    (listed,) = (await wire.call("session.list", phase="ended"))["sessions"]
    assert "location" not in listed


async def test_stopping_twice_returns_the_same_session(wire: Wire) -> None:
    session = await wire.call("session.start")
    first = await wire.call("session.stop", session_id=session["session_id"])
    assert await wire.call("session.stop", session_id=session["session_id"]) == first


async def test_stop_while_it_starts(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("create")
    start = wire.begin("session.start")
    await gate.reached.wait()
    other = await lab.wire()
    [session] = (await other.call("session.list", phase="starting"))["sessions"]
    stop = other.begin("session.stop", session_id=session["session_id"])
    gate.open.set()
    assert (await other.reply(stop))["outcome"] == "stopped"
    with pytest.raises(Exception, match="cancelled"):
        await wire.reply(start)
    assert lab.fake.empty


async def test_stop_while_it_waits_for_the_stream(lab: Lab, wire: Wire) -> None:
    lab.fake.mute = True
    start = wire.begin("session.start")
    await wire.note(lambda note: note["stage"] == "verify")
    other = await lab.wire()
    [session] = (await other.call("session.list"))["sessions"]
    assert (await other.call("session.stop", session_id=session["session_id"]))["phase"] == "ended"
    with pytest.raises(Exception, match="cancelled"):
        await wire.reply(start)
    assert lab.fake.empty


async def test_accepted_start_is_answered_at_once_and_can_be_waited_for(
    lab: Lab, wire: Wire
) -> None:
    gate = lab.fake.script.hold("create_network")
    session = await wire.call("session.start", wait="accepted")
    assert session["phase"] == "starting"
    assert "location" not in session
    wait = wire.begin("session.wait", session_id=session["session_id"], phase="running")
    await gate.reached.wait()
    gate.open.set()
    assert (await wire.reply(wait))["location"]["port"]


async def test_wait_ends_with_the_session_or_its_timeout(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    sid = session["session_id"]
    assert (await wire.call("session.wait", session_id=sid, phase="queued"))["phase"] == "running"
    assert (await wire.call("session.wait", session_id=sid, phase="running", timeout=0))["location"]
    refused = await wire.refusal("session.wait", session_id=sid, timeout=0)
    assert (refused.type, refused.data["phase"]) == ("deadline_exceeded", "running")
    wait = wire.begin("session.wait", session_id=sid)
    await (await lab.wire()).call("session.stop", session_id=sid)
    assert (await wire.reply(wait))["outcome"] == "stopped"


async def test_session_completes_when_its_last_stage_has_delivered_all(
    lab: Lab, wire: Wire
) -> None:
    session = await wire.call("session.start")
    lab.fake.world.write(session["segmentation"], '{"type":"report","frames":200,"dropped":0}')
    for stage in ("probe", "stream", "segmentation"):
        lab.fake.world.end(session[stage], 0)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"], ended["frames"]) == ("completed", "done", 200)
    assert ended["exit_codes"] == {"probe": 0, "stream": 0, "segmentation": 0}
    assert lab.fake.empty


@pytest.mark.parametrize(
    ("code", "oom", "cause"), [(1, False, "exit"), (137, False, "exit"), (137, True, "oom")]
)
async def test_session_fails_with_its_stage(
    lab: Lab, wire: Wire, code: int, oom: bool, cause: str
) -> None:
    session = await wire.call("session.start")
    lab.fake.world.end(session["stream"], code, oom=oom)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", cause)
    assert "stream" in ended["reason"]
    assert ended["exit_codes"]["stream"] == code


async def test_reason_that_comes_after_the_end_still_counts(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    world, stream = lab.fake.world, session["stream"]
    world.end(stream, 137)
    world.tell("oom", world.containers[stream])
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "oom")


async def test_busy_engine_gets_its_time_to_learn_of_the_stage_that_is_to_blame(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: a stage says that its upstream broke off, which the engine learns a second later."""
    session = await wire.call("session.start")
    world, inspect = lab.fake.world, lab.fake.inspect
    stream, asked = world.containers[session["stream"]], 0

    async def learns_late(container_id: str) -> StageState:
        nonlocal asked
        asked += container_id == session["stream"]
        if asked == LOOKS - 1 and stream.status == "running":
            stream.status, stream.exit_code, stream.oom, stream.ended = "exited", 137, True, 1.0
        return await inspect(container_id)

    monkeypatch.setattr(lab.fake, "inspect", learns_late)
    world.end(session["segmentation"], 4)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "oom")
    assert "'stream'" in ended["reason"]


async def test_stage_that_took_others_with_it_is_to_blame_though_they_are_noticed_first(
    lab: Lab, wire: Wire
) -> None:
    session = await wire.call("session.start")
    world = lab.fake.world
    listeners, world.listeners = world.listeners, {}
    world.end(session["stream"], 137, oom=True)
    world.listeners = listeners
    world.end(session["segmentation"], 4)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "oom")
    assert "'stream'" in ended["reason"]


async def test_session_fails_when_somebody_removes_a_container(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    lab.fake.world.vanish(session["probe"])
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "exit")
    assert lab.fake.empty


async def test_list_filters_and_has_the_newest_first(wire: Wire) -> None:
    ids = [(await wire.call("session.start", owner=o))["session_id"] for o in ("a", "b", "a")]
    await wire.call("session.stop", session_id=ids[0])

    async def listed(**params: object) -> list[str]:
        found = await wire.call("session.list", **params)
        return [session["session_id"] for session in found["sessions"]]

    assert await listed() == ids[::-1]
    assert await listed(owner="a") == [ids[2], ids[0]]
    assert await listed(phase="running") == [ids[2], ids[1]]
    assert await listed(phase="ended", owner="b") == []
    assert await listed(limit=1) == [ids[2]]


async def test_plan_tells_and_creates_nothing(lab: Lab, wire: Wire) -> None:
    planned = await wire.call("session.plan", plain_stream=True)
    assert planned["decision"] == "start"
    assert planned["explanation"]["stages"] == {"probe": "demo-probe", "stream": "demo-stream"}
    assert (await wire.refusal("session.plan", count=0)).code == -32602
    assert (await wire.call("session.list")) == {"sessions": []}
    assert lab.fake.empty


async def test_same_request_key_is_the_same_session(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("create_network")
    first = wire.begin("session.start", request_key="k", count=5)
    await gate.reached.wait()
    other = await lab.wire()
    second = other.begin("session.start", request_key="k", count=5)
    await (await lab.wire()).call("system.ping")
    gate.open.set()
    a, b = await wire.reply(first), await other.reply(second)
    assert a["session_id"] == b["session_id"]
    assert ("joined" in a, b["joined"]) == (False, True)
    again = await wire.call("session.start", request_key="k", count=5)
    assert (again["session_id"], again["joined"]) == (a["session_id"], True)
    (listed,) = (await wire.call("session.list"))["sessions"]
    assert "joined" not in listed


async def test_request_that_is_repeated_after_the_end_is_told_no_dead_location(wire: Wire) -> None:
    first = await wire.call("session.start", request_key="k")
    await wire.call("session.stop", session_id=first["session_id"])
    wire.notes.clear()
    again = await wire.call("session.start", request_key="k")
    assert (again["session_id"], again["joined"]) == (first["session_id"], True)
    assert (again["phase"], "location" in again) == ("ended", False)
    assert not wire.notes, "it waits in no queue"


async def test_request_key_of_another_owner_is_another_request(wire: Wire) -> None:
    first = await wire.call("session.start", request_key="k", owner="a")
    second = await wire.call("session.start", request_key="k", owner="b")
    assert first["session_id"] != second["session_id"]


async def test_request_key_for_another_request_is_a_conflict(wire: Wire) -> None:
    session = await wire.call("session.start", request_key="k", count=5)
    refused = await wire.refusal("session.start", request_key="k", count=6)
    assert (refused.type, refused.data["session_id"]) == ("conflict", session["session_id"])
    assert "another `count`;" in refused.message


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({}, {"plain_stream": False, "lease": "pinned", "env": {}, "priority": 0}),
        ({"plain_stream": True}, {"pipeline": "stream", "owner": "local"}),
        ({"env": {"probe": {"fps": 5}}}, {"env": {"probe": {"fps": "5"}, "stream": {}}}),
    ],
)
async def test_same_request_may_be_written_differently_and_be_waited_for_differently(
    wire: Wire, first: dict[str, Any], again: dict[str, Any]
) -> None:
    session = await wire.call("session.start", request_key="k", wait="accepted", **first)
    found = await wire.call("session.start", request_key="k", **again)
    assert (found["session_id"], found["phase"]) == (session["session_id"], "running")


async def test_request_that_leaves_the_count_out_means_the_default(wire: Wire) -> None:
    session = await wire.call("session.start", request_key="k")
    again = await wire.call("session.start", request_key="k", count=session["count"])
    assert again["session_id"] == session["session_id"]


async def test_request_key_is_free_again_when_its_start_failed(lab: Lab, wire: Wire) -> None:
    from operatord.engines.base import StageRefused

    lab.fake.script.fail("start", StageRefused("not today"))
    assert (await wire.refusal("session.start", request_key="k")).type == "start_failed"
    assert (await wire.call("session.start", request_key="k"))["phase"] == "running"


async def test_cancel_rolls_a_start_back(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("start")
    start = wire.begin("session.start")
    await gate.reached.wait()
    gate.open.set()
    assert (await wire.cancel(start)).type == "cancelled"
    [session] = (await wire.call("session.list"))["sessions"]
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("stopped", "client")
    assert lab.fake.empty


async def test_cancel_rolls_a_start_back_that_was_not_answered_as_accepted(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: whoever is told that it was cancelled does not know of the session."""
    disk = asyncio.Event()
    written = lab.daemon.supervisor.written

    async def slowly() -> None:
        await disk.wait()
        await written()

    monkeypatch.setattr(lab.daemon.supervisor, "written", slowly)
    start = wire.begin("session.start", wait="accepted")
    await until(
        lambda: len(lab.daemon.supervisor.registry.living()) == 1, "it is being written down"
    )
    assert (await wire.cancel(start)).type == "cancelled"
    disk.set()
    [session] = (await wire.call("session.list"))["sessions"]
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("stopped", "client")
    assert lab.fake.empty


@pytest.mark.parametrize("gone", ["cancelled", "left"])
async def test_start_that_somebody_was_told_of_outlives_who_waits_for_it(
    tmp_path: Path, gone: str
) -> None:
    async with in_process(tmp_path / "s", {"limits": {"sessions": 1}}) as lab:
        holder, waiting, told = [await lab.wire() for _ in range(3)]
        holding = await holder.call("session.start")
        start = waiting.begin("session.start", request_key="k")
        await waiting.note(lambda note: note.get("position") == 1)
        session = await told.call("session.start", request_key="k", wait="accepted")
        if gone == "cancelled":
            assert (await waiting.cancel(start)).type == "cancelled"
        else:
            waiting.reset()
            await until(lambda: lab.daemon.server.connections == 2, "the reset has arrived")
        await holder.call("session.stop", session_id=holding["session_id"])
        ready = await told.call("session.wait", session_id=session["session_id"], phase="running")
        assert ready["phase"] == "running"


async def test_cancel_knows_only_pending_requests_of_its_connection(lab: Lab, wire: Wire) -> None:
    assert (await wire.refusal("request.cancel", id=12345)).type == "not_found"
    session = await wire.call("session.start")
    wait = wire.begin("session.wait", session_id=session["session_id"])
    other = await lab.wire()
    assert (await other.refusal("request.cancel", id=wait)).type == "not_found"
    assert (await wire.cancel(wait)).type == "cancelled"
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running", "taking back a question does not stop the session"


async def test_start_that_two_requests_wait_for_outlives_one_of_them(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"sessions": 1}}) as lab:
        holder, first, second = [await lab.wire() for _ in range(3)]
        holding = await holder.call("session.start")
        first.begin("session.start", request_key="k")
        await first.note(lambda note: note.get("position") == 1)
        again = second.begin("session.start", request_key="k")
        await second.note(lambda note: note.get("position") == 1)
        first.reset()  # a connection that broke, noticed after its client has come back
        await until(lambda: lab.daemon.server.connections == 2, "the reset has arrived")
        await holder.call("session.stop", session_id=holding["session_id"])
        assert (await second.reply(again))["phase"] == "running"
