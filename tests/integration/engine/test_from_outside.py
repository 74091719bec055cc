# SPDX-License-Identifier: MIT
"""Stages that somebody stops or restarts past the daemon: their session has ended, and is told why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, StillClock, Wire, in_process, until

from operatord.engines.base import Address, StageState
from operatord.monitors.exits import COMES_BACK

STAGES = ("probe", "stream", "segmentation")


async def ended(wire: Wire, session: Json) -> Json:
    found: Json = await wire.call("session.wait", session_id=session["session_id"])
    return found


async def learned(lab: Lab, session: Json) -> None:
    """Return once the daemon knows since when each stage runs."""
    record = lab.daemon.supervisor.registry.get(session["session_id"])
    await until(
        lambda: len(record.observed.runs) == len(record.provisioned.containers),
        "all were looked at",
    )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("code", [0, 137, 143])
@pytest.mark.parametrize("told", [True, False])
async def test_restarted_stage_has_ended_whoever_noticed(
    lab: Lab, wire: Wire, stage: str, code: int, told: bool
) -> None:
    """F2: by an event, or without one by the next comparison."""
    session = await wire.call("session.start")
    await learned(lab, session)
    lab.fake.world.restart(session[stage], code, told=told)
    if not told:
        await lab.daemon.reconciler.look()
    found = await ended(wire, session)
    assert (found["outcome"], found["cause"]) == ("failed", "exit")
    assert found["reason"] == f"the stage '{stage}' was restarted from outside"
    assert "engine's own commands" in found["post_mortem"]["advice"]
    assert lab.fake.empty


async def test_stage_that_was_restarted_before_anybody_looked_at_it_was_restarted(
    lab: Lab, wire: Wire
) -> None:
    """F2: on a busy machine the first look comes after the restart, and sees only a stage that runs."""
    session = await wire.call("session.start")
    await learned(lab, session)
    lab.daemon.supervisor.registry.get(session["session_id"]).observed.runs.clear()
    lab.fake.world.restart(session["probe"])
    lab.fake.world.end(session["stream"], 4)
    found = await ended(wire, session)
    assert found["reason"] == "the stage 'probe' was restarted from outside"


async def test_stage_that_ended_while_it_was_asked_about_was_not_restarted(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the answer that it runs comes after the event that it has ended."""
    session = await wire.call("session.start")
    await learned(lab, session)
    inspect, asked, answered = lab.fake.inspect, asyncio.Event(), asyncio.Event()

    async def inspect_late(container_id: str) -> StageState:
        state = await inspect(container_id)
        if (container_id, state.status) == (session["probe"], "running"):
            asked.set()
            await answered.wait()
        return state

    monkeypatch.setattr(lab.fake, "inspect", inspect_late)
    world, record = lab.fake.world, lab.daemon.supervisor.registry.get(session["session_id"])
    world.tell("started", world.containers[session["probe"]])
    await asked.wait()
    world.end(session["probe"])
    await until(lambda: session["probe"] in record.observed.ended, "its end was told")
    answered.set()
    for stage in STAGES[1:]:
        world.end(session[stage])
    assert (await ended(wire, session))["outcome"] == "completed"


