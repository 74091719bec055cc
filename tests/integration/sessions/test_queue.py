# SPDX-License-Identifier: MIT
"""When there is no room: waiting, refusing, and getting on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, Refused, StillClock, Wire, in_process, netcat, until


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A daemon with one place and a queue of two."""
    async with in_process(tmp_path / "s", {"limits": {"sessions": 1, "queue": 2}}) as running:
        yield running


@pytest.fixture
async def living(wire: Wire) -> Json:
    """The session that has the place."""
    return await wire.call("session.start")


async def queued(lab: Lab, **params: object) -> tuple[Wire, int]:
    """Ask on a connection of its own and return when it waits."""
    wire = await lab.wire()
    request = wire.begin("session.start", **params)
    note = await wire.note(lambda note: note["stage"] == "queue")
    assert note["id"] == request
    assert isinstance(note["position"], int)
    assert "1 of 1 sessions" in note["reason"]
    return wire, request


async def stop(lab: Lab, session: Json) -> None:
    await (await lab.wire()).call("session.stop", session_id=session["session_id"])


async def test_queued_start_is_served_when_the_place_is_free(lab: Lab, living: Json) -> None:
    wire, request = await queued(lab)
    await stop(lab, living)
    assert (await wire.reply(request))["phase"] == "running"


async def test_positions_come_as_progress_while_the_queue_moves(lab: Lab, living: Json) -> None:
    first, one = await queued(lab)
    second, two = await queued(lab)
    await stop(lab, living)
    session = await first.reply(one)
    note = await second.note(lambda note: note.get("position") == 1)
    assert note["session_id"] != session["session_id"]
    await stop(lab, session)
    assert (await second.reply(two))["phase"] == "running"


async def test_higher_priority_goes_first_and_equals_in_turn(lab: Lab, living: Json) -> None:
    ordinary, one = await queued(lab)
    urgent, two = await queued(lab, priority=5)
    assert (await ordinary.note(lambda note: note.get("position") == 2))["id"] == one
    await stop(lab, living)
    session = await urgent.reply(two)
    await stop(lab, session)
    assert (await ordinary.reply(one))["phase"] == "running"


async def test_accepted_start_shows_its_place_in_the_queue(
    lab: Lab, wire: Wire, living: Json
) -> None:
    session = await wire.call("session.start", wait="accepted")
    assert (session["phase"], session["position"]) == ("queued", 1)
    status = await wire.call("system.status")
    assert status["queue"]["length"] == 1
    assert (status["sessions"]["queued"], status["sessions"]["running"]) == (1, 1)
    await stop(lab, living)
    found = await wire.call("session.wait", session_id=session["session_id"], phase="running")
    assert "position" not in found


async def test_refusal_for_room_says_everything(wire: Wire, living: Json) -> None:
    refused = await wire.refusal("session.start", on_shortage="refuse")
    assert refused.type == "no_capacity"
    assert refused.data["retryable"] is True
    assert refused.data["dimension"] == "sessions"
    assert (refused.data["needed"], refused.data["free"]) == (1, 0)
    assert refused.data["held_by"] == [living["session_id"]]
    assert len((await wire.call("session.list"))["sessions"]) == 1


async def test_full_queue_is_refused(lab: Lab, wire: Wire, living: Json) -> None:
    await queued(lab)
    await queued(lab)
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["retryable"]) == ("queue_full", True)


async def test_plan_tells_queue_and_refuse(wire: Wire, living: Json) -> None:
    planned = await wire.call("session.plan")
    assert planned["decision"] == "queue"
    assert planned["explanation"]["position"] == 1
    planned = await wire.call("session.plan", on_shortage="refuse")
    assert planned["decision"] == "refuse"
    assert planned["explanation"]["dimension"] == "sessions"
    assert (await wire.call("system.status"))["queue"]["length"] == 0


async def test_deadline_ends_the_wait_and_nothing_is_begun(tmp_path: Path) -> None:
    clock = StillClock()
    async with in_process(tmp_path / "d", {"limits": {"sessions": 1}}, clock=clock) as lab:
        wire = await lab.wire()
        await wire.call("session.start")
        clock.advance(1)
        calls = len(lab.fake.script.calls)
        waiting, request = await queued(lab, deadline=60)
        clock.advance(60)
        with pytest.raises(Refused, match="deadline_exceeded"):
            await waiting.reply(request)
        [newest, _] = (await wire.call("session.list"))["sessions"]
        assert (newest["phase"], newest["outcome"]) == ("ended", "refused")
        assert newest["cause"] == "deadline"
        made = [call for call in lab.fake.script.calls[calls:] if call[0].startswith("create")]
        assert made == []


