# SPDX-License-Identifier: MIT
"""Who starts when the machine is full, who waits, and what they are told; with a clock that stands still."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from daemon_lab import (
    OPERATORD,
    SMALL,
    Json,
    Lab,
    Refused,
    StillClock,
    Wire,
    clean_env,
    in_process,
    run,
    until,
)

from operatord.core.scheduling.learning import Use
from operatord.engines.base import StageRefused
from operatord.settings.loading import from_dict

MIB = 1 << 20


def pipeline(cpus: float, memory: int = 64) -> Json:
    """One stage that streams ten frames a second: ``count`` 100 is expected to take ten seconds."""
    stage = {
        "image": "demo-stream",
        "port": 12346,
        "env": {"fps": 10},
        "cpus": cpus,
        "memory": memory * MIB,
    }
    return {"stages": {"serve": stage}}


# The fake engine's machine has 4 cores and 8 GiB.
MACHINE: Json = {
    "pipelines": {
        "small": pipeline(1),
        "medium": pipeline(2),
        "big": pipeline(3),
        "whole": pipeline(4),
        "fat": pipeline(0.1, memory=4096),
    },
    "system_reserved": {"cpus": 0, "memory": 256 * MIB},
    "queue": {"ageing": 60},
}


class Desk:
    """Starts sessions and says how they stand."""

    def __init__(self, lab: Lab, wire: Wire, clock: StillClock) -> None:
        self.lab, self.wire, self.clock = lab, wire, clock

    async def ask(self, name: str, seconds: float = 100, **params: Any) -> str:
        """Ask for a session that is expected to last so long; return its id at once."""
        params = {"wait": "accepted", "count": int(seconds * 10), **params}
        session = await self.wire.call("session.start", pipeline=name, **params)
        return str(session["session_id"])

    async def phase(self, session_id: str) -> str:
        return str((await self.get(session_id))["phase"])

    async def get(self, session_id: str) -> Json:
        session: Json = await self.wire.call("session.get", session_id=session_id)
        return session

    async def running(self, session_id: str) -> str:
        """Wait until it runs."""
        await self.wire.call("session.wait", session_id=session_id, phase="running", timeout=10)
        assert await self.phase(session_id) == "running"
        return session_id

    async def waits(self, *session_ids: str) -> None:
        assert [await self.phase(each) for each in session_ids] == ["queued"] * len(session_ids)

    async def stop(self, session_id: str) -> None:
        await self.wire.call("session.stop", session_id=session_id)

    async def queue(self) -> list[str]:
        """Return the ids of those who wait, whoever is next first."""
        waiting = (await self.wire.call("session.list", phase="queued"))["sessions"]
        return [s["session_id"] for s in sorted(waiting, key=lambda s: s["position"])]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = StillClock()
    async with in_process(tmp_path / "s", MACHINE, clock=clock) as lab:
        yield Desk(lab, await lab.wire(), clock)


# Order


async def test_priority_goes_before_age_and_equals_go_in_turn(desk: Desk) -> None:
    holder = await desk.running(await desk.ask("whole"))
    first, second = await desk.ask("whole"), await desk.ask("whole")
    urgent = await desk.ask("whole", priority=5)
    assert await desk.queue() == [urgent, first, second]
    await desk.stop(holder)
    await desk.stop(await desk.running(urgent))
    await desk.running(first)
    await desk.waits(second)


async def test_request_that_has_waited_long_enough_goes_before_a_more_urgent_one(
    desk: Desk,
) -> None:
    holder = await desk.running(await desk.ask("whole"))
    patient = await desk.ask("whole")
    desk.clock.advance(3 * 60 + 1)
    hasty = await desk.ask("whole", priority=2)
    hastier = await desk.ask("whole", priority=4)
    assert await desk.queue() == [hastier, patient, hasty]
    await desk.stop(holder)
    await desk.stop(await desk.running(hastier))
    await desk.running(patient)


async def test_owner_who_has_less_goes_first(desk: Desk) -> None:
    anna = [await desk.ask("small", owner="anna") for _ in range(4)]
    for each in anna:
        await desk.running(each)
    more = [await desk.ask("small", owner="anna") for _ in range(3)]
    ben = [await desk.ask("small", owner="ben") for _ in range(3)]
    assert await desk.queue() == [*ben, *more], "until ben has as much as anna has now"
    await desk.stop(anna[0])
    await desk.running(ben[0])
    await desk.stop(anna[1])
    await desk.running(ben[1])
    # Both have two now. Whoever gives one up has less, and is next.
    await desk.stop(anna[2])
    await desk.running(more[0])
    await desk.stop(ben[0])
    await desk.running(ben[2])


# Backfilling


async def test_small_one_passes_a_big_one_that_it_does_not_delay(desk: Desk) -> None:
    await desk.running(await desk.ask("medium", seconds=100))
    big = await desk.ask("big", seconds=50)
    # Two cores are free now. In 100 s there will be four, of which the big one takes three.
    await desk.running(await desk.ask("small", seconds=60))
    await desk.waits(big)


async def test_long_one_passes_only_into_what_will_be_left_over(desk: Desk) -> None:
    holder = await desk.running(await desk.ask("medium", seconds=100))
    big = await desk.ask("big", seconds=50)
    beside = await desk.running(await desk.ask("small", seconds=5000))
    delaying = await desk.ask("small", seconds=5000)
    await desk.waits(big, delaying)
    reason = (await desk.get(delaying))["reason"]
    assert big in reason
    assert "would be delayed" in reason
    await desk.stop(holder)
    await desk.running(big)
    await desk.waits(delaying)
    await desk.stop(beside)
    await desk.running(delaying)


async def test_cancelled_head_lets_those_behind_it_go(desk: Desk) -> None:
    await desk.running(await desk.ask("medium", seconds=100))
    await desk.running(await desk.ask("small", seconds=5000))
    big = await desk.ask("big", seconds=50)
    behind = await desk.ask("small", seconds=5000)
    await desk.waits(big, behind)
    await desk.stop(big)
    await desk.running(behind)


async def test_cancelled_request_frees_the_way(desk: Desk) -> None:
    await desk.running(await desk.ask("medium", seconds=100))
    await desk.running(await desk.ask("small", seconds=5000))
    other = await desk.lab.wire()
    request = other.begin("session.start", pipeline="big", count=500)
    note = await other.note(lambda note: note["stage"] == "queue")
    assert note["position"] == 1
    behind = await desk.ask("small", seconds=5000)
    await desk.waits(behind)
    assert (await other.cancel(request)).type == "cancelled"
    await desk.running(behind)


# Never


@pytest.mark.parametrize(
    ("asked", "dimension"), [({"cpus": 5}, "cpus"), ({"memory": 8 << 30}, "memory")]
)
async def test_what_can_never_run_here_is_refused_at_once(
    tmp_path: Path, asked: Json, dimension: str
) -> None:
    huge = pipeline(1)
    huge["stages"]["serve"] |= asked
    async with in_process(tmp_path / "s", MACHINE, {"pipelines": {"huge": huge}}) as lab:
        wire = await lab.wire()
        refused = await wire.refusal("session.start", pipeline="huge")
        assert (refused.type, refused.data["retryable"]) == ("never_fits", False)
        assert refused.data["dimension"] == dimension
        assert refused.data["needed"] > refused.data["capacity"]
        planned = await wire.call("session.plan", pipeline="huge")
        assert (planned["decision"], planned["explanation"]["type"]) == ("refuse", "never_fits")
        assert (await wire.call("session.list"))["sessions"] == []


async def test_devices_are_handed_out_whole_and_once(tmp_path: Path) -> None:
    gpus = [{"id": "small", "memory": 4 << 30}, {"id": "large", "memory": 16 << 30}]
    wanting = {"sharp": pipeline(0.1), "sharper": pipeline(0.1), "sharpest": pipeline(0.1)}
    for name, memory in (("sharp", 1 << 30), ("sharper", 8 << 30), ("sharpest", 32 << 30)):
        wanting[name]["stages"]["serve"] |= {"gpus": 1, "gpu_memory": memory}
    overlay = {"gpus": gpus, "pipelines": wanting}
    async with in_process(tmp_path / "s", MACHINE, overlay) as lab:
        wire = await lab.wire()
        await wire.call("session.start", pipeline="sharp")
        await wire.call("session.start", pipeline="sharper")
        plans = [container.plan for container in lab.fake.world.containers.values()]
        assert [plan.gpus for plan in plans] == [("small",), ("large",)]
        refused = await wire.refusal("session.start", pipeline="sharp", on_shortage="refuse")
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "gpus")
        refused = await wire.refusal("session.start", pipeline="sharpest")
        assert (refused.type, refused.data["dimension"]) == ("never_fits", "gpus")


# Why not


async def test_refusal_says_what_is_scarce_who_has_it_and_until_when(desk: Desk) -> None:
    long = await desk.running(await desk.ask("medium", seconds=500))
    short = await desk.running(await desk.ask("small", seconds=100))
    refused = await desk.wire.refusal("session.start", pipeline="medium", on_shortage="refuse")
    assert refused.type == "no_capacity"
    assert refused.data["dimension"] == "cpus"
    assert (refused.data["needed"], refused.data["free"], refused.data["capacity"]) == (2, 1, 4)
    assert refused.data["held_by"] == [long, short]
    assert refused.data["retry_after"] == 100
    assert refused.data["next_release"].endswith("Z")
    assert "2 cores" in refused.message
    planned = await desk.wire.call("session.plan", pipeline="medium")
    assert planned["decision"] == "queue"
    same = ("dimension", "needed", "free", "capacity", "held_by", "next_release")
    assert {key: planned["explanation"][key] for key in same} == {
        key: refused.data[key] for key in same
    }
    assert planned["explanation"]["estimate"] == pytest.approx(100)
    waiting = await desk.get(await desk.ask("medium"))
    assert waiting["reason"] == planned["explanation"]["reason"]
    assert waiting["estimate"] == pytest.approx(100)


async def test_position_reason_and_estimate_are_pushed_when_they_change(desk: Desk) -> None:
    await desk.running(await desk.ask("whole", seconds=100))
    other = await desk.lab.wire()
    request = other.begin("session.start", pipeline="whole", count=1000)
    note = await other.note(lambda note: note.get("position") == 1)
    assert (note["id"], note["estimate"]) == (request, 100)
    assert "4 cores" in note["reason"]
    await desk.ask("whole", seconds=30, priority=1)
    note = await other.note(lambda note: note.get("position") == 2)
    assert note["estimate"] == 130


async def test_estimate_is_not_made_up(desk: Desk) -> None:
    stage = {"image": "demo-stream", "port": 1, "cpus": 4, "memory": 64 * MIB}
    unknown = {"pipelines": {"unknown": {"stages": {"serve": stage}}}}
    async with in_process(desk.lab.daemon.config.state_path.parent / "t", unknown) as lab:
        wire = await lab.wire()
        await wire.call("session.start", pipeline="unknown")
        planned = await wire.call("session.plan", pipeline="unknown")
        assert planned["decision"] == "queue"
        assert not {"estimate", "next_release"} & set(planned["explanation"])


# Deadlines


async def test_deadline_passes_in_the_queue(desk: Desk) -> None:
    await desk.running(await desk.ask("whole"))
    other = await desk.lab.wire()
    request = other.begin("session.start", pipeline="whole", deadline=30)
    await other.note(lambda note: note["stage"] == "queue")
    desk.clock.advance(29.9)
    assert len(await desk.queue()) == 1
    desk.clock.advance(0.2)
    with pytest.raises(Refused) as refused:
        await other.reply(request)
    assert refused.value.type == "deadline_exceeded"
    assert refused.value.data["dimension"] == "cpus"


async def test_start_that_cannot_be_ready_in_time_is_not_begun(desk: Desk) -> None:
    desk.lab.daemon.supervisor.admission.started("small", 2.0)
    refused = await desk.wire.refusal("session.start", pipeline="small", deadline=1.5)
    assert refused.type == "deadline_exceeded"
    assert desk.lab.fake.empty
    session = await desk.wire.call("session.start", pipeline="small", deadline=2.5)
    assert session["phase"] == "running"


# Owners


async def test_owner_at_the_limit_waits_and_others_pass(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", MACHINE, {"limits": {"sessions_per_owner": 1}}) as lab:
        desk = Desk(lab, await lab.wire(), StillClock())
        first = await desk.running(await desk.ask("small", owner="anna"))
        second = await desk.ask("small", owner="anna")
        await desk.running(await desk.ask("small", owner="ben"))
        await desk.waits(second)
        assert "one owner may have 1" in (await desk.get(second))["reason"]
        refused = await desk.wire.refusal(
            "session.start", pipeline="small", owner="anna", on_shortage="refuse"
        )
        assert refused.data["dimension"] == "sessions_per_owner"
        assert refused.data["held_by"] == [first]
        await desk.stop(first)
        await desk.running(second)


# The machine


async def test_pressure_holds_starts_back_and_says_why(desk: Desk) -> None:
    await desk.wire.call("events.subscribe", types=["pressure.changed"])
    desk.lab.measure(available=100 * MIB)
    event = await desk.wire.event("pressure.changed")
    assert (event["pressure"], event["was"]) == ("memory", "none")
    waiting = await desk.ask("small")
    assert "memory" in (await desk.get(waiting))["reason"]
    refused = await desk.wire.refusal("session.start", pipeline="small", on_shortage="refuse")
    assert (refused.type, refused.data["dimension"]) == ("no_capacity", "memory")
    status = await desk.wire.call("system.status")
    assert (status["pressure"], status["queue"]["length"]) == ("memory", 1)
    desk.lab.measure(available=300 * MIB)  # above the watermark of 256 MiB, but not clearly
    await desk.waits(waiting)
    desk.lab.measure(available=4096 * MIB)
    assert (await desk.wire.event("pressure.changed"))["pressure"] == "none"
    await desk.running(waiting)


async def test_full_disk_holds_starts_back(desk: Desk) -> None:
    desk.lab.measure(available=8 << 30, disk=100 * MIB)
    planned = await desk.wire.call("session.plan", pipeline="small")
    assert planned["decision"] == "queue"
    assert planned["explanation"]["dimension"] == "disk"


async def test_memory_that_others_use_is_not_handed_out(desk: Desk) -> None:
    desk.lab.measure(available=2 << 30)
    waiting = await desk.ask("fat")
    reason = (await desk.get(waiting))["reason"]
    assert "measured" in reason
    assert "1792 MiB" in reason, "256 MiB are kept back"
    await desk.running(await desk.ask("small"))  # what it needs is there, and delays nobody
    desk.lab.measure(available=6 << 30)
    await desk.running(waiting)


async def test_hold_of_a_new_session_counts_until_it_can_be_measured(desk: Desk) -> None:
    desk.lab.measure(available=5 << 30)
    await desk.running(await desk.ask("fat"))
    desk.lab.measure(available=5 << 30)  # its stages have not touched their memory yet
    second = await desk.ask("fat")
    await desk.waits(second)


async def test_nothing_is_begun_while_the_engine_is_away(desk: Desk) -> None:
    await desk.wire.call("events.subscribe", types=["engine.lost", "engine.back"])
    desk.lab.measure(available=300 * MIB)
    waiting = await desk.ask("fat")
    desk.lab.fake.world.lose()
    await desk.wire.event("engine.lost")
    desk.lab.measure(available=8 << 30)  # it would fit now
    await desk.waits(waiting)
    assert "does not answer" in (await desk.get(waiting))["reason"]
    desk.lab.fake.world.come_back()
    await desk.wire.event("engine.back")
    await desk.running(waiting)


async def test_new_limits_are_counted_with_at_once(tmp_path: Path) -> None:
    limits = {"limits": {"sessions": 1}}
    settings = [from_dict({"state_dir": str(tmp_path / "s"), **SMALL}, [MACHINE, limits])]
    async with in_process(
        tmp_path / "s", MACHINE, limits, reread=lambda: settings[0], clock=StillClock()
    ) as lab:
        desk = Desk(lab, await lab.wire(), StillClock())
        await desk.running(await desk.ask("small"))
        waiting, whole = await desk.ask("small"), await desk.ask("whole")
        reserve = {"limits": {"sessions": 2}, "system_reserved": {"cpus": 1}}
        settings[0] = from_dict({"state_dir": str(tmp_path / "s"), **SMALL}, [MACHINE, reserve])
        await desk.wire.call("system.reload")
        await desk.running(waiting)
        # Four cores are more than there will ever be now.
        refused = await desk.get(whole)
        assert (refused["phase"], refused["outcome"]) == ("ended", "refused")
        assert "3 cores" in refused["reason"]


async def test_pipeline_that_can_never_run_here_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process(tmp_path / "s", {"pipelines": {"huge": pipeline(5)}}):
        [record] = [r for r in caplog.records if "cannot run here" in r.message]
        assert "pipeline huge" in record.message


async def test_what_was_asked_for_can_be_simulated_again(desk: Desk, tmp_path: Path) -> None:
    for name in ("small", "medium", "small"):
        session = await desk.running(await desk.ask(name, owner=name))
        desk.clock.advance(30)
        await desk.stop(session)
    await desk.lab.daemon.journal.settled()
    state = desk.lab.daemon.config.state_path
    code, out, err = await run(
        OPERATORD,
        "export-trace",
        "--state-dir",
        str(state),
        str(tmp_path / "t.jsonl"),
        env=clean_env(),
    )
    assert (code, err) == (0, "")
    assert out.startswith("3 sessions written")
    code, out, _ = await run(
        OPERATORD, "simulate", "--trace", str(tmp_path / "t.jsonl"), "--cpus", "2", "--json"
    )
    report = json.loads(out)
    assert (code, report["policies"]["easy"]["ended"]) == (0, 3)


# Learning


async def test_learned_reservation_is_held_where_it_is_wanted(tmp_path: Path) -> None:
    eager = pipeline(1) | {"reservations": "learned"}
    async with in_process(tmp_path / "s", MACHINE, {"pipelines": {"eager": eager}}) as lab:
        wire = await lab.wire()
        learned = lab.daemon.supervisor.admission.learned
        for name in ("eager", "small"):
            for _ in range(5):
                learned.note(name, "serve", Use(cpus=2500, memory=200 * MIB), young=True)
        listed = {p["name"]: p for p in (await wire.call("pipeline.list"))["pipelines"]}
        stage = listed["small"]["stages"]["serve"]
        assert (stage["cpus"], stage["memory"]) == (1, 64 * MIB)
        assert stage["learned"]["start_peak"] == {"cpus": 2.5, "memory": 200 * MIB}
        planned = await wire.call("session.plan", pipeline="small")
        assert planned["explanation"]["reservation"]["cpus"] == 1
        planned = await wire.call("session.plan", pipeline="eager")
        assert planned["explanation"]["reservation"] == {
            "cpus": 2.5, "memory": 200 * MIB, "sessions": 1, "subnets": 1,
        }  # fmt: skip
        await wire.call("session.start", pipeline="eager")
        assert (await wire.call("system.status"))["reserved"]["cpus"] == 2.5
        refused = await wire.refusal("session.start", pipeline="eager", on_shortage="refuse")
        assert (refused.data["needed"], refused.data["free"]) == (2.5, 1.5)


# Degrading

CHAIN: Json = {
    "pipelines": {
        "segmented": {
            "stages": {
                "probe": {"cpus": 0.5},
                "stream": {"cpus": 0.5},
                "segmentation": {"cpus": 2, "cpu_limit": 2},
            }
        }
    }
}


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Desk]:
    """Three of four cores are taken: a plain stream fits, a segmented one does not."""
    clock = StillClock()
    async with in_process(tmp_path / "s", MACHINE, CHAIN, clock=clock) as lab:
        desk = Desk(lab, await lab.wire(), clock)
        desk.holder = await desk.running(await desk.ask("big"))  # type: ignore[attr-defined]
        yield desk


async def degraded(desk: Desk) -> Json:
    session: Json = await desk.wire.call("session.start", on_shortage="degrade")
    assert session["degraded"] is True
    assert "segmentation" not in session
    assert {"probe", "stream"} < set(session)
    return session


async def test_degraded_session_is_plain_until_there_is_room(clinic: Desk) -> None:
    desk = clinic
    await desk.wire.call("events.subscribe", types=["session.attached"])
    plain = await degraded(desk)
    status = await desk.wire.call("system.status")
    assert status["reserved"]["cpus"] == 4
    assert status["queue"] == {"length": 0, "limit": 1000, "attaching": 1}
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    event = await desk.wire.event("session.attached", plain["session_id"])
    assert event["location"] != plain["location"]
    assert (event["stage"], event["degraded"]) == ("segmentation", False)
    session = await desk.get(plain["session_id"])
    assert (session["degraded"], session["phase"]) == (False, "running")
    assert session["location"] == event["location"]
    assert session["plain_location"] == plain["location"]
    assert session["segmentation"]
    assert (await desk.wire.call("system.status"))["reserved"]["cpus"] == 3
    await desk.stop(plain["session_id"])
    assert desk.lab.fake.empty
    assert (await desk.wire.call("system.status"))["reserved"]["cpus"] == 0


async def test_degrading_is_not_needed_where_there_is_room(desk: Desk) -> None:
    session = await desk.wire.call("session.start", on_shortage="degrade")
    assert (session["degraded"], "segmentation" in session) == (False, True)


async def test_degraded_session_that_ends_wants_nothing_more(clinic: Desk) -> None:
    desk = clinic
    plain = await degraded(desk)
    await desk.stop(plain["session_id"])
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    assert "attaching" not in (await desk.wire.call("system.status"))["queue"]
    assert desk.lab.fake.empty


@pytest.mark.parametrize("how", ["fail", "lose_answer"])
async def test_stage_that_cannot_be_attached_leaves_the_plain_stream_alone(
    clinic: Desk, how: str
) -> None:
    """Nor itself, though nobody has heard that it was made."""
    desk = clinic
    await desk.wire.call("events.subscribe", types=["session.detached"])
    plain = await degraded(desk)
    getattr(desk.lab.fake.script, how)("create", StageRefused("not with me"))
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    event = await desk.wire.event("session.detached", plain["session_id"])
    assert "not with me" in event["reason"]
    session = await desk.get(plain["session_id"])
    assert (session["phase"], session["degraded"]) == ("running", True)
    assert session["location"] == plain["location"]
    assert (await desk.wire.call("system.status"))["reserved"]["cpus"] == 1
    assert "segmentation" not in desk.lab.fake.stages()


async def test_stage_that_cannot_be_attached_takes_no_turn_from_who_starts(clinic: Desk) -> None:
    """Of which there are a few for all that is made, and else there would be one less for ever."""
    desk = clinic
    desk.lab.daemon.supervisor._starter._turns = asyncio.Semaphore(1)
    await desk.wire.call("events.subscribe", types=["session.detached"])
    plain = await degraded(desk)
    desk.lab.fake.script.fail("create", StageRefused("not with me"))
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    await desk.wire.event("session.detached", plain["session_id"])
    assert (await desk.wire.call("session.start", plain_stream=True))["phase"] == "running"


async def test_attaching_that_breaks_leaves_the_plain_stream_alone(
    clinic: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the daemon: what the stage was to have is given back."""
    desk = clinic
    supervisor = desk.lab.daemon.supervisor
    monkeypatch.setattr(supervisor._starter, "attach", AsyncMock(side_effect=KeyError))
    await desk.wire.call("events.subscribe", types=["session.detached"])
    plain = await degraded(desk)
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    event = await desk.wire.event("session.detached", plain["session_id"])
    assert "an internal error of the daemon" in event["reason"]
    assert (await desk.get(plain["session_id"]))["phase"] == "running"
    assert (await desk.wire.call("system.status"))["reserved"]["cpus"] == 1


