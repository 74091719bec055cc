# SPDX-License-Identifier: MIT
"""How long sessions live when nobody stops them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Json, Lab, StillClock, Wire, in_process, settings, until

from operatord.machine.clock import rfc3339


async def ended(wire: Wire, session_id: str) -> tuple[str, str]:
    session = await wire.call("session.wait", session_id=session_id)
    return session["outcome"], session["cause"]


async def test_pinned_session_outlives_its_connection(lab: Lab, wire: Wire) -> None:
    gone = await lab.wire()
    session = await gone.call("session.start")
    gone.reset()
    await wire.call("system.ping")
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"


async def test_session_on_a_connection_lease_ends_with_the_connection(lab: Lab, wire: Wire) -> None:
    for leave in ("close", "reset"):
        gone = await lab.wire()
        session = await gone.call("session.start", lease="connection")
        if leave == "close":
            await gone.close()
        else:
            gone.reset()
        assert await ended(wire, session["session_id"]) == ("expired", "lease")
    assert lab.fake.empty


async def test_session_that_two_connections_asked_for_ends_with_the_last(
    lab: Lab, wire: Wire
) -> None:
    """N2: the same key gave both the same session, and one of them still wants it."""
    one, two = await lab.wire(), await lab.wire()
    asked = {"lease": "connection", "request_key": "k"}
    session = await one.call("session.start", **asked)
    assert (await two.call("session.start", **asked))["session_id"] == session["session_id"]
    one.reset()
    await wire.call("events.subscribe", session_id=session["session_id"])
    record = lab.daemon.supervisor.registry.get(session["session_id"])
    await until(lambda: record.holders == 1, "the daemon has noticed")
    assert record.phase == "running"
    two.reset()
    assert await ended(wire, session["session_id"]) == ("expired", "lease")


async def test_long_lived_connection_remembers_only_what_lives(lab: Lab, wire: Wire) -> None:
    await wire.call("system.ping")
    [connection] = lab.daemon.server._connections
    for _ in range(3):
        session = await wire.call("session.start", lease="connection")
        await wire.call("session.stop", session_id=session["session_id"])
    assert connection.dispatcher._on_close == {}


async def test_start_under_way_ends_with_the_connection_that_has_its_lease(
    lab: Lab, wire: Wire
) -> None:
    gate = lab.fake.script.hold("create")
    gone = await lab.wire()
    gone.begin("session.start", lease="connection")
    await gate.reached.wait()
    await wire.call("events.subscribe")
    gone.reset()
    gate.open.set()
    event = await wire.event("session.ended")
    assert (event["outcome"], event["cause"]) == ("expired", "lease")
    assert lab.fake.empty


async def test_start_under_way_goes_on_without_its_requester_when_pinned(
    lab: Lab, wire: Wire
) -> None:
    gate = lab.fake.script.hold("create")
    gone = await lab.wire()
    gone.begin("session.start")
    await gate.reached.wait()
    await wire.call("events.subscribe")
    gone.reset()
    gate.open.set()
    assert (await wire.event("session.running"))["session_id"]


async def test_only_a_lease_with_a_time_can_be_extended(wire: Wire) -> None:
    session = await wire.call("session.start")
    refused = await wire.refusal("session.extend", session_id=session["session_id"], ttl=5)
    assert refused.type == "conflict"
    leased = await wire.call("session.start", lease={"ttl": 60})
    await wire.call("session.stop", session_id=leased["session_id"])
    refused = await wire.refusal("session.extend", session_id=leased["session_id"], ttl=5)
    assert refused.type == "conflict"


# With a clock that stands still

LIMITED = {"lease": {"max_age": 600, "idle_timeout": 80}}


@pytest.fixture
async def bounded(tmp_path: Path) -> AsyncIterator[tuple[Lab, Wire, StillClock]]:
    clock = StillClock()
    async with in_process(tmp_path / "b", LIMITED, clock=clock) as running:
        wire = await running.wire()
        await wire.call("events.subscribe", types=["session.expiring", "session.ended"])
        yield running, wire, clock


@pytest.fixture
async def leased(tmp_path: Path) -> AsyncIterator[tuple[Lab, Wire, StillClock]]:
    """A daemon whose sessions end by their own leases only."""
    clock, unread = StillClock(), {"lease": {"unread_timeout": None}}
    async with in_process(tmp_path / "leased", unread, clock=clock) as running:
        yield running, await running.wire(), clock


async def test_lease_that_is_not_extended_expires(leased: tuple[Lab, Wire, StillClock]) -> None:
    lab, wire, clock = leased
    session = await wire.call("session.start", lease={"ttl": 30})
    assert session["expires"] == rfc3339(clock.wall() + 30)
    clock.advance(29)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"
    clock.advance(1)
    assert await ended(wire, session["session_id"]) == ("expired", "lease")
    assert lab.fake.empty


async def test_lease_that_is_not_extended_expires_whoever_reads(
    leased: tuple[Lab, Wire, StillClock],
) -> None:
    """A reader takes away only the end that a daemon's restart has set."""
    lab, wire, clock = leased
    session = await wire.call("session.start", lease={"ttl": 30})
    supervisor = lab.daemon.supervisor
    supervisor.expiry.on_consumed(supervisor.registry.get(session["session_id"]))
    clock.advance(30)
    assert await ended(wire, session["session_id"]) == ("expired", "lease")


