# SPDX-License-Identifier: MIT
"""Every step of a start fails in turn, and the engine comes and goes: nothing may be left of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import (
    IMAGES,
    Lab,
    Refused,
    StillClock,
    StreamingFake,
    Wire,
    in_process,
    subnets_held,
    until,
)  # fmt: skip
from fake_engine import Program

from operatord.engines.base import EngineError, EngineUnavailable, StageRefused, SubnetTaken
from operatord.session.record import SessionRecord


async def rolled_back(lab: Lab, wire: Wire) -> None:
    """Check that the engine is empty, the place free, and the next start works."""
    assert lab.fake.empty
    status = await wire.call("system.status")
    assert status["reserved"]["sessions"] == 0
    session = await wire.call("session.start", on_shortage="refuse")
    await wire.call("session.stop", session_id=session["session_id"])
    assert lab.fake.empty


STEPS = [
    ("image_ids", "images"),
    ("subnets_in_use", "network"),
    ("create_network", "network"),
    ("create", "create"),
    ("start", "start"),
    ("connect_stage", "start"),
    ("attach_stdin", "start"),
    ("inspect", "start"),
]


@pytest.mark.parametrize(("operation", "step"), STEPS)
async def test_engine_that_stops_answering_in_a_step(
    lab: Lab, wire: Wire, operation: str, step: str
) -> None:
    lab.fake.script.fail(operation, EngineUnavailable("a socket of the engine is /run/x"))
    refused = await wire.refusal("session.start")
    assert refused.type == "engine_unavailable"
    assert refused.data["retryable"] is True
    assert refused.data["step"] == step
    assert "/run/x" not in str(refused)
    [session] = (await wire.call("session.list"))["sessions"]
    assert (session["outcome"], session["cause"]) == ("failed", "engine_lost")
    await rolled_back(lab, wire)


@pytest.mark.parametrize("operation", ["create_network", "create", "start", "connect_stage"])
async def test_call_whose_answer_is_lost_leaves_nothing(
    lab: Lab, wire: Wire, operation: str
) -> None:
    lab.fake.script.lose_answer(operation)
    assert (await wire.refusal("session.start")).type == "engine_unavailable"
    await rolled_back(lab, wire)


@pytest.mark.parametrize("which", [1, 2, 3])
@pytest.mark.parametrize("operation", ["create", "start"])
async def test_stage_that_the_engine_refuses(
    lab: Lab, wire: Wire, operation: str, which: int
) -> None:
    gates = [lab.fake.script.hold(operation) for _ in range(which - 1)]
    lab.fake.script.fail(operation, StageRefused("the engine will not have it"))
    for gate in gates:
        gate.open.set()
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["step"]) == ("start_failed", operation)
    assert refused.data["stage"] in ("probe", "stream", "segmentation")
    await rolled_back(lab, wire)


async def test_missing_image_is_named_before_anything_is_made(lab: Lab, wire: Wire) -> None:
    del lab.fake.world.programs["demo-segmentation"]
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["image"]) == ("image_missing", "demo-segmentation")
    assert "create_network" not in [call for call, _ in lab.fake.script.calls]
    session = await wire.call("session.start", plain_stream=True)
    assert session["phase"] == "running", "what does not need the image goes on"


async def test_image_that_vanishes_after_it_was_looked_for(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("create")
    start = wire.begin("session.start")
    await gate.reached.wait()
    program = lab.fake.world.programs.pop("demo-segmentation")
    gate.open.set()
    with pytest.raises(Exception, match="image_missing"):
        await wire.reply(start)
    lab.fake.world.programs["demo-segmentation"] = program
    await rolled_back(lab, wire)


@pytest.mark.parametrize(
    ("stage", "code"), [("probe", 3), ("stream", 3), ("segmentation", 3), ("segmentation", 0)]
)
async def test_stage_that_ends_at_once_fails_the_start_with_its_last_words(
    lab: Lab, wire: Wire, stage: str, code: int
) -> None:
    waits, words = ("stdout", '{"type":"waiting"}'), ("stdout", "one")
    program = Program(lines=(waits, words, ("stderr", "cannot open /dev/x")), exit_code=code)
    before = dict(lab.fake.world.programs)
    lab.fake.world.programs[f"demo-{stage}"] = program
    lab.fake.mute = True  # as the other stages would be, without this one
    refused = await wire.refusal("session.start")
    assert refused.type == "start_failed"
    assert refused.data["stage"] == stage
    assert refused.data["log"] == ["one", "cannot open /dev/x"]
    [session] = (await wire.call("session.list"))["sessions"]
    assert (session["outcome"], session["cause"]) == ("failed", "exit")
    lab.fake.world.programs, lab.fake.mute = before, False
    await rolled_back(lab, wire)


async def test_stream_that_never_comes_times_out(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"start_timeout": 0.2}) as lab:
        lab.fake.mute = True
        wire = await lab.wire()
        refused = await wire.refusal("session.start")
        assert (refused.type, refused.data["step"]) == ("start_failed", "verify")
        assert refused.data["stage"] == "segmentation"
        [session] = (await wire.call("session.list"))["sessions"]
        assert session["cause"] == "start_timeout"
        lab.fake.mute = False
        await rolled_back(lab, wire)


async def test_start_that_somebody_has_paused_does_not_blame_another_stage(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"start_timeout": 0.2}) as lab:
        lab.fake.mute = True
        gate = lab.fake.script.hold("inspect")
        wire = await lab.wire()
        start = wire.begin("session.start", count=5)
        await gate.reached.wait()
        [probe] = [c for c in lab.fake.world.containers.values() if c.plan.stage == "probe"]
        lab.fake.world.pause(probe.id)
        gate.open.set()
        with pytest.raises(Refused) as refused:
            await wire.reply(start)
        assert "the stage 'probe' was paused from outside" in refused.value.message
        lab.fake.mute = False
        await rolled_back(lab, wire)


@pytest.mark.parametrize(
    "said", [b"220 ftp ready\n", b'{"type":"end","frames":0}\n', b"x" * 70_000]
)
async def test_stage_that_speaks_something_else_fails_the_start(
    lab: Lab, wire: Wire, said: bytes
) -> None:
    lab.fake.HELLO, hello = said, lab.fake.HELLO
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["step"]) == ("start_failed", "verify")
    lab.fake.HELLO = hello
    await rolled_back(lab, wire)


async def test_taken_subnet_is_passed_over(lab: Lab, wire: Wire) -> None:
    for _ in range(3):
        lab.fake.script.fail("create_network", SubnetTaken("somebody was quicker"))
    session = await wire.call("session.start")
    assert session["phase"] == "running"
    [network] = lab.fake.world.networks.values()
    assert network.subnet == "198.18.0.48/28"
    assert subnets_held(lab) == 1, "the others are nobody's, as soon as they are free"


async def test_foreign_networks_are_never_asked_for(lab: Lab, wire: Wire) -> None:
    lab.fake.world.foreign_subnets += ["198.18.0.0/24", "198.18.1.16/30"]
    await wire.call("session.start")
    await wire.call("session.start")
    subnets = [network.subnet for network in lab.fake.world.networks.values()]
    assert subnets == ["198.18.1.0/28", "198.18.1.32/28"]


async def test_ports_that_are_all_taken_are_a_lack_of_room(tmp_path: Path) -> None:
    overlay = {"ports": "20000-20001", "limits": {"sessions": 2}}
    async with in_process(tmp_path / "s", overlay) as lab:
        wire = await lab.wire()
        lab.fake.world.foreign_ports |= {20000, 20001}
        refused = await wire.refusal("session.start")
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "ports")
        lab.fake.world.foreign_ports.clear()
        await rolled_back(lab, wire)


async def test_stage_that_completed_while_the_engine_was_away_has_completed(
    lab: Lab, wire: Wire
) -> None:
    session = await wire.call("session.start", plain_stream=True)
    lab.fake.world.lose()
    for container in lab.fake.world.containers.values():
        container.status, container.exit_code = "exited", 0
    lab.fake.world.come_back()
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("completed", "done")


async def test_daemon_stops_in_time_though_its_engine_is_gone(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"shutdown_timeout": 0.2}) as lab:
        wire = await lab.wire()
        await wire.call("session.start")
        start = wire.begin("session.start")
        lab.fake.world.lose()
        await lab.daemon.stop()
        with pytest.raises((Refused, AssertionError)):
            await wire.reply(start)


async def test_exhausted_subnets_are_a_lack_of_room(lab: Lab, wire: Wire) -> None:
    lab.fake.world.foreign_subnets.append("198.18.0.0/15")
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["dimension"]) == ("no_capacity", "subnets")
    lab.fake.world.foreign_subnets.clear()
    await rolled_back(lab, wire)


async def test_removal_is_retried_until_the_engine_is_back(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    gate = lab.fake.script.hold("remove")
    stop = wire.begin("session.stop", session_id=session["session_id"])
    await gate.reached.wait()
    lab.fake.world.lose()
    gate.open.set()
    other = await lab.wire()
    await until(lambda: lab.daemon.supervisor.availability.problem is not None, "it is noticed")
    found = await other.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "stopping"
    lab.fake.world.come_back()
    assert (await wire.reply(stop))["outcome"] == "stopped"
    assert lab.fake.empty


async def test_removal_that_breaks_is_retried_as_well(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of the daemon: the session would keep its place for ever."""
    session = await wire.call("session.start")
    starter = lab.daemon.supervisor._starter
    remove = starter.remove

    async def breaks(record: SessionRecord) -> None:
        monkeypatch.setattr(starter, "remove", remove)
        raise KeyError(record.id)

    monkeypatch.setattr(starter, "remove", breaks)
    stopped = await wire.call("session.stop", session_id=session["session_id"])
    assert (stopped["phase"], stopped["outcome"]) == ("ended", "stopped")
    assert "removal broke" in caplog.text
    await rolled_back(lab, wire)