async def test_stage_that_is_still_being_removed_when_its_end_is_told_has_not_been_restarted(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman says of one that it removes by force that it is being stopped, without its network already."""
    session = await wire.call("session.start")
    await learned(lab, session)
    world, inspect, asked = lab.fake.world, lab.fake.inspect, asyncio.Event()

    async def inspect_stopping(container_id: str) -> StageState:
        state = await inspect(container_id)
        if container_id != session["probe"] or state.status == "gone":
            return state
        asked.set()
        return StageState(id=state.id, status="running", began=state.began, stopping=True)

    monkeypatch.setattr(lab.fake, "inspect", inspect_stopping)
    world.end(session["probe"], 143)
    await asked.wait()
    del world.containers[session["probe"]]
    await lab.daemon.reconciler.look()
    found = await ended(wire, session)
    assert (found["outcome"], found["cause"]) == ("failed", "exit")
    assert "removed by somebody else" in found["reason"]


@pytest.mark.parametrize("port", [None, 4711])
async def test_stage_whose_port_is_gone_or_another_has_ended(
    lab: Lab, wire: Wire, port: int | None
) -> None:
    """F2: ``docker network disconnect``, and ``connect`` after it; the stage itself runs on."""
    session = await wire.call("session.start")
    await learned(lab, session)
    container = lab.fake.world.containers[session["segmentation"]]
    container.published = None if port is None else Address(host="127.0.0.1", port=port)
    await lab.daemon.reconciler.look()
    found = await ended(wire, session)
    assert (found["outcome"], found["cause"]) == ("failed", "exit")
    reason = "the stage 'segmentation' was disconnected from its network from outside"
    assert found["reason"] == reason
    assert "engine's own commands" in found["post_mortem"]["advice"]
    assert lab.fake.empty


@pytest.mark.parametrize("ip", [None, "192.0.2.9"])
@pytest.mark.parametrize("stage", ["probe", "segmentation"])
async def test_stage_whose_address_in_its_network_is_gone_or_another_has_ended(
    lab: Lab, wire: Wire, stage: str, ip: str | None
) -> None:
    """F2: the same, of a stage that has no port, or whose engine goes on publishing it."""
    session = await wire.call("session.start")
    await learned(lab, session)
    lab.fake.world.containers[session[stage]].ip = ip
    await lab.daemon.reconciler.look()
    found = await ended(wire, session)
    assert found["reason"] == f"the stage '{stage}' was disconnected from its network from outside"
    assert lab.fake.empty


async def test_restarted_stage_is_to_blame_for_those_it_takes_along(lab: Lab, wire: Wire) -> None:
    """F2: others are seen to have failed, earlier, and it does not run for long either."""
    session = await wire.call("session.start")
    await learned(lab, session)
    world = lab.fake.world
    world.end(session["stream"], 4)
    world.restart(session["segmentation"])
    world.end(session["segmentation"], 127)
    found = await ended(wire, session)
    assert found["reason"] == "the stage 'segmentation' was restarted from outside"


@pytest.mark.parametrize("then", ["comes back", "cannot come back", "stays"])
async def test_stopped_stage_has_a_moment_to_come_back(tmp_path: Path, then: str) -> None:
    """F2: between its end and its start nobody can tell a restart from a stop."""
    clock = StillClock()
    async with in_process(tmp_path / "s", clock=clock) as lab:
        wire = await lab.wire()
        session = await wire.call("session.start")
        await learned(lab, session)
        world, container = lab.fake.world, lab.fake.world.containers[session["segmentation"]]
        world.tell("stopped", container)
        world.end(container.id, 0)
        await until(lambda: bool(clock.timers_in(COMES_BACK)), "it is waited for")
        if then == "comes back":
            world.start(container)
        else:
            container.start_failed = then == "cannot come back"
            clock.advance(COMES_BACK)
        found = await ended(wire, session)
        how = "stopped" if then == "stays" else "restarted"
        assert (found["outcome"], found["cause"]) == ("failed", "exit")
        assert found["reason"] == f"the stage 'segmentation' was {how} from outside"


async def test_restart_while_events_were_missed_is_found_with_the_next_list(
    lab: Lab, wire: Wire
) -> None:
    """F2: however many stages there are, for all of them are looked at then."""
    sessions = [await wire.call("session.start") for _ in range(6)]
    for session in sessions:
        await learned(lab, session)
    for session in sessions:
        lab.fake.world.restart(session["probe"], told=False)
    lab.daemon.supervisor.exits.missed_events = True
    await lab.daemon.reconciler.look()
    for found in await asyncio.gather(*[ended(await lab.wire(), each) for each in sessions]):
        assert found["reason"] == "the stage 'probe' was restarted from outside"


async def test_each_stage_is_looked_at_now_and_then_though_no_event_tells(
    lab: Lab, wire: Wire
) -> None:
    """F2: an engine drops events without a word."""
    sessions = [await wire.call("session.start") for _ in range(6)]
    for session in sessions:
        await learned(lab, session)
    lab.fake.world.restart(sessions[-1]["segmentation"], told=False)
    for _ in range(3):
        await lab.daemon.reconciler.look()
    found = await ended(wire, sessions[-1])
    assert found["reason"] == "the stage 'segmentation' was restarted from outside"
    status = await wire.call("system.status")
    assert status["sessions"]["running"] == 5


async def test_engine_that_stops_its_containers_is_not_somebody(lab: Lab, wire: Wire) -> None:
    """F2: an engine that is stopped says of each container that it is being ended."""
    session = await wire.call("session.start")
    world, container = lab.fake.world, lab.fake.world.containers[session["stream"]]
    world.tell("stopped", container)
    await until(
        lambda: bool(lab.daemon.supervisor.registry.get(session["session_id"]).observed.by_others),
        "it is told",
    )
    world.lose()
    container.status, container.exit_code = "exited", 143
    world.come_back()
    found = await ended(wire, session)
    assert (found["outcome"], found["cause"]) == ("failed", "engine_lost")
