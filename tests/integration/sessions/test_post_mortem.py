# SPDX-License-Identifier: MIT
"""What is said of a session that has ended: to one who asks for it, and by the next daemon as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Json, Lab, StillClock, StreamingFake, Wire, in_process
from fake_engine import Program

from operatord.core.scheduling.learning import StageUse, Use
from operatord.engines.base import DiskFull
from operatord.machine.clock import rfc3339

MIB = 2**20
KEEP = {"on_shutdown": "keep"}
KEEP_AND_HURRY = {**KEEP, "shutdown_timeout": 0.05}


def report(frames: int) -> str:
    return json.dumps({"type": "report", "frames": frames}, separators=(",", ":"))


async def failed(wire: Wire, **params: Any) -> Json:
    """Fail to start a session, and ask for it."""
    refused = await wire.refusal("session.start", **params)
    return await wire.call("session.get", session_id=refused.data["session_id"])


async def broken(lab: Lab, wire: Wire, stage: str, code: int, *, oom: bool = False) -> Json:
    """Let a stage of a running session end."""
    session = await wire.call("session.start")
    lab.fake.world.end(lab.fake.stages()[stage], code, oom=oom)
    return await wire.call("session.wait", session_id=session["session_id"])


async def test_failed_start_names_the_stage_what_it_said_and_what_to_do(
    lab: Lab, wire: Wire
) -> None:
    words = tuple(("stderr", f"word {number}") for number in range(30))
    lab.fake.world.programs["demo-stream"] = Program(lines=words, exit_code=2)
    lab.fake.mute = True
    session = await failed(wire)
    told = session["post_mortem"]
    assert (session["cause"], told["stage"]) == ("exit", "stream")
    assert next(iter(told["log"])) == "stream", "the stage at fault comes first"
    assert told["log"]["stream"] == [f"word {number}" for number in range(10, 30)]
    assert "pipelines.segmented.stages.stream.env" in told["advice"]
    assert list(told["phases"]) == ["queued", "starting", "stopping", "ended"]
    assert told["phases"]["queued"] == session["created"]
    assert told["phases"]["ended"] == session["ended"]


async def test_stages_that_are_not_at_fault_say_ten_lines_and_their_newest_report(
    lab: Lab, wire: Wire
) -> None:
    session = await wire.call("session.start")
    stages = lab.fake.stages()
    for number in range(30):
        lab.fake.world.write(stages["probe"], f"word {number}", "stderr")
        lab.fake.world.write(stages["probe"], report(number))
    lab.fake.world.write(stages["probe"], '{"type":"listening","port":1}')
    lab.fake.world.end(stages["segmentation"], 4)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    log = ended["post_mortem"]["log"]
    assert log["probe"] == [*(f"word {number}" for number in range(21, 30)), report(29)]
    logs = await wire.call("session.logs", session_id=session["session_id"], stage="probe")
    assert len(logs["lines"]) == 61, "the logs themselves have all of it"


async def test_memory_that_ran_out_is_told_with_its_limit_and_the_peaks(
    lab: Lab, wire: Wire
) -> None:
    session = await wire.call("session.start")
    record = lab.daemon.supervisor.registry.get(session["session_id"])
    record.observed.usage["probe"] = StageUse(peak=Use(250, 95 * MIB))
    lab.fake.world.end(lab.fake.stages()["probe"], 137, oom=True)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    told = ended["post_mortem"]
    assert (ended["cause"], told["stage"]) == ("oom", "probe")
    assert "pipelines.segmented.stages.probe.memory_limit, now 96 MiB" in told["advice"]
    assert told["usage"] == {"probe": {"cpus": 0.25, "memory": 95 * MIB}}


async def test_session_that_did_its_work_is_told_of_without_fault_or_advice(
    lab: Lab, wire: Wire
) -> None:
    ended = await broken(lab, wire, "segmentation", 0)
    assert ended["outcome"] == "completed"
    assert ended["post_mortem"].keys() == {"phases", "usage", "log"}


async def test_only_who_asks_for_one_session_gets_it(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    sid = session["session_id"]
    assert "post_mortem" not in session
    assert "post_mortem" not in await wire.call("session.get", session_id=sid)
    stopped = await wire.call("session.stop", session_id=sid)
    assert "advice" not in stopped["post_mortem"], "it was stopped as somebody wanted"
    again = await wire.call("session.stop", session_id=sid)
    waited = await wire.call("session.wait", session_id=sid)
    assert stopped == again == waited == await wire.call("session.get", session_id=sid)
    [listed] = (await wire.call("session.list"))["sessions"]
    assert not {"post_mortem", "images"} & listed.keys()


async def test_stages_of_a_foreign_name_do_not_meet_it(lab: Lab, wire: Wire) -> None:
    """A member that is a string is a stage; this one is an object."""
    session = await broken(lab, wire, "probe", 1)
    assert isinstance(session["post_mortem"], dict)
    strings = {name for name, value in session.items() if isinstance(value, str)}
    assert {"probe", "stream", "segmentation"} < strings


@pytest.mark.parametrize(("operation", "step"), [
    ("create_network", "network"), ("create", "create"), ("start", "start"),
])  # fmt: skip
async def test_engine_without_room_on_its_disk(
    lab: Lab, wire: Wire, operation: str, step: str
) -> None:
    lab.fake.script.fail(operation, DiskFull("the engine's disk has no space left for it"))
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["dimension"]) == ("no_capacity", "disk")
    assert refused.data["step"] == step
    session = await wire.call("session.get", session_id=refused.data["session_id"])
    assert (session["outcome"], session["cause"]) == ("failed", "disk")
    assert "docker system df" in session["post_mortem"]["advice"]
    assert lab.fake.empty


# The next daemon


async def test_ended_session_is_told_of_by_the_next_daemon_as_by_the_last(tmp_path: Path) -> None:
    clock = StillClock()
    async with in_process(tmp_path / "s", KEEP, clock=clock) as first:
        wire = await first.wire()
        session = await wire.call("session.start", owner="ada")
        clock.advance(30)
        first.fake.world.write(first.fake.stages()["stream"], "that was that", "stderr")
        first.fake.world.end(first.fake.stages()["stream"], 4)
        ended = await wire.call("session.wait", session_id=session["session_id"])
        logs = await wire.call("session.logs", session_id=session["session_id"])
        listed = await wire.call("session.list", owner="ada", phase="ended")
    clock.advance(3600)
    async with in_process(tmp_path / "s", KEEP, clock=clock) as second:
        wire = await second.wire()
        sid = session["session_id"]
        assert await wire.call("session.get", session_id=sid) == ended
        assert await wire.call("session.wait", session_id=sid) == ended
        assert await wire.call("session.stop", session_id=sid) == ended
        assert await wire.call("session.logs", session_id=sid) == logs
        assert await wire.call("session.list", owner="ada", phase="ended") == listed
        assert (await wire.call("session.list", owner="eve"))["sessions"] == []
        assert (await wire.call("system.status"))["sessions"]["ended"] == 1
    assert ended["post_mortem"]["log"]["stream"] == ["that was that"]
    assert [line["line"] for line in logs["lines"]] == ["that was that"]


async def test_following_the_logs_of_what_ended_before_a_restart_is_answered_at_once(
    tmp_path: Path,
) -> None:
    async with in_process(tmp_path / "s", KEEP) as first:
        wire = await first.wire()
        session = await wire.call("session.start")
        first.fake.world.write(first.fake.stages()["probe"], "hello")
        await wire.call("session.stop", session_id=session["session_id"])
    async with in_process(tmp_path / "s", KEEP) as second:
        wire = await second.wire()
        logs = await wire.call("session.logs", session_id=session["session_id"], follow=True)
        assert [line["line"] for line in logs["lines"]] == ["hello"]
        assert "subscription" not in logs
        refused = await wire.refusal("session.stats", session_id=session["session_id"])
        assert refused.type == "conflict"


async def test_start_that_a_dead_daemon_had_not_finished_says_so(tmp_path: Path) -> None:
    clock, fake = StillClock(), StreamingFake()
    async with in_process(tmp_path / "s", KEEP_AND_HURRY, engine=fake, clock=clock) as first:
        gate = fake.script.hold("create")
        wire = await first.wire()
        session = await wire.call("session.start", wait="accepted")
        await gate.reached.wait()
        begun = clock.wall()
    again = StreamingFake(fake.world)
    async with in_process(tmp_path / "s", KEEP, engine=again, clock=clock) as second:
        wire = await second.wire()
        ended = await wire.call("session.wait", session_id=session["session_id"])
        assert (ended["outcome"], ended["cause"]) == ("failed", "restart")
        assert "its start was not finished" in ended["post_mortem"]["advice"]
        assert ended["post_mortem"]["phases"]["starting"] == rfc3339(begun)
        assert again.empty
    gate.open.set()
