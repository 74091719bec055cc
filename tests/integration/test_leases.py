# SPDX-License-Identifier: MIT
"""How long sessions live when nobody stops them."""

from __future__ import annotations

from daemon_lab import Lab, Wire

from operatord.runtime.clock import rfc3339


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


async def test_long_lived_connection_remembers_only_what_lives(lab: Lab, wire: Wire) -> None:
    await wire.call("system.ping")
    [connection] = lab.daemon.server._connections
    for _ in range(3):
        session = await wire.call("session.start", lease="connection")
        await wire.call("session.stop", session_id=session["session_id"])
    assert connection._on_close == {}


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


async def test_lease_that_is_not_extended_expires(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start", lease={"ttl": 0.1})
    assert session["expires"] > session["created"]
    assert await ended(wire, session["session_id"]) == ("expired", "lease")
    assert lab.fake.empty


async def test_lease_that_is_extended_goes_on(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start", lease={"ttl": 0.2})
    longer = await wire.call("session.extend", session_id=session["session_id"], ttl=3600)
    assert longer["expires"] > rfc3339(lab.daemon.clock.wall() + 3000)
    waited = await wire.refusal("session.wait", session_id=session["session_id"], timeout=0.4)
    assert waited.data["phase"] == "running"
    short = await wire.call("session.extend", session_id=session["session_id"], ttl=0.05)
    assert short["expires"] < longer["expires"]
    assert await ended(wire, session["session_id"]) == ("expired", "lease")


async def test_only_a_lease_with_a_time_can_be_extended(wire: Wire) -> None:
    session = await wire.call("session.start")
    refused = await wire.refusal("session.extend", session_id=session["session_id"], ttl=5)
    assert refused.type == "conflict"
    leased = await wire.call("session.start", lease={"ttl": 60})
    await wire.call("session.stop", session_id=leased["session_id"])
    refused = await wire.refusal("session.extend", session_id=leased["session_id"], ttl=5)
    assert refused.type == "conflict"


async def test_subscriber_is_told_before_a_lease_ends(wire: Wire) -> None:
    await wire.call("events.subscribe", types=["session.expiring"])
    session = await wire.call("session.start", lease={"ttl": 0.4})
    event = await wire.event("session.expiring", session["session_id"])
    assert event["expires"] == session["expires"]