async def test_lease_that_is_extended_goes_on(leased: tuple[Lab, Wire, StillClock]) -> None:
    _, wire, clock = leased
    session_id = (await wire.call("session.start", lease={"ttl": 30}))["session_id"]
    longer = await wire.call("session.extend", session_id=session_id, ttl=3600)
    assert longer["expires"] == rfc3339(clock.wall() + 3600)
    clock.advance(3000)
    assert (await wire.call("session.get", session_id=session_id))["phase"] == "running"
    short = await wire.call("session.extend", session_id=session_id, ttl=5)
    assert short["expires"] == rfc3339(clock.wall() + 5)
    clock.advance(5)
    assert await ended(wire, session_id) == ("expired", "lease")


async def test_subscriber_is_told_before_a_lease_ends(
    leased: tuple[Lab, Wire, StillClock],
) -> None:
    _, wire, clock = leased
    await wire.call("events.subscribe", types=["session.expiring"])
    session = await wire.call("session.start", lease={"ttl": 400})
    clock.advance(399)
    event = await wire.event("session.expiring", session["session_id"])
    assert event["expires"] == session["expires"]


def say(lab: Lab, type: str, **members: int) -> None:
    """Let the last stage write a line as the emulators do; a report only once it is read from."""
    line = json.dumps({"type": type, "stage": "segmentation", **members}, separators=(",", ":"))
    lab.fake.world.write(lab.fake.stages()["segmentation"], line)


async def bound(lab: Lab, session: Json, kind: Any, expected: bool = True) -> None:
    """Wait until a look at the session has shown, or taken back, a reason to end it."""
    supervisor = lab.daemon.supervisor
    record = supervisor.registry.get(session["session_id"])
    await until(lambda: supervisor.leases.bounds(record, kind) is expected, kind)


async def test_session_that_nobody_reads_from_ends(
    bounded: tuple[Lab, Wire, StillClock],
) -> None:
    lab, wire, clock = bounded
    session = await wire.call("session.start")
    say(lab, "listening")
    clock.advance(30)
    await bound(lab, session, "idle")
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["expires"] == rfc3339(clock.wall() + 50)
    clock.advance(45)
    event = await wire.event("session.expiring", session["session_id"])
    assert (event["cause"], event["expires"]) == ("idle", found["expires"])
    clock.advance(10)
    event = await wire.event("session.ended", session["session_id"])
    assert (event["outcome"], event["cause"]) == ("expired", "idle")
    assert "nobody read from it for 80 s" in event["reason"]
    assert lab.fake.empty


async def test_consumer_that_comes_in_time_keeps_it(
    bounded: tuple[Lab, Wire, StillClock],
) -> None:
    lab, wire, clock = bounded
    session = await wire.call("session.start")
    say(lab, "listening")
    clock.advance(30)
    await bound(lab, session, "idle")
    say(lab, "report", consumers=1, frames=5)
    clock.advance(20)
    await bound(lab, session, "idle", expected=False)
    clock.advance(100)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"


