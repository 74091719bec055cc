# SPDX-License-Identifier: MIT
"""Two ways to start: stages that know how to wait run before their network is there, others only then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_lab import Lab, Refused, StreamingFake, Wire, in_process, relays_to

from operatord.engines.base import (
    Capabilities,
    EngineUnavailable,
    Network,
    NetworkPlan,
    NotConnected,
    StageRefused,
)

STAGES = {"probe", "stream", "segmentation"}
MADE = ("create_network", "create", "start", "connect_stage")


def made(lab: Lab) -> list[str]:
    """Return what the engine was asked to make, in order."""
    return [call for call, _ in lab.fake.script.calls if call in MADE]


def late_binding(lab: Lab) -> set[str]:
    return {c.plan.stage for c in lab.fake.world.containers.values() if c.said}


def bound(late_bind: str, *, network: str = "shared") -> dict[str, Any]:
    """Return the settings of the shipped pipeline, with all stages bound in a certain way."""
    ports = {"probe": 12345, "stream": 12346, "segmentation": 12347}
    stages = {
        name: {"image": f"demo-{name}", "port": port, "late_bind": late_bind}
        for name, port in ports.items()
    }
    return {"pipelines": {"segmented": {"network": network, "stages": stages}}}


async def test_stages_that_can_wait_run_before_there_is_a_network(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("create_network")
    start = wire.begin("session.start", count=5)
    await gate.reached.wait()
    await wire.note(lambda note: note["stage"] == "network")
    [owner] = [c for c in lab.fake.world.containers.values() if c.plan.connect_later]
    assert owner.plan.stage == "segmentation"
    assert not lab.fake.world.networks
    gate.open.set()
    session = await wire.reply(start)
    assert session["phase"] == "running"
    assert made(lab)[-1] != "create_network"
    assert late_binding(lab) == STAGES
    said = json.loads(lab.fake.world.containers[session["probe"]].said)
    assert said["env"]["count"] == "5"
    inspected = lab.fake.world.containers[session["probe"]].plan.env
    assert (inspected["count"], inspected["OPERATORD_LATE_BIND"]) == ("5", "1")
    assert list(session["timings"])[:5] == [
        "probe",
        "images",
        "turn",
        "network.segmentation",
        "network",
    ]
    assert session["warm"] is False


@pytest.mark.parametrize("way", ["shim", "off"])
async def test_others_are_started_with_all_that_they_need(tmp_path: Path, way: str) -> None:
    async with in_process(tmp_path / "s", bound(way)) as lab:
        await (await lab.wire()).call("session.start")
        assert "connect_stage" not in made(lab)
        assert late_binding(lab) == set()
        envs = [c.plan.env for c in lab.fake.world.containers.values()]
        assert all(env["probe_ip"] for env in envs)


async def test_stages_with_a_namespace_each_are_started_in_order(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", bound("native", network="separate")) as lab:
        await (await lab.wire()).call("session.start")
        assert made(lab) == ["create_network", *["create"] * 3, *["start"] * 3]
        assert late_binding(lab) == set()


@pytest.fixture
def ordinary(lab: Lab) -> Lab:
    """An engine that connects nothing late."""
    lab.fake.assume(Capabilities(joins_by_name=True))
    return lab


async def test_engine_that_connects_nothing_late_is_asked_for_the_ordinary(
    ordinary: Lab, wire: Wire
) -> None:
    await wire.call("session.start")
    assert "connect_stage" not in made(ordinary)
    assert late_binding(ordinary) == set()


ORDINARY_STEPS = {"create_network": "network", "create": "create", "start": "start"}


@pytest.mark.parametrize(("operation", "step"), ORDINARY_STEPS.items())
async def test_ordinary_start_that_fails_leaves_nothing_either(
    ordinary: Lab, wire: Wire, operation: str, step: str
) -> None:
    for spoil in (ordinary.fake.script.fail, ordinary.fake.script.lose_answer):
        spoil(operation, EngineUnavailable("gone"))
        refused = await wire.refusal("session.start")
        assert (refused.type, refused.data["step"]) == ("engine_unavailable", step)
        await wire.call("session.wait", session_id=refused.data["session_id"])
        assert ordinary.fake.empty


HINDRANCES = {
    "connect_stage": NotConnected("a port is taken"),
    "attach_stdin": StageRefused("the connection is encrypted"),
}


@pytest.mark.parametrize("operation", HINDRANCES)
async def test_what_cannot_be_told_or_connected_late_is_started_anew(
    lab: Lab, wire: Wire, operation: str
) -> None:
    lab.fake.script.fail(operation, HINDRANCES[operation])
    session = await wire.call("session.start")
    assert session["phase"] == "running"
    plans: Mapping[str, Any] = {c.id: c.plan for c in lab.fake.world.containers.values()}
    assert {session[stage] for stage in STAGES} == plans.keys()
    assert not any(plan.connect_later for plan in plans.values())
    assert made(lab).count("create_network") == 1
    assert late_binding(lab) == set()
    assert all(plan.env["probe_ip"] for plan in plans.values())
    await wire.call("session.stop", session_id=session["session_id"])
    assert lab.fake.empty


class Reachable(StreamingFake):
    """Its networks' gateway is an address that a relay can listen on."""

    async def create_network(self, plan: NetworkPlan) -> Network:
        made = await super().create_network(plan)
        return msgspec.structs.replace(made, gateway="127.0.0.1")


@pytest.mark.parametrize("late", [True, False])
async def test_registered_probe_has_one_relay_however_often_is_tried(
    tmp_path: Path, late: bool
) -> None:
    async def say_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(StreamingFake.HELLO)
        await reader.read()
        writer.close()

    probe = await asyncio.start_server(say_hello, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    async with in_process(tmp_path / "s", engine=Reachable()) as lab:
        wire = await lab.wire()
        await wire.call("probe.register", name="bench", host="127.0.0.1", port=port)
        if not late:
            lab.fake.script.fail("connect_stage", NotConnected("a port is taken"))
        session = await wire.call("session.start", probe="bench")
        assert len(relays_to(port)) == 1
        stream = lab.fake.world.containers[session["stream"]]
        env = json.loads(stream.said)["env"] if late else stream.plan.env
        assert env["probe_ip"] == "127.0.0.1"
        assert env["probe_port"] != str(port)
        await wire.call("session.stop", session_id=session["session_id"])
        assert relays_to(port) == []
    probe.close()


@pytest.mark.parametrize("operation", ["remove", "create", "start"])
async def test_start_anew_that_fails_is_rolled_back_whole(
    lab: Lab, wire: Wire, operation: str
) -> None:
    gate = lab.fake.script.hold("connect_stage")
    lab.fake.script.lose_answer("connect_stage", NotConnected("a port is taken"))
    start = wire.begin("session.start")
    await gate.reached.wait()
    lab.fake.script.fail(operation, EngineUnavailable("gone"))
    gate.open.set()
    with pytest.raises(Refused) as refused:
        await wire.reply(start)
    step = "create" if operation == "create" else "start"
    assert (refused.value.type, refused.value.data["step"]) == ("engine_unavailable", step)
    await wire.call("session.wait", session_id=refused.value.data["session_id"])
    assert lab.fake.empty
    assert (await wire.call("session.start"))["phase"] == "running"
