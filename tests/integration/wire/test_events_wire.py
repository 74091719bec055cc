# SPDX-License-Identifier: MIT
"""Events as subscribers get them: in order, from a number on, with gaps told."""

from __future__ import annotations

import asyncio
import re

from daemon_lab import Json, Lab, Wire

PHASES = [f"session.{phase}" for phase in ("queued", "starting", "running", "stopping", "ended")]


async def one_session(lab: Lab) -> str:
    wire = await lab.wire()
    session = await wire.call("session.start")
    await wire.call("session.stop", session_id=session["session_id"])
    return session["session_id"]


async def events(wire: Wire, number: int) -> list[Json]:
    return [await wire.note() for _ in range(number)]


async def silent(wire: Wire) -> bool:
    """Return whether nothing but the answer comes to a ping."""
    await wire.call("system.ping")
    return wire.notes == []


async def test_session_tells_its_phases_in_order_and_numbers_have_no_gap(
    lab: Lab, wire: Wire
) -> None:
    subscribed = await wire.call("events.subscribe")
    session_id = await one_session(lab)
    found = await events(wire, 5)
    assert [event["type"] for event in found] == PHASES
    assert [event["seq"] for event in found] == [subscribed["seq"] + n for n in range(1, 6)]
    assert {event["session_id"] for event in found} == {session_id}
    assert {event["subscription"] for event in found} == {subscribed["subscription"]}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", event["time"]) for event in found)
    assert (found[-1]["outcome"], found[-1]["cause"]) == ("stopped", "client")


async def test_notifications_are_in_the_dialect_of_the_subscription(lab: Lab) -> None:
    plain, rpc = await lab.wire(), await lab.wire()
    await plain.ask('{"method":"events.subscribe"}')
    await rpc.call("events.subscribe")
    await one_session(lab)
    assert set(await plain.line()) == {"method", "params"}
    assert set(await rpc.line()) == {"jsonrpc", "method", "params"}


async def test_types_and_session_filter(lab: Lab, wire: Wire) -> None:
    other = await lab.wire()
    session = await other.call("session.start", wait="accepted")
    await wire.call("events.subscribe", types=["session.ended"], session_id=session["session_id"])
    await one_session(lab)
    await other.call("session.stop", session_id=session["session_id"])
    [event] = await events(wire, 1)
    assert (event["type"], event["session_id"]) == ("session.ended", session["session_id"])
    assert await silent(wire)


async def test_since_replays_after_the_reply_and_goes_on(lab: Lab, wire: Wire) -> None:
    before = (await wire.call("events.subscribe"))["seq"]
    await one_session(lab)
    await events(wire, 5)
    late = await lab.wire()
    late.send({"method": "events.subscribe", "params": {"since": before + 2}})
    assert (await late.line())["result"]["seq"] == before + 5
    assert [e["seq"] for e in await events(late, 3)] == [before + 3, before + 4, before + 5]
    await one_session(lab)
    assert [e["seq"] for e in await events(late, 5)] == list(range(before + 6, before + 11))


async def test_gap_is_told_when_the_ring_has_forgotten(lab: Lab, wire: Wire) -> None:
    for number in range(10_050):
        lab.daemon.events.emit("probe.up", name=f"p{number}")
    total = lab.daemon.events.seq
    await wire.call("events.subscribe", since=0)
    lost, first = await events(wire, 2)
    assert lost["type"] == "events.lost"
    assert (lost["from"], lost["to"]) == (1, total - 10_000)
    assert first["seq"] == total - 10_000 + 1


async def test_number_from_before_a_restart_is_a_gap_too(lab: Lab, wire: Wire) -> None:
    await one_session(lab)
    wire.send({"method": "events.subscribe", "params": {"since": 5000}})
    assert "result" in await wire.line(), "the reply comes first, the events after it"
    lost, *rest = await events(wire, 6)
    assert lost["type"] == "events.lost"
    assert [event["type"] for event in rest] == PHASES


async def test_unsubscribed_is_silent_and_cannot_be_unsubscribed_twice(
    lab: Lab, wire: Wire
) -> None:
    number = (await wire.call("events.subscribe"))["subscription"]
    other = await lab.wire()
    assert (await other.refusal("events.unsubscribe", subscription=number)).type == "not_found"
    await wire.call("events.unsubscribe", subscription=number)
    assert (await wire.refusal("events.unsubscribe", subscription=number)).type == "not_found"
    await one_session(lab)
    assert await silent(wire)


async def test_subscriber_that_does_not_read_holds_nobody_up_and_is_told_the_gap(
    lab: Lab, wire: Wire
) -> None:
    await wire.call("events.subscribe")
    wire.writer.transport.pause_reading()
    text = "x" * 10_000
    for _ in range(4000):
        lab.daemon.events.emit("probe.up", name=text)
        await asyncio.sleep(0)
    for _ in range(11_000):
        lab.daemon.events.emit("probe.down", name="p")
    other = await lab.wire()
    assert (await other.call("system.ping"))["pong"]
    wire.writer.transport.resume_reading()
    last, lost = 0, []
    while last < lab.daemon.events.seq:
        event = await wire.note()
        if event["type"] == "events.lost":
            assert event["from"] == last + 1
            lost.append(event)
            last = event["to"]
        else:
            assert event["seq"] == last + 1
            last = event["seq"]
    assert len(lost) == 1


async def test_subscription_keeps_a_half_closed_connection_open(lab: Lab, wire: Wire) -> None:
    wire.send('{"method":"events.subscribe"}')
    wire.half_close()
    assert "result" in await wire.line()
    await one_session(lab)
    assert [event["type"] for event in await events(wire, 5)] == PHASES


async def test_drain_and_engine_events(lab: Lab, wire: Wire) -> None:
    await wire.call("events.subscribe")
    other = await lab.wire()
    await other.call("system.drain")
    await other.call("system.drain")
    await other.call("system.undrain")
    assert [e["draining"] for e in await events(wire, 2)] == [True, False]
    assert await silent(wire)