async def test_engine_lost_in_the_middle_of_a_start(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"engine_patience": 1}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        gate = lab.fake.script.hold("create")
        start = wire.begin("session.start")
        await gate.reached.wait()
        lab.fake.world.lose()
        gate.open.set()
        await until(lambda: lab.daemon.supervisor.availability.problem is not None, "it is noticed")
        assert (await other.refusal("session.start")).type == "engine_unavailable"
        with pytest.raises(Exception, match="engine_unavailable"):
            await wire.reply(start)  # long before anything can be removed
        lab.fake.world.come_back()
        await until(lambda: lab.daemon.supervisor.availability.problem is None, "it is back")
        await until(lambda: not lab.daemon.supervisor.registry.living(), "what was made is removed")
        await rolled_back(lab, wire)


async def test_running_session_survives_an_engine_that_was_away(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    await wire.call("events.subscribe", types=["engine.lost", "engine.back"])
    lab.fake.world.lose()
    await wire.event("engine.lost")
    status = await wire.call("system.status")
    assert status["engine"]["state"] == "unavailable"
    assert (await wire.call("session.plan"))["decision"] == "refuse"
    lab.fake.world.come_back()
    await wire.event("engine.back")
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"


async def test_end_that_was_not_announced_is_found_by_a_relist(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    lab.fake.world.lose()
    container = lab.fake.world.containers[session["stream"]]
    container.status, container.exit_code = "exited", 255  # it died with the engine
    lab.fake.world.come_back()
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "engine_lost")
    assert ended["exit_codes"]["stream"] == 255


async def test_daemon_starts_without_its_engine_and_finds_it_later(tmp_path: Path) -> None:
    engine = StreamingFake()
    engine.world.lose()
    async with in_process(tmp_path / "s", engine=engine) as lab:
        wire = await lab.wire()
        refused = await wire.refusal("session.start")
        assert (refused.type, refused.data["retryable"]) == ("engine_unavailable", True)
        assert (await wire.call("system.ping"))["pong"]
        await wire.call("events.subscribe")
        engine.world.come_back()
        await wire.event("engine.back")
        await rolled_back(lab, wire)


async def test_what_an_earlier_life_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    from operatord.engines import base

    engine = StreamingFake()
    for instance in ("test", "another"):
        labels = {base.LABEL_INSTANCE: instance, base.LABEL_SESSION: "0" * 16}
        plan = base.NetworkPlan(name=f"n-{instance}", subnet="192.0.2.0/28", labels=labels)
        if instance == "another":
            plan = base.NetworkPlan(name="n-another", subnet="192.0.2.16/28", labels=labels)
        network = await engine.create_network(plan)
        stage = base.StagePlan(
            name=f"c-{instance}", stage="probe", image=IMAGES[0], network=network, env={},
            labels=labels, port=1,
        )  # fmt: skip
        await engine.start(made := await engine.create(stage))
        engine.world.end(made)
    clock = StillClock()
    async with in_process(tmp_path / "s", engine=engine, clock=clock) as lab:
        await lab.daemon.reconciler.look()
        clock.advance(9)
        await lab.daemon.reconciler.look()
        assert len(engine.world.containers) == 2, "it may be somebody's who is about to say so"
        clock.advance(2)
        await lab.daemon.reconciler.look()
        assert [plan.name for plan in engine.world.networks.values()] == ["n-another"]
        assert [c.plan.name for c in engine.world.containers.values()] == ["c-another"]


async def test_engine_error_texts_are_sentences(lab: Lab, wire: Wire) -> None:
    class Odd(EngineError):
        pass

    lab.fake.script.fail("create", Odd("it cannot be made"))
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.message) == ("start_failed", "it cannot be made")


async def test_defect_of_the_daemon_is_an_internal_error_and_rolled_back(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(record: object) -> None:
        raise KeyError("/etc/secret")

    monkeypatch.setattr(lab.daemon.supervisor._starter, "_start", broken)
    monkeypatch.setattr(lab.daemon.supervisor._starter._maker, "create", broken)
    refused = await wire.refusal("session.start")
    assert refused.code == -32603
    assert "secret" not in str(refused)
    monkeypatch.undo()
    await rolled_back(lab, wire)
