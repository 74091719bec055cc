# SPDX-License-Identifier: MIT
"""How sessions are made and removed: how many at once, what is looked at first, and who is blamed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import shared_host
from daemon_lab import Lab, Refused, Wire, in_process, until

from operatord.engines import base
from operatord.provision.starter import STARTS_AT_ONCE
from operatord.session.record import SessionRecord

MUCH_MEMORY = 137
"""What a stage ends with when the kernel kills it."""


async def test_so_many_sessions_are_made_at_once_and_the_others_wait_for_their_turn(
    lab: Lab,
) -> None:
    """S9: more would let calls time out in a long line, fewer would leave cores idle."""
    asked = STARTS_AT_ONCE + 2
    gates = [lab.fake.script.hold("create_network") for _ in range(asked)]
    wires = [await lab.wire() for _ in range(asked)]
    starts = [wire.begin("session.start") for wire in wires]
    living = lab.daemon.supervisor.registry.living

    def all_stand() -> bool:
        """Tell whether all have come as far as they can; a step is told of before it is begun."""
        steps = sorted(record.step for record in living())
        reached = [gate.reached.is_set() for gate in gates].count(True)
        return (steps, reached) == (expected, STARTS_AT_ONCE)

    expected = ["network"] * STARTS_AT_ONCE + ["turn"] * 2
    await until(all_stand, "so many are made, and two wait")
    gates[0].open.set()
    await until(gates[STARTS_AT_ONCE].reached.is_set, "the next one has its turn")
    assert not gates[-1].reached.is_set()
    for gate in gates:
        gate.open.set()
    sessions = [await wire.reply(start) for wire, start in zip(wires, starts, strict=True)]
    assert {session["phase"] for session in sessions} == {"running"}


async def test_start_that_fails_waits_for_what_it_has_begun_before_it_is_undone(
    lab: Lab, wire: Wire
) -> None:
    """What an engine makes while all is removed would stay."""
    gate = lab.fake.script.hold("create")
    lab.fake.script.fail("create_network", base.EngineFailed("not this one"))
    start = wire.begin("session.start")
    await gate.reached.wait()
    await (await lab.wire()).call("system.ping")
    [record] = lab.daemon.supervisor.registry.living()
    assert ("create_network", record.network_name) in lab.fake.script.calls
    assert record.phase == "starting"
    gate.open.set()
    with pytest.raises(Refused):
        await wire.reply(start)
    assert lab.fake.empty


@pytest.mark.parametrize("call", ["create_network", "create", "connect_stage"])
async def test_start_that_fails_takes_no_turn_from_those_that_come_after(
    lab: Lab, wire: Wire, call: str
) -> None:
    """S9: or nobody would ever be served again."""
    for _ in range(STARTS_AT_ONCE):
        lab.fake.script.fail(call, base.EngineFailed("not this one"))
        await wire.refusal("session.start", plain_stream=True)
    assert (await wire.call("session.start", plain_stream=True))["phase"] == "running"


async def test_claim_for_a_probe_that_is_not_there_is_told_so_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    """S9: a slot's stages know how to wait, and would wait for such a probe for ever."""
    async with in_process(tmp_path / "s", {"pipelines": {"stream": {"warm": 1}}}) as lab:
        wire, slots = await lab.wire(), lab.daemon.supervisor.slots
        await until(lambda: len(slots.ready("stream")) == 1, "the slot is ready")
        [slot] = slots.ready("stream")
        await wire.call(
            "probe.register", name="us-1", host="127.0.0.1", port=shared_host.free_port()
        )
        refused = await wire.refusal("session.start", plain_stream=True, probe="us-1")
        assert refused.type == "probe_unreachable"
        assert refused.data["session_id"] == slot.id, "it was the slot that was claimed"
        left = [c.plan.labels[base.LABEL_SESSION] for c in lab.fake.world.containers.values()]
        assert slot.id not in left


async def stray(lab: Lab, session_id: str) -> None:
    """Make a container of a session's of whose creation nobody has heard."""
    known = next(iter(lab.fake.world.containers.values())).plan
    labels = {**known.labels, base.LABEL_STAGE: "segmentation"}
    assert labels[base.LABEL_SESSION] == session_id
    await lab.fake.create(msgspec.structs.replace(known, name="stray", labels=labels))


LACKING: dict[str, Callable[[SessionRecord], SessionRecord]] = {
    "missing": lambda record: dataclasses.replace(record, missing=("segmentation",)),
    "restored": lambda record: dataclasses.replace(record, restored=True),
    "never proven": lambda record: dataclasses.replace(record, location=None),
}


@pytest.mark.parametrize("why", LACKING)
async def test_removal_looks_for_what_nobody_heard_of_where_there_can_be_any(
    lab: Lab, wire: Wire, why: str
) -> None:
    """S9: an answer may have been lost in a start, an attach, or an earlier life of the daemon."""
    session_id = (await wire.call("session.start", plain_stream=True))["session_id"]
    await stray(lab, session_id)
    record = lab.daemon.supervisor.registry.get(session_id)
    await lab.daemon.supervisor._starter.remove(LACKING[why](record))
    assert lab.fake.empty


async def test_removal_of_an_ordinary_session_asks_for_no_list(lab: Lab, wire: Wire) -> None:
    """S9: where all answers were heard it would only cost the engine a call."""
    session_id = (await wire.call("session.start", plain_stream=True))["session_id"]
    await stray(lab, session_id)
    record = lab.daemon.supervisor.registry.get(session_id)
    await lab.daemon.supervisor._starter.remove(record)
    assert [c.plan.name for c in lab.fake.world.containers.values()] == ["stray"]


def engine_says(lab: Lab, container_id: str) -> None:
    """The engine itself knows that memory ran out."""
    lab.fake.world.containers[container_id].oom = True


def kernel_said(lab: Lab, container_id: str) -> None:
    """All that there is of it is an event that came before."""
    lab.fake.world.tell("oom", lab.fake.world.containers[container_id])


@pytest.mark.parametrize("known_by", [engine_says, kernel_said])
async def test_start_that_fails_since_a_stage_ran_out_of_memory_is_blamed_on_that(
    lab: Lab, wire: Wire, known_by: Callable[[Lab, str], None]
) -> None:
    """S10: what fails is the next call to the engine, for another stage or for a reason of its own."""
    gate = lab.fake.script.hold("connect_stage")
    start = wire.begin("session.start")
    await gate.reached.wait()
    owner = lab.fake.stages()["segmentation"]
    known_by(lab, owner)
    record = lab.daemon.supervisor.registry.living()[0]
    await until(
        lambda: known_by is engine_says or record.observed.oom == {"segmentation"},
        "the event was heard",
    )
    container = lab.fake.world.containers[owner]
    container.status, container.exit_code = "exited", MUCH_MEMORY  # and nobody is told
    lab.fake.script.fail("inspect", base.StageRefused("it does not run"))
    gate.open.set()
    with pytest.raises(Exception, match="used more memory than its limit") as caught:
        await wire.reply(start)
    assert "segmentation" in str(caught.value)
    [session] = (await wire.call("session.list"))["sessions"]
    assert (session["outcome"], session["cause"]) == ("failed", "oom")