async def test_session_ends_at_its_greatest_age_whoever_reads(
    bounded: tuple[Lab, Wire, StillClock],
) -> None:
    lab, wire, clock = bounded
    session = await wire.call("session.start")
    assert session["expires"] == rfc3339(clock.wall() + 600)
    say(lab, "report", consumers=1, frames=5)
    clock.advance(541)
    assert (await wire.event("session.expiring"))["cause"] == "max_age"
    clock.advance(60)
    event = await wire.event("session.ended", session["session_id"])
    assert (event["outcome"], event["cause"]) == ("expired", "max_age")


async def test_greatest_age_that_is_reread_bounds_sessions_that_run(tmp_path: Path) -> None:
    clock, state, ages = StillClock(), tmp_path / "s", [600, None, 300]
    reread = [settings(state, {"lease": {"max_age": age}}) for age in ages]
    async with in_process(state, reread=lambda: reread.pop(0), clock=clock) as lab:
        wire = await lab.wire()
        await wire.call("events.subscribe", types=["session.expiring", "session.ended"])
        session = await wire.call("session.start", lease={"ttl": 9000})
        clock.advance(100)
        for left in (500, 8900, 200):
            await wire.call("system.reload")
            found = await wire.call("session.get", session_id=session["session_id"])
            assert found["expires"] == rfc3339(clock.wall() + left)
        clock.advance(151)
        assert (await wire.event("session.expiring"))["cause"] == "max_age"
        clock.advance(50)
        event = await wire.event("session.ended", session["session_id"])
        assert (event["outcome"], event["cause"]) == ("expired", "max_age")


async def test_soonest_of_several_bounds_counts(bounded: tuple[Lab, Wire, StillClock]) -> None:
    lab, wire, clock = bounded
    session = await wire.call("session.start", lease={"ttl": 100})
    say(lab, "report", consumers=1, frames=5)
    assert session["expires"] == rfc3339(clock.wall() + 100)
    longer = await wire.call("session.extend", session_id=session["session_id"], ttl=5000)
    assert longer["expires"] == rfc3339(clock.wall() + 600), "its age ends it before the lease does"
    clock.advance(601)
    event = await wire.event("session.ended", session["session_id"])
    assert (event["outcome"], event["cause"]) == ("expired", "max_age")


async def test_extended_lease_is_announced_again(bounded: tuple[Lab, Wire, StillClock]) -> None:
    lab, wire, clock = bounded
    session = await wire.call("session.start", lease={"ttl": 40})
    say(lab, "report", consumers=1, frames=5)
    clock.advance(31)
    assert (await wire.event("session.expiring"))["cause"] == "lease"
    await wire.call("session.extend", session_id=session["session_id"], ttl=40)
    clock.advance(31)
    assert (await wire.event("session.expiring"))["cause"] == "lease"
    clock.advance(10)
    event = await wire.event("session.ended", session["session_id"])
    assert (event["outcome"], event["cause"]) == ("expired", "lease")


async def test_lease_that_is_taken_back_leaves_no_end_behind(
    bounded: tuple[Lab, Wire, StillClock],
) -> None:
    """S8: an end that has been unbound is neither shown nor come to."""
    lab, wire, clock = bounded
    session = await wire.call("session.start", lease={"ttl": 100})
    say(lab, "report", consumers=1, frames=5)
    supervisor = lab.daemon.supervisor
    record = supervisor.registry.get(session["session_id"])
    supervisor.leases.unbind(record, "lease")
    found = await wire.call("session.get", session_id=record.id)
    assert found["expires"] == rfc3339(clock.wall() + 600), "what is left is its age"
    supervisor.leases.unbind(record, "max_age")
    clock.advance(700)
    found = await wire.call("session.get", session_id=record.id)
    assert found["phase"] == "running"
    assert "expires" not in found


# Sessions that nobody ever reads


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[tuple[Lab, Wire, StillClock]]:
    """A daemon with the default settings for leases; nobody else looks at its sessions."""
    clock = StillClock()
    async with in_process(tmp_path / "b", {"stall_timeout": None}, clock=clock) as running:
        wire = await running.wire()
        await wire.call("events.subscribe", types=["session.expiring", "session.ended"])
        yield running, wire, clock