async def test_stopping_a_queued_session_frees_its_place_in_the_queue(
    lab: Lab, wire: Wire, living: Json
) -> None:
    waiting, request = await queued(lab)
    behind, _ = await queued(lab)
    [_, session, _] = (await wire.call("session.list"))["sessions"]
    ended = await wire.call("session.stop", session_id=session["session_id"])
    assert (ended["phase"], ended["outcome"]) == ("ended", "stopped")
    with pytest.raises(Refused, match="cancelled"):
        await waiting.reply(request)
    assert (await behind.note(lambda note: note.get("position") == 1))["stage"] == "queue"


async def test_cancelled_request_leaves_the_queue(lab: Lab, wire: Wire, living: Json) -> None:
    waiting, request = await queued(lab)
    assert (await waiting.cancel(request)).type == "cancelled"
    assert (await wire.call("system.status"))["queue"]["length"] == 0


async def test_requester_that_vanishes_leaves_the_queue(lab: Lab, wire: Wire, living: Json) -> None:
    waiting, _ = await queued(lab)
    await wire.call("events.subscribe")
    waiting.reset()
    event = await wire.event("session.ended")
    assert (event["outcome"], event["cause"]) == ("stopped", "client")
    assert (await wire.call("system.status"))["queue"]["length"] == 0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-closed connections are looked after in a hurry."""
    for name, seconds in (("FIRST", 0.02), ("EVERY", 0.05), ("ROUND_TRIP", 0.02)):
        monkeypatch.setattr(f"operatord.control.wire.presence.{name}", seconds)


@pytest.mark.usefixtures("hasty")
async def test_requester_that_closes_like_any_program_leaves_the_queue(
    lab: Lab, wire: Wire, living: Json
) -> None:
    await wire.call("events.subscribe")
    for line in ('{"method":"session.start"}', "{}"):
        gone = await lab.wire()
        gone.send(line)
        await until(lambda: lab.daemon.supervisor.admission.state.length == 1, "it waits")
        await gone.close()
        event = await wire.event("session.ended")
        assert (event["outcome"], event["cause"]) == ("stopped", "client")
        assert lab.daemon.supervisor.admission.state.length == 0


@pytest.mark.usefixtures("hasty")
async def test_half_closed_requester_waits_for_its_line(
    lab: Lab, wire: Wire, living: Json, nc: str
) -> None:
    waiting = asyncio.create_task(netcat(lab.address, '{"count": 5}\n'))
    await until(lambda: lab.daemon.supervisor.admission.state.length == 1, "it waits")
    await asyncio.wait((waiting,), timeout=0.3)  # several looks go by
    assert lab.daemon.supervisor.admission.state.length == 1
    await stop(lab, living)
    out = await waiting
    assert out.count("\n") == 1
    assert json.loads(out)["phase"] == "running"


async def test_accepted_start_stays_queued_when_its_requester_vanishes(
    lab: Lab, wire: Wire, living: Json
) -> None:
    gone = await lab.wire()
    session = await gone.call("session.start", wait="accepted")
    gone.reset()
    await stop(lab, living)
    found = await wire.call("session.wait", session_id=session["session_id"], phase="running")
    assert found["phase"] == "running"


async def test_two_hundred_at_once_for_ten_places(tmp_path: Path) -> None:
    async with in_process(tmp_path / "many", {"limits": {"sessions": 10}}) as lab:
        wires = [await lab.wire() for _ in range(200)]
        ids = [wire.begin("session.start", on_shortage="refuse") for wire in wires]
        answers = await asyncio.gather(
            *(wire.reply(number) for wire, number in zip(wires, ids, strict=True)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert len(refused) == 190
        assert {refusal.type for refusal in refused} == {"no_capacity"}
        assert len(lab.fake.world.networks) == 10


async def test_draining_refuses_and_lets_the_queue_wait(lab: Lab, wire: Wire, living: Json) -> None:
    waiting, request = await queued(lab)
    drained = await wire.call("system.drain")
    assert drained["draining"] is True
    assert living["session_id"] in drained["waiting_for"]
    assert (await wire.refusal("session.start")).type == "draining"
    await stop(lab, living)
    assert (await wire.call("system.status"))["queue"]["length"] == 1
    assert (await wire.call("system.undrain"))["draining"] is False
    assert (await waiting.reply(request))["phase"] == "running"


async def test_drain_with_a_timeout_waits_for_the_sessions(
    lab: Lab, wire: Wire, living: Json
) -> None:
    drained = await wire.call("system.drain", timeout=0)
    assert drained["waiting_for"] == [living["session_id"]]
    drain = wire.begin("system.drain", timeout=10)
    other = await lab.wire()
    await other.call("session.stop", session_id=living["session_id"])
    assert (await wire.reply(drain))["waiting_for"] == []


async def test_removal_that_fails_keeps_the_place_taken(lab: Lab, wire: Wire) -> None:
    from operatord.engines.base import EngineUnavailable

    session = await wire.call("session.start")
    for _ in range(3):
        lab.fake.script.fail("remove_network", EngineUnavailable("busy"))
    stopping = wire.begin("session.stop", session_id=session["session_id"])
    other = await lab.wire()
    assert (await other.refusal("session.start", on_shortage="refuse")).type == "no_capacity"
    assert (await wire.reply(stopping))["phase"] == "ended"
    assert lab.fake.empty
    await until(lambda: not lab.daemon.supervisor.registry.living(), "its place is free")
    assert (await other.call("session.start", on_shortage="refuse"))["phase"] == "running"


# Other people's work


def keep_busy(lab: Lab) -> None:
    """Let the daemon see that all cores have been busy for two minutes."""
    for _ in range(120):
        lab.measure(available=8 << 30, busy=1.0)


async def test_busy_cores_hold_back_nothing_by_default(tmp_path: Path) -> None:
    """N3: what is reserved protects the sessions; other people's work may go on for hours."""
    async with in_process(tmp_path / "b", clock=StillClock()) as lab:
        wire = await lab.wire()
        keep_busy(lab)
        assert (await wire.call("session.start"))["phase"] == "running"
        assert (await wire.call("system.status"))["pressure"] == "none"


