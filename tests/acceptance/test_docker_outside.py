# SPDX-License-Identifier: MIT
"""What people do to a session's containers with the engine's own commands, on a real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
from daemon_lab import Json, Wire
from docker_lab import DockerDaemon, docker_served, viewer_at

pytestmark = pytest.mark.engine

ENDLESS: Json = {"count": 100_000, "env": {"probe": {"fps": 30}}}
STAGES = ("probe", "stream", "segmentation")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[DockerDaemon]:
    async with docker_served(tmp_path / "state") as daemon:
        yield daemon


async def ended(wire: Wire, session: Json) -> Json:
    found: Json = await wire.reply(wire.begin("session.wait", session_id=session["session_id"]), 60)
    return found


@pytest.mark.parametrize("stage", STAGES)
async def test_restarted_stage_fails_its_session_as_what_it_is(
    running: DockerDaemon, stage: str
) -> None:
    """F2: the stages share a namespace, and the restart of one breaks the streams of others."""
    wire = await running.wire()
    session = await wire.call("session.start", **ENDLESS)
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(5)
        became = {"restarted"}
        try:
            await asyncio.to_thread(running.engine.client.restart, session[stage], timeout=5)
        except docker.errors.APIError:
            # When the others end first, it cannot join their namespace again; or all is removed already.
            became.add("stopped")  # where the engine does not tell of the second start that failed
        found = await ended(wire, session)
    assert (found["outcome"], found["cause"]) == ("failed", "exit")
    assert found["reason"] in {f"the stage '{stage}' was {each} from outside" for each in became}
    assert await asyncio.to_thread(running.left) == []


async def test_stage_that_is_stopped_and_started_by_hand_was_restarted(
    running: DockerDaemon,
) -> None:
    """F2: two commands are the same as one."""
    wire = await running.wire()
    session = await wire.call("session.start", **ENDLESS)
    client = running.engine.client
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(30)  # the daemon needs a moment to learn since when each stage runs
    await asyncio.to_thread(client.stop, session["probe"], timeout=5)
    with contextlib.suppress(docker.errors.APIError):
        await asyncio.to_thread(client.start, session["probe"])
    assert (await ended(wire, session))["reason"] == "the stage 'probe' was restarted from outside"


@pytest.mark.parametrize("and_back", [False, True])
async def test_stage_that_is_disconnected_by_hand_has_ended(
    running: DockerDaemon, and_back: bool
) -> None:
    """F2: its location is gone with its endpoint, and a new endpoint has another port."""
    wire = await running.wire()
    session = await wire.call("session.start", **ENDLESS)
    client, stage = running.engine.client, session["segmentation"]
    await asyncio.to_thread(
        client.disconnect_container_from_network, stage, session["network"], force=True
    )
    if and_back:
        await asyncio.to_thread(client.connect_container_to_network, stage, session["network"])
    found = await ended(wire, session)
    reason = "the stage 'segmentation' was disconnected from its network from outside"
    assert found["reason"] == reason
    assert await asyncio.to_thread(running.left) == []


async def test_what_changes_nothing_of_a_stage_leaves_its_session_alone(
    running: DockerDaemon,
) -> None:
    """F2: pause and unpause, another name, other limits."""
    wire = await running.wire()
    session = await wire.call("session.start", **ENDLESS)
    client, reconciler_rounds = running.engine.client, 2

    def meddle() -> None:
        client.pause(session["stream"])
        client.unpause(session["stream"])
        client.rename(session["probe"], f"renamed-{session['session_id']}")
        client.update_container(session["segmentation"], cpu_shares=64)

    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(5)
        await asyncio.to_thread(meddle)
        await viewer.frames(
            30 * 5 * reconciler_rounds
        )  # for as long as all objects are compared twice
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"
