# SPDX-License-Identifier: MIT
"""Many clients, rude ones among them, on an engine that fails at random: all returns to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
from daemon_lab import Lab, Refused, in_process, until

from operatord.core.resources import NOTHING
from operatord.engines.base import EngineUnavailable, NotConnected, StageRefused, SubnetTaken

OPERATIONS = (
    "image_ids", "subnets_in_use", "create_network", "create", "start", "connect_stage",
    "attach_stdin", "inspect", "stop", "remove", "remove_network", "logs", "list_objects",
)  # fmt: skip


def spoil(lab: Lab, dice: random.Random) -> None:
    """Let one coming call to the engine go wrong."""
    operation = dice.choice(OPERATIONS)
    loses = ("create", "start", "connect_stage", "create_network", "remove", "stop")
    if operation in loses and dice.random() < 0.5:
        lab.fake.script.lose_answer(operation)
    elif operation in ("create", "start") and dice.random() < 0.5:
        lab.fake.script.fail(operation, StageRefused("no"))
    elif operation == "connect_stage" and dice.random() < 0.5:
        lab.fake.script.fail(operation, NotConnected("not late"))
    elif operation == "create_network" and dice.random() < 0.5:
        lab.fake.script.fail(operation, SubnetTaken("somebody was quicker"))
    else:
        lab.fake.script.fail(operation, EngineUnavailable("no"))


async def client(lab: Lab, dice: random.Random) -> None:
    """Do what clients do, well or badly."""
    wire = await lab.wire()
    lease = dice.choice(["pinned", "pinned", "connection", {"ttl": 0.05}])
    shortage = dice.choice(["queue", "queue", "refuse"])
    params = {"lease": lease, "on_shortage": shortage, "priority": dice.randint(-10, 10)}
    if dice.random() < 0.2:
        params["deadline"] = 0.02
    if dice.random() < 0.2:
        params["request_key"] = dice.choice("ab")
        params = {"request_key": params["request_key"]}
    if dice.random() < 0.3:
        spoil(lab, dice)
    request = wire.begin("session.start", **params)
    manner = dice.choice(["reset", "half", "cancel", "stop", "leave", "stage dies"])
    if manner == "reset":
        if dice.random() < 0.1:
            wire.begin("system.ping")
            await wire.line()  # the start's answer may be quicker
        return wire.reset()
    if manner == "half":
        wire.half_close()
    if manner == "cancel":
        with contextlib.suppress(Refused, AssertionError):
            await wire.cancel(request)
        return None
    with contextlib.suppress(Refused):
        session = await wire.reply(request)
        if manner == "stop":
            await wire.call("session.stop", session_id=session["session_id"])
        elif manner == "stage dies" and session["stream"] in lab.fake.world.containers:
            lab.fake.world.end(session["stream"], dice.choice([0, 1, 137]))
    return None


async def stop_whatever_runs(lab: Lab) -> None:
    """See to it that places become free: many of the clients leave their sessions alone."""
    wire, stopper = await lab.wire(), await lab.wire()
    await wire.call("events.subscribe", types=["session.running"])
    while True:
        event = await wire.note(timeout=60)
        stopper.begin("session.stop", session_id=event["session_id"])


@pytest.mark.parametrize("seed", range(6))
async def test_after_the_storm_nothing_is_left(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    limits = {"sessions": 5, "queue": 20}
    async with in_process(tmp_path / "s", {"limits": limits}) as lab:
        stopping = asyncio.create_task(stop_whatever_runs(lab))
        for _ in range(4):
            await asyncio.gather(*(client(lab, random.Random(dice.random())) for _ in range(25)))
        stopping.cancel()
        lab.fake.world.come_back()
        wire = await lab.wire()
        for session in (await wire.call("session.list"))["sessions"]:
            await wire.call("session.stop", session_id=session["session_id"])
        supervisor = lab.daemon.supervisor
        await until(lambda: not supervisor.transitions.tasks, "every session's task has ended")
        state = supervisor.admission.state
        assert (state.room.holdings, len(state.queue), state.room.used) == ({}, 0, NOTHING)
        assert supervisor._starter._networks._subnets.held == 0
        assert lab.fake.empty
        assert supervisor.leases._bounds == {}
        assert {s["phase"] for s in (await wire.call("session.list"))["sessions"]} == {"ended"}
        lab.fake.script._before.clear()  # what was to go wrong and has not yet
        lab.fake.script._after.clear()
        await until(lambda: supervisor.availability.problem is None, "the engine answers")
        assert (await wire.call("session.start", on_shortage="refuse"))["phase"] == "running"