async def test_start_that_is_held_back_by_busy_cores_names_the_setting(tmp_path: Path) -> None:
    """N3: where it is set, whoever waits is told which setting holds them back."""
    config = {"pressure": {"cpu": 0.97}}
    async with in_process(tmp_path / "b", config, clock=StillClock()) as lab:
        wire = await lab.wire()
        keep_busy(lab)
        session = await wire.call("session.start", wait="accepted")
        assert session["phase"] == "queued"
        [listed] = (await wire.call("session.list"))["sessions"]
        assert "(pressure.cpu)" in session["reason"]
        assert "(pressure.cpu)" in listed["reason"]


async def test_short_memory_holds_back_starts_by_default(tmp_path: Path) -> None:
    """N3: memory, unlike processor time, cannot be shared out once it is gone."""
    async with in_process(tmp_path / "b", clock=StillClock()) as lab:
        wire = await lab.wire()
        lab.measure(available=100 << 20)
        session = await wire.call("session.start", wait="accepted")
        assert session["phase"] == "queued"
        assert "(system_reserved.memory)" in session["reason"]


# Who cannot be told that it waits


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[tuple[Lab, Wire, StillClock]]:
    """A daemon with one place, which somebody has, and a watcher of its queue."""
    clock = StillClock()
    async with in_process(tmp_path / "c", {"limits": {"sessions": 1}}, clock=clock) as lab:
        wire = await lab.wire()
        await wire.call("session.start", lease={"ttl": 100_000})
        await wire.call("events.subscribe", types=["session.queued", "session.ended"])
        yield lab, wire, clock


async def test_line_that_cannot_be_told_waits_for_five_minutes(
    crowded: tuple[Lab, Wire, StillClock],
) -> None:
    """F17: and is answered with what it has waited for, as the list and the event say meanwhile."""
    lab, wire, clock = crowded
    for line in ({"count": 5}, {"method": "session.start"}):
        asking = await lab.wire()
        asking.send(line)
        event = await wire.event("session.queued")
        assert "1 of 1 sessions live" in event["reason"]
        listed = (await wire.call("session.list", phase="queued"))["sessions"]
        assert [each["reason"] for each in listed] == [event["reason"]]
        clock.advance(301)
        error = (await asking.line())["error"]
        assert error["data"]["type"] == "deadline_exceeded"
        assert "1 of 1 sessions live" in error["message"]


async def test_who_is_told_or_says_how_long_waits_as_long(
    crowded: tuple[Lab, Wire, StillClock],
) -> None:
    """F17: the bound is of those only who neither hear how they stand nor have said."""
    lab, wire, clock = crowded
    told, patient = await lab.wire(), await lab.wire()
    told.begin("session.start")
    await wire.event("session.queued")
    patient.send({"count": 5, "deadline": 2000})
    await wire.event("session.queued")
    line = {"method": "session.start", "params": {"wait": "accepted"}}
    accepted = await (await lab.wire()).ask(line)
    assert accepted["result"]["phase"] == "queued"
    clock.advance(1999)
    assert (await wire.call("system.status"))["queue"]["length"] == 3
    clock.advance(2)
    error = (await patient.line())["error"]
    assert error["data"]["type"] == "deadline_exceeded"
    assert (await wire.call("system.status"))["queue"]["length"] == 2


async def test_silent_line_waits_for_ever_where_that_is_wanted(tmp_path: Path) -> None:
    """F17: null is never."""
    clock = StillClock()
    config = {"limits": {"sessions": 1}, "queue": {"deadline": None}}
    async with in_process(tmp_path / "n", config, clock=clock) as lab:
        wire = await lab.wire()
        first = await wire.call("session.start", lease={"ttl": 1_000_000})
        await wire.call("events.subscribe", types=["session.queued"])
        asking = await lab.wire()
        asking.send({"count": 5})
        await wire.event("session.queued")
        clock.advance(100_000)
        await wire.call("session.stop", session_id=first["session_id"])
        assert (await asking.line())["phase"] == "running"