async def test_session_that_nobody_ever_reads_ends_by_default(
    still: tuple[Lab, Wire, StillClock],
) -> None:
    """N2: after ten minutes, which the start's own answer says."""
    lab, wire, clock = still
    session = await wire.ask({"count": 200})
    say(lab, "listening")
    assert session["expires"] == rfc3339(clock.wall() + 600)
    assert session["unread_since"] == session["started"]
    clock.advance(541)
    event = await wire.event("session.expiring", session["session_id"])
    assert (event["cause"], event["expires"]) == ("unread", session["expires"])
    clock.advance(60)
    event = await wire.event("session.ended", session["session_id"])
    assert (event["outcome"], event["cause"]) == ("expired", "unread")
    assert "nobody has read from it in 600 s" in event["reason"]
    found = await wire.call("session.get", session_id=session["session_id"])
    assert "unread_timeout" in found["post_mortem"]["advice"]
    assert "unread_since" not in found
    assert lab.fake.empty


async def test_first_reader_takes_the_bound_away_for_good(
    still: tuple[Lab, Wire, StillClock],
) -> None:
    """N2: once it has been read it lives on without a reader, as idle_timeout says."""
    lab, wire, clock = still
    session = await wire.call("session.start")
    assert "expires" in session
    say(lab, "listening")
    say(lab, "report", consumers=0, frames=5)
    clock.advance(20)
    await bound(lab, session, "unread", expected=False)
    clock.advance(100_000)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"
    assert {"expires", "unread_since"}.isdisjoint(found)


async def test_reader_of_whom_nobody_has_heard_yet_keeps_it(
    still: tuple[Lab, Wire, StillClock],
) -> None:
    """N2: nothing ends before it has been looked at once more."""
    lab, wire, clock = still
    session = await wire.call("session.start")
    assert "expires" in session
    say(lab, "listening")
    clock.advance(30)
    say(lab, "report", consumers=1, frames=5)
    clock.advance(1000)  # at once: whatever was to look in between has not had its turn
    await bound(lab, session, "unread", expected=False)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"


async def test_session_outlives_its_bound_while_its_engine_does_not_answer(
    still: tuple[Lab, Wire, StillClock],
) -> None:
    """N2: who cannot be asked for a last look is waited for, and `expires` does not lie in the past."""
    lab, wire, clock = still
    session = await wire.call("session.start")
    say(lab, "listening")
    gate = lab.fake.script.hold("logs")
    clock.advance(601)
    await gate.reached.wait()
    clock.advance(10)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"
    assert found["expires"] > rfc3339(clock.wall())
    gate.open.set()
    event = await wire.event("session.ended", session["session_id"])
    assert event["cause"] == "unread"


@pytest.mark.parametrize("lease", [{"ttl": 5000}, "connection"], ids=str)
async def test_leases_that_are_looked_after_need_no_reader(
    still: tuple[Lab, Wire, StillClock], lease: object
) -> None:
    """N2: who extends a lease, or holds a connection for it, wants the session, read or not."""
    lab, wire, clock = still
    session = await wire.call("session.start", lease=lease)
    say(lab, "listening")
    assert "unread_since" not in session
    pinned = await wire.call("session.start")
    assert "unread_since" in pinned
    clock.advance(700)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"


async def test_image_that_does_not_say_whether_it_is_read_is_left_alone(
    still: tuple[Lab, Wire, StillClock],
) -> None:
    """N2: the end that was announced is taken back once it is known that nobody can know."""
    lab, wire, clock = still
    session = await wire.call("session.start")
    assert "expires" in session
    clock.advance(20)
    await bound(lab, session, "unread", expected=False)
    clock.advance(10_000)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found["phase"] == "running"
    assert {"expires", "unread_since"}.isdisjoint(found)


async def test_no_reader_is_needed_where_that_is_wanted(tmp_path: Path) -> None:
    """N2: null is never."""
    clock = StillClock()
    config = {"lease": {"unread_timeout": None}}
    async with in_process(tmp_path / "n", config, clock=clock) as lab:
        wire = await lab.wire()
        session = await wire.call("session.start")
        say(lab, "listening")
        assert {"expires", "unread_since"}.isdisjoint(session)
        clock.advance(100_000)
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
