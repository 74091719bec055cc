# SPDX-License-Identifier: MIT
"""Nobody is deaf while others ask for much.

How long a ping takes depends on whatever else the machine does, so it is counted instead: of what a flood
asked for before the neighbour came, the greater part must still be unanswered when the neighbour has its
answer. The cheaper a request is, the more of them a flood has, or it would be over within a few turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import PATIENCE, Json, Lab, Wire, in_process, until
from daemon_lab import served as serving

from operatord.control import reads

ENV = {f"stage{n}": {f"key{m}": "x" * 4 for m in range(30)} for n in range(40)}
ENV["stage39"]["key29"] = "\x00"


def calls(number: int, method: str, **params: object) -> list[Json]:
    return [{"id": n, "method": method, "params": params} for n in range(number)]


FLOODS: dict[str, tuple[int, list[Json]]] = {
    "descriptions": (1, calls(3000, "system.describe")),
    "lists": (1, calls(40_000, "session.list")),
    "status": (1, calls(40_000, "system.status")),
    "something wrong deep inside": (1, calls(30, "session.plan", env=ENV)),
    "methods that are none": (
        1, [{"id": n, "method": f"m{n}".ljust(200, "x")} for n in range(8000)]),
    "methods that are nearly one": (1, [{"id": n, "method": f"session.gat{n}"} for n in range(400)]),
    "a crowd": (60, calls(600, "system.describe")),
    "one list of many": (2000, calls(1, "session.list")),
    "plans that all differ": (
        1, [{"id": n, "method": "session.plan", "params": {"count": n + 1}} for n in range(3000)]),
}  # fmt: skip


class Flood:
    """Connections that have asked for much, and how much of that they were answered."""

    def __init__(self, wires: list[Wire], lines: list[Json]) -> None:
        self.wires = wires
        self.asked = len(wires) * len(lines)
        self.answered = 0
        self._block = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self._reading: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for wire in self.wires:
            wire.writer.write(self._block)
        self._reading = [asyncio.create_task(self._read(wire)) for wire in self.wires]
        async with asyncio.timeout(PATIENCE):
            while self.answered < min(10, self.asked // 10):
                await asyncio.sleep(0)

    async def _read(self, wire: Wire) -> None:
        with contextlib.suppress(OSError):
            while data := await wire.reader.read(1 << 16):
                self.answered += data.count(b"\n")

    async def end(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        for wire in self.wires:
            if not wire.writer.transport.is_closing():
                wire.reset()


@contextlib.asynccontextmanager
async def flooded(lab: Lab, name: str) -> AsyncIterator[Flood]:
    number, lines = FLOODS[name]
    flood = Flood([await lab.wire() for _ in range(number)], lines)
    await flood.begin()
    try:
        yield flood
    finally:
        await flood.end()


@pytest.mark.parametrize("name", FLOODS)
async def test_neighbour_is_answered_while_a_flood_waits(lab: Lab, name: str) -> None:
    """A1: of a flood that came first, most of what was left is so yet when a neighbour's ping is answered."""
    neighbour = await lab.wire()
    await neighbour.call("system.ping")
    async with flooded(lab, name) as flood:
        before = flood.answered
        await neighbour.call("system.ping")
        assert flood.answered - before < (flood.asked - before) / 2


async def test_what_describes_the_daemon_is_worked_out_once(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: the schemas of all methods take as long as hundreds of other answers."""
    before = await wire.call("system.describe")
    monkeypatch.delattr(reads.methods, "schemas")
    assert await wire.call("system.describe") == before


async def test_nothing_is_worked_out_for_a_flood_that_has_gone(lab: Lab) -> None:
    """A1: what a client had asked for is forgotten with its connection."""
    async with flooded(lab, "plans that all differ"):
        pass
    await until(lambda: lab.daemon.server.connections == 0, "it has gone")
    assert not lab.daemon.server.turns.crowded


async def test_a_signal_is_acted_on_in_the_middle_of_a_flood(tmp_path: Path) -> None:
    """A1: SIGTERM comes before what a crowd has asked for."""
    async with serving(tmp_path / "s", "--engine", "process") as served:
        wires = [await served.wire() for _ in range(20)]
        flood = Flood(wires, calls(4000, "system.describe"))
        await flood.begin()
        os.kill(served.process.pid, signal.SIGTERM)
        assert await served.logged("SIGTERM: stopping")
        assert flood.answered < flood.asked / 2
        await flood.end()
        assert await served.ended() == 0


async def test_subscriptions_of_one_connection_are_bounded(lab: Lab, wire: Wire) -> None:
    """A1: each subscription costs time with each event, so that one connection has no more than 64."""
    for _ in range(64):
        await wire.call("events.subscribe")
    refused = await wire.refusal("events.subscribe")
    assert refused.type == "too_many_requests"
    await wire.call("events.unsubscribe", subscription=1)
    await wire.call("events.subscribe")


async def test_replay_gives_way_to_others(lab: Lab) -> None:
    """A1: ten thousand events are not sent in one go, while others wait."""
    for number in range(10_000):
        lab.daemon.events.emit("probe.up", name=f"p{number}")
    neighbour = await lab.wire()
    flood = Flood([await lab.wire() for _ in range(4)], calls(1, "events.subscribe", since=0))
    flood.asked *= 10_000
    await flood.begin()
    await neighbour.call("system.ping")
    assert flood.answered < flood.asked / 2
    await until(lambda: flood.answered >= flood.asked, "all of them come")
    await flood.end()


async def test_many_who_wait_for_one_session_wake_a_few_at_a_time(tmp_path: Path) -> None:
    """A1: thousands who wait for the same end are answered in turn, with others between them."""
    async with in_process(tmp_path / "s", {"limits": {"in_flight": 3000}}) as lab:
        other, neighbour = await lab.wire(), await lab.wire()
        session = await other.call("session.start")
        wait = calls(2500, "session.wait", session_id=session["session_id"])
        crowd = await lab.wire()
        crowd.send(*wait)
        await until(lambda: len(_pending(lab)) == 2500, "all wait")
        other.begin("session.stop", session_id=session["session_id"])
        await until(lambda: len(_pending(lab)) < 2500, "the first have their answers")
        await neighbour.call("system.ping")
        assert len(_pending(lab)) > 500
        for _ in wait:
            assert (await crowd.line())["result"]["phase"] == "ended"


def _pending(lab: Lab) -> list[object]:
    return [key for c in lab.daemon.server._connections for key in c.dispatcher._pending]
