# SPDX-License-Identifier: MIT
"""Networks that are made before anybody asks: taken once, missed by nobody when they are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, StillClock, in_process, subnets_held, until

from operatord.lifecycle import slots as slots_module

SPARE: Json = {"slots": {"networks": 2}}


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have networks made soon after they are wanted: how long the daemon holds back is no matter here."""
    monkeypatch.setattr(slots_module, "PAUSE", 0.01)
    monkeypatch.setattr(slots_module, "REST", 0.05)


def spare(lab: Lab) -> list[str]:
    return [slot.id for slot in lab.daemon.supervisor.slots.ready("")]


async def stocked(lab: Lab, count: int = 2) -> None:
    await until(lambda: len(spare(lab)) == count, "the networks are there")


def calls(lab: Lab, operation: str) -> list[str]:
    return [subject for call, subject in lab.fake.script.calls if call == operation]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with in_process(tmp_path / "s", SPARE) as lab:
        await stocked(lab)
        yield lab


async def test_start_takes_a_network_that_is_there(lab: Lab) -> None:
    wire = await lab.wire()
    first, _ = spare(lab)
    made = len(calls(lab, "create_network"))
    session = await wire.call("session.start", plain_stream=True)
    assert (session["session_id"], session["warm"]) == (first, False)
    assert session["network"] == f"network_{first[:5]}"
    [mine] = [n for n in lab.fake.world.networks.values() if n.name == session["network"]]
    assert mine.labels["operatord.session"] == first
    names = calls(lab, "create_network")[made:]
    assert session["network"] not in names, "it was made before"
    await stocked(lab)
    await wire.call("session.stop", session_id=first)
    assert mine.name not in {n.name for n in lab.fake.world.networks.values()}


async def test_network_that_a_cleaner_took_is_made_again(lab: Lab) -> None:
    wire = await lab.wire()
    first, _ = spare(lab)
    for network_id in list(lab.fake.world.networks):
        await lab.fake.remove_network(network_id)
    session = await wire.call("session.start")
    assert (session["session_id"], session["phase"]) == (first, "running")
    assert [n for n in lab.fake.world.networks.values() if n.name == session["network"]]
    supervisor = lab.daemon.supervisor
    having = [*supervisor.registry.living(), *supervisor.slots]
    assert subnets_held(lab) == sum(each.provisioned.subnet is not None for each in having)


async def test_request_that_has_to_wait_takes_none(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {**SPARE, "limits": {"sessions": 1}}) as lab:
        await stocked(lab)
        wire = await lab.wire()
        await wire.call("session.start")
        await stocked(lab)
        before = spare(lab)
        queued = await wire.call("session.start", wait="accepted")
        assert (queued["phase"], spare(lab)) == ("queued", before)
        refused = await wire.refusal("session.start", on_shortage="refuse")
        assert (refused.type, spare(lab)) == ("no_capacity", before)


async def test_spare_network_takes_no_port(tmp_path: Path) -> None:
    """It publishes nothing."""
    config = {**SPARE, "ports": "20000-20001", "limits": {"sessions": 2}}
    async with in_process(tmp_path / "s", config) as lab:
        await stocked(lab)
        reserved = (await (await lab.wire()).call("system.status"))["reserved"]
        assert (reserved["ports"], reserved["sessions"]) == (0, 0)


async def test_spare_networks_hold_subnets_and_give_way(tmp_path: Path) -> None:
    overlay = {**SPARE, "subnets": "10.214.0.0/27", "limits": {"sessions": 2}}
    async with in_process(tmp_path / "s", overlay, clock=StillClock()) as lab:
        await stocked(lab)
        wire = await lab.wire()
        status = await wire.call("system.status")
        assert status["reserved"]["subnets"] == 2
        assert status["networks"] == {"ready": 2, "target": 2}
        sessions = [await wire.call("session.start") for _ in range(2)]
        assert [session["phase"] for session in sessions] == ["running", "running"]
        assert spare(lab) == []


async def test_no_network_is_left_at_the_end(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", SPARE) as lab:
        await stocked(lab)
        engine = lab.fake
    assert engine.empty


async def test_session_that_needs_a_way_out_takes_none_without(tmp_path: Path) -> None:
    stage = {"image": "demo-stream", "port": 12346, "egress": "lan"}
    config = SPARE | {"pipelines": {"opened": {"stages": {"camera": stage}}}}
    async with in_process(tmp_path / "s", config) as lab:
        await stocked(lab)
        wire = await lab.wire()
        kept = spare(lab)
        session = await wire.call("session.start", pipeline="opened")
        assert session["session_id"] not in kept
        ways = {plan.name: plan.way_out for plan in lab.fake.world.networks.values()}
        assert ways.pop(session["network"]) == "open"
        assert set(ways.values()) == {"none"}