async def test_attached_stage_that_fails_leaves_the_plain_stream_alone(
    clinic: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its door is closed: it would lead to whoever has the port next."""
    desk = clinic
    supervisor = desk.lab.daemon.supervisor
    doors = Mock(open=AsyncMock(side_effect=lambda record, stage, found: found), close=AsyncMock())
    monkeypatch.setattr(supervisor._starter, "doors", doors)
    await desk.wire.call("events.subscribe", types=["session.attached", "session.detached"])
    plain = await degraded(desk)
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    await desk.wire.event("session.attached", plain["session_id"])
    desk.lab.fake.world.end(desk.lab.fake.stages()["segmentation"], 4)
    event = await desk.wire.event("session.detached", plain["session_id"])
    assert "ended with code 4" in event["reason"]
    session = await desk.get(plain["session_id"])
    assert (session["phase"], session["degraded"]) == ("running", True)
    assert session["location"] == plain["location"]
    assert "segmentation" not in session
    doors.close.assert_any_await(supervisor.registry.get(plain["session_id"]), "segmentation")
    assert (await desk.wire.call("system.status"))["reserved"]["cpus"] == 1


async def test_session_can_end_while_a_stage_is_attached(clinic: Desk) -> None:
    desk = clinic
    plain = await degraded(desk)
    gate = desk.lab.fake.script.hold("create")
    await desk.stop(desk.holder)  # type: ignore[attr-defined]
    await gate.reached.wait()
    calls = desk.lab.fake.script.calls
    calls.clear()
    stopping = desk.wire.begin("session.stop", session_id=plain["session_id"])
    supervisor = desk.lab.daemon.supervisor
    await until(
        lambda: supervisor.registry.get(plain["session_id"]).phase == "stopping", "it is to end"
    )
    await supervisor.settled()
    await (await desk.lab.wire()).call("system.ping")
    assert not {"stop", "remove"} & {call for call, _ in calls}, "it may be about to make more"
    gate.open.set()
    assert (await desk.wire.reply(stopping))["outcome"] == "stopped"
    assert desk.lab.fake.empty
    assert (await desk.wire.call("system.status"))["reserved"]["cpus"] == 0


async def test_degraded_stream_in_a_format_that_cannot_be_segmented_is_refused(desk: Desk) -> None:
    refused = await desk.wire.refusal("session.start", on_shortage="degrade", format="y4m")
    assert (refused.type, refused.data["path"]) == ("invalid_params", "params.on_shortage")
