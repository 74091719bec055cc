# SPDX-License-Identifier: MIT
"""The daemon dies at some moment, and another is started on the same state directory and the same engine.

The engine's world, and the clock on the wall, go on meanwhile; the monotonic clock begins anew, as after
the machine was started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from daemon_lab import (
    OPERATORD,
    PATIENCE,
    Json,
    Lab,
    Refused,
    StillClock,
    StillHost,
    StreamingFake,
    Wire,
    clean_env,
    receive,
    relays_to,
    run,
    served,
    settings,
    until,
)
from fake_engine import FakeEngine, Gate, World

from operatord.core.scheduling.learning import Use
from operatord.core.scheduling.room import Gpu
from operatord.daemon import Daemon, Parts
from operatord.engines import base
from operatord.engines.base import EngineUnavailable, Network, NetworkPlan, StagePlan, StageRefused
from operatord.machine.clock import rfc3339
from operatord.session.record import SessionRecord
from operatord.session.writer import SessionWriter
from operatord.state.sweep import Options, sweep_once
from operatord.store import journal as journal_module
from operatord.store.copies import copy_journal
from operatord.store.schema import SLOTS

STAGES = ("probe", "stream", "segmentation")


class Lasting(StreamingFake):
    """A fake whose containers, and the streams at their ports, outlive the daemon."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__(world)
        self._swallowed: dict[str, Gate] = {}
        self.gateway: str | None = None
        """This host's address in each network; None: stages reach what this host reaches."""

    async def close(self) -> None:
        """Say goodbye to the daemon only."""

    async def end(self) -> None:
        await super().close()

    def swallow(self, operation: str) -> asyncio.Event:
        """Let the next such call take effect, and never answer it; return what tells of it."""
        gate = self._swallowed[operation] = Gate()
        return gate.reached

    async def _swallow(self, operation: str) -> None:
        if gate := self._swallowed.pop(operation, None):
            gate.reached.set()
            await gate.open.wait()

    async def create_network(self, plan: NetworkPlan) -> Network:
        made = await super().create_network(plan)
        await self._swallow("create_network")
        return msgspec.structs.replace(made, gateway=self.gateway)

    async def create(self, plan: StagePlan) -> str:
        made = await super().create(plan)
        await self._swallow("create")
        return made

    async def start(self, container_id: str) -> None:
        await super().start(container_id)
        await self._swallow("start")

    async def connect_stage(
        self, container_id: str, network: Network, aliases: Sequence[str]
    ) -> None:
        await super().connect_stage(container_id, network, aliases)
        await self._swallow("connect_stage")


class LaterClock(StillClock):
    """A clock of another boot: the wall's goes on, the monotonic one begins anew."""

    def __init__(self, wall: float) -> None:
        super().__init__()
        self._now = 0.0
        self._epoch = wall

    def boot(self) -> str:
        return f"booted at {self._epoch}"


class Machine:
    """A machine on which daemons come and go, while the containers stay."""

    def __init__(self, state_dir: Path, *overlays: Mapping[str, Any]) -> None:
        self.state_dir = state_dir
        self.engine = Lasting()
        self.clock: StillClock = StillClock()
        self._overlays: tuple[Mapping[str, Any], ...] = ({"on_shutdown": "keep"}, *overlays)
        self._lab: Lab | None = None
        self._wires: list[Wire] = []
        state_dir.mkdir()
        (state_dir / "instance").write_text("test\n")

    @property
    def lab(self) -> Lab:
        assert self._lab is not None
        return self._lab

    @property
    def daemon(self) -> Daemon:
        return self.lab.daemon

    @property
    def world(self) -> World:
        return self.engine.world

    async def start(self, *overlays: Mapping[str, Any]) -> Wire:
        """Start a daemon; return a connection to it."""
        config = settings(self.state_dir, *self._overlays, *overlays)
        daemon = Daemon(config, None, Parts(self.engine, self.clock, StillHost(self.state_dir)))
        self._lab = Lab(daemon, ("", 0))
        self._lab.address = await daemon.start()
        return await self.wire()

    async def wire(self) -> Wire:
        wire = await Wire.connect(self.lab.address)
        self._wires.append(wire)
        return wire

    async def kill(self, away: float = 0.0) -> None:
        """End the daemon as `kill -9` does: nothing is finished, what is not committed is gone."""
        daemon, self._lab = self.daemon, None
        journal = daemon.journal
        journal._thread.shutdown(wait=True)
        journal._closed = True
        journal._connection.close()
        journal._reading.close()
        tasks = [*daemon.supervisor.transitions.tasks, *daemon.keeper._tasks]
        if journal._writing is not None:
            tasks.append(journal._writing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        daemon.server.stop_listening()
        for connection in tuple(daemon.server._connections):
            connection._transport.abort()
        daemon.state.close()
        await self._be_away(away)

    async def stop(self, away: float = 0.0) -> None:
        """End the daemon as SIGTERM does."""
        daemon, self._lab = self.daemon, None
        await daemon.stop()
        await self._be_away(away)

    async def restart(self, away: float = 0.0) -> Wire:
        """Kill the daemon and start another one, on a machine that goes on meanwhile."""
        clock = self.clock
        await self.kill()
        clock.advance(away)
        self.clock = clock
        return await self.start()

    async def _be_away(self, seconds: float) -> None:
        for wire in self._wires:
            await wire.close()
        self._wires.clear()
        self.clock = LaterClock(self.clock.wall() + seconds)

    async def settled(self) -> None:
        """Return when all that the daemon has done so far is written down."""
        await self.daemon.journal.settled()

    async def close(self) -> None:
        if self._lab is not None:
            await self.stop()
        await self.engine.end()


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "state")
    yield machine
    await machine.close()


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Machine]:
    """A machine with two places."""
    machine = Machine(tmp_path / "state", {"limits": {"sessions": 2}})
    yield machine
    await machine.close()


async def get(wire: Wire, session: Json | str) -> Json:
    """Return a session as it is in the answer to its start."""
    session_id = session if isinstance(session, str) else session["session_id"]
    found: Json = await wire.call("session.get", session_id=session_id)
    found.pop("images", None)
    return found


async def ended(wire: Wire, session: Json) -> tuple[str, str]:
    found = await wire.call("session.wait", session_id=session["session_id"])
    return found["outcome"], found["cause"]


async def running(wire: Wire, session: Json) -> Json:
    found = await wire.call("session.wait", session_id=session["session_id"], phase="running")
    assert found["phase"] == "running"
    return found


async def accepted(wire: Wire, **params: Any) -> Json:
    session: Json = await wire.call("session.start", wait="accepted", **params)
    return session


# Those that run


async def test_running_sessions_are_taken_on_as_they_are(machine: Machine) -> None:
    wire = await machine.start()
    before = [
        await wire.call("session.start", owner="anna", lease={"ttl": 100}, priority=3),
    ]
    machine.clock.advance(1)
    before.append(await wire.call("session.start", plain_stream=True))
    there = dict(machine.world.containers), dict(machine.world.networks)
    await machine.kill(away=30)
    wire = await machine.start()
    assert [await get(wire, each) for each in before] == before
    assert (await wire.call("session.list"))["sessions"] == before[::-1]
    assert (machine.world.containers, machine.world.networks) == there
    status = await wire.call("system.status")
    assert (status["sessions"]["running"], status["reserved"]["sessions"]) == (2, 2)
    for each in before:
        await wire.call("session.stop", session_id=each["session_id"])
    assert machine.engine.empty


async def test_consumer_reads_on_while_the_daemon_is_away(machine: Machine) -> None:
    wire = await machine.start()
    location = (await wire.call("session.start"))["location"]
    reader, writer = await asyncio.open_connection(location["host"], location["port"])
    assert (await reader.readline()).startswith(b'{"type":"hello"')
    await machine.kill()
    await machine.start()
    assert not reader.at_eof()
    writer.close()
    await writer.wait_closed()


async def test_second_death_and_third_life(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    for leave in (machine.kill, machine.stop, machine.kill):
        await leave()
        wire = await machine.start()
        assert await get(wire, session) == session


async def test_session_can_be_stopped_and_asked_about_after_a_restart(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    stage = machine.engine.stages()["segmentation"]
    await machine.kill()
    machine.world.write(stage, "written while nobody listened")
    wire = await machine.start()
    logs = await wire.call("session.logs", session_id=session["session_id"], stage="segmentation")
    assert [line["line"] for line in logs["lines"]] == ["written while nobody listened"]
    stats = await wire.call("session.stats", session_id=session["session_id"])
    assert set(stats["stages"]) == {"probe", "stream", "segmentation"}
    await wire.call("session.stop", session_id=session["session_id"])
    assert machine.engine.empty


async def test_daemon_that_cannot_listen_leaves_sessions_to_the_next(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    await machine.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            await machine.start({"listen": listen})
        await machine.stop()
    wire = await machine.start()
    assert await get(wire, session) == session


async def test_session_of_a_pipeline_that_is_not_configured_any_more_goes_on(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path / "state")
    stage = {"image": "demo-stream", "port": 12346}
    wire = await machine.start({"pipelines": {"old": {"stages": {"serve": stage}}}})
    session = await wire.call("session.start", pipeline="old")
    await machine.kill()
    wire = await machine.start()
    assert await get(wire, session) == session
    assert (await wire.refusal("session.start", pipeline="old")).type == "not_found"
    await wire.call("session.stop", session_id=session["session_id"])
    assert machine.engine.empty
    await machine.close()


# Leases


async def test_lease_has_the_time_left_that_it_had(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 100})
    machine.clock.advance(30)
    await machine.kill(away=20)
    wire = await machine.start()
    machine.clock.advance(49)
    assert (await get(wire, session))["expires"] == session["expires"]
    assert (await get(wire, session))["phase"] == "running"
    machine.clock.advance(1.1)
    assert await ended(wire, session) == ("expired", "lease")
    assert machine.engine.empty


async def test_lease_that_ran_out_meanwhile_ends_the_session_at_once(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 100})
    await machine.kill(away=3600)
    wire = await machine.start()
    assert await ended(wire, session) == ("expired", "lease")
    assert machine.engine.empty


async def test_lease_is_extended_after_a_restart_and_that_outlives_the_next(
    machine: Machine,
) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 100})
    await machine.kill(away=90)
    wire = await machine.start()
    longer = await wire.call("session.extend", session_id=session["session_id"], ttl=500)
    await machine.settled()
    await machine.kill(away=400)
    wire = await machine.start()
    assert (await get(wire, session))["expires"] == longer["expires"]


async def test_age_counts_from_the_first_life(machine: Machine) -> None:
    limited = {"lease": {"max_age": 600}}
    wire = await machine.start(limited)
    session = await wire.call("session.start")
    machine.clock.advance(300)
    await machine.kill(away=200)
    wire = await machine.start(limited)
    assert (await get(wire, session))["expires"] == session["expires"]
    machine.clock.advance(101)
    assert await ended(wire, session) == ("expired", "max_age")


async def test_lease_of_a_connection_ends_with_the_daemon_that_had_it(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", lease="connection")
    await machine.kill()
    wire = await machine.start()
    machine.clock.advance(15.1)
    assert await ended(wire, session) == ("expired", "lease")
    assert machine.engine.empty


async def test_reader_of_a_connection_s_session_never_notices_a_restart(machine: Machine) -> None:
    """N2: its connection ended with the daemon, not because nobody wants it; so it ends with its reader."""
    wire = await machine.start()
    session = await wire.call("session.start", lease="connection")
    listens(machine, session)
    reports(machine, session, frames=7, consumers=1)
    wire = await machine.restart()
    supervisor = machine.daemon.supervisor
    record = supervisor.registry.get(session["session_id"])
    await until(lambda: not supervisor.leases.bounds(record, "lease"), "its reader is seen")
    machine.clock.advance(3600)
    assert (await get(wire, session))["phase"] == "running"
    reports(machine, session, frames=9, consumers=0)
    await until(lambda: record.phase == "ended" or idles(machine), "nobody wants it any more")
    assert await ended(wire, session) == ("expired", "lease")


def idles(machine: Machine) -> bool:
    """Let the time pass in which a watch looks again."""
    machine.clock.advance(2.6)
    return False


async def test_session_that_nobody_reads_from_ends_in_another_life_too(machine: Machine) -> None:
    limited = {"lease": {"idle_timeout": 80}}
    wire = await machine.start(limited)
    session = await wire.call("session.start")
    line = '{"type":"listening","stage":"segmentation"}'
    machine.world.write(session["segmentation"], line)
    await machine.kill(away=10)
    wire = await machine.start(limited)
    supervisor = machine.daemon.supervisor
    record = supervisor.registry.get(session["session_id"])
    machine.clock.advance(30)
    await until(lambda: supervisor.leases.bounds(record, "idle"), "it is seen that nobody reads")
    machine.clock.advance(81)
    assert await ended(wire, session) == ("expired", "idle")


async def test_session_that_nobody_has_read_ends_when_it_was_to_in_another_life(
    machine: Machine,
) -> None:
    """N2: nobody's session outlives its bound because the daemon was started anew."""
    wire = await machine.start()
    session = await wire.call("session.start")
    listens(machine, session)
    machine.clock.advance(300)
    wire = await machine.restart(away=200)
    found = await get(wire, session)
    assert (found["expires"], found["unread_since"]) == (session["expires"], session["started"])
    machine.clock.advance(101)
    assert await ended(wire, session) == ("expired", "unread")
    assert machine.engine.empty


async def test_that_it_was_read_is_known_in_another_life(machine: Machine) -> None:
    """N2: once somebody has read it the bound is gone for good, whatever its log still has."""
    wire = await machine.start()
    session = await wire.call("session.start")
    assert "expires" in session
    listens(machine, session)
    reads(machine, session)
    supervisor = machine.daemon.supervisor
    record = supervisor.registry.get(session["session_id"])
    await until(lambda: not supervisor.leases.bounds(record, "unread"), "it is seen to be read")
    await machine.settled()
    machine.world.containers[session["segmentation"]].lines.clear()
    listens(machine, session)
    wire = await machine.restart()
    machine.clock.advance(6000)
    found = await get(wire, session)
    assert found["phase"] == "running"
    assert {"expires", "unread_since"}.isdisjoint(found)


async def test_reader_that_came_while_the_daemon_was_away_keeps_the_session(
    machine: Machine,
) -> None:
    """N2: a bound that has passed meanwhile ends nothing before somebody has looked."""
    wire = await machine.start()
    session = await wire.call("session.start")
    assert "expires" in session
    listens(machine, session)
    reads(machine, session)
    wire = await machine.restart(away=3600)
    supervisor = machine.daemon.supervisor
    record = supervisor.registry.get(session["session_id"])
    await until(lambda: not supervisor.leases.bounds(record, "unread"), "it is seen to be read")
    assert (await get(wire, session))["phase"] == "running"


def listens(machine: Machine, session: Json) -> None:
    line = '{"type":"listening","stage":"segmentation"}'
    machine.world.write(session["segmentation"], line)


def reads(machine: Machine, session: Json) -> None:
    reports(machine, session, frames=7, consumers=0)


def reports(machine: Machine, session: Json, **counters: int) -> None:
    line = {"type": "report", "stage": "segmentation", **counters, "blocked": 0}
    machine.world.write(session["segmentation"], json.dumps(line, separators=(",", ":")))


# A clock that is set

AGES = 20_000 * 86_400.0
"""Twenty thousand days: what a machine without a battery is behind when it starts."""


async def test_clock_that_is_set_right_between_two_lives_ends_no_lease(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """F7: what is left of a lease is what it would be had nobody touched the clock."""
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 600})
    machine.clock.set_wall(AGES)
    wire = await machine.restart(away=100)
    found = await get(wire, session)
    assert found["phase"] == "running"
    assert found["expires"] == rfc3339(machine.clock.wall() + 500)
    assert "the clock was set" in caplog.text
    machine.clock.advance(501)
    assert await ended(wire, session) == ("expired", "lease")


@pytest.mark.parametrize("jump", [AGES, -AGES], ids=["on", "back"])
async def test_clock_that_is_set_changes_what_is_shown_and_nothing_else(
    machine: Machine, jump: float
) -> None:
    """F7: while the daemon runs, an end by the clock is put right, and comes when it was to."""
    wire = await machine.start({"lease": {"max_age": 900}})
    leased = await wire.call("session.start", lease={"ttl": 600})
    old = await wire.call("session.start", plain_stream=True)
    machine.clock.advance(100)
    machine.clock.set_wall(jump)
    assert (await get(wire, leased))["expires"] == rfc3339(machine.clock.wall() + 500)
    assert (await get(wire, old))["expires"] == rfc3339(machine.clock.wall() + 500)
    wire = await machine.restart()
    assert (await get(wire, leased))["expires"] == rfc3339(machine.clock.wall() + 500)
    machine.clock.advance(499)
    assert (await get(wire, leased))["phase"] == "running"
    machine.clock.advance(2)
    assert await ended(wire, leased) == ("expired", "lease")


@pytest.mark.parametrize("jump", [AGES, -AGES], ids=["on", "back"])
async def test_after_another_boot_a_clock_out_of_reason_is_not_believed(
    machine: Machine, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    """F7: of two ages the smaller one counts, and the log says so."""
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 600})
    await machine.kill(away=jump)
    wire = await machine.start()
    found = await get(wire, session)
    assert found["phase"] == "running"
    assert found["expires"] == rfc3339(machine.clock.wall() + 600)
    assert "leases go by the smaller age" in caplog.text


async def test_clock_that_is_set_gives_up_nobody_who_waits(machine: Machine) -> None:
    """F7: neither the deadline nor the lease of a request in the queue runs out by it."""
    config = {"limits": {"sessions": 1}}
    wire = await machine.start(config)
    first = await wire.call("session.start")
    waiting = await accepted(wire, deadline=600, lease={"ttl": 900})
    machine.clock.set_wall(AGES)
    await machine.settled()
    clock = machine.clock
    await machine.kill()
    machine.clock = clock
    wire = await machine.start(config)
    assert (await get(wire, waiting))["phase"] == "queued"
    await wire.call("session.stop", session_id=first["session_id"])
    found = await running(wire, waiting)
    assert found["expires"] == rfc3339(machine.clock.wall() + 900)


async def test_row_of_an_older_daemon_keeps_its_lease(machine: Machine) -> None:
    """F7: rows without moments are read by the time of day."""
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 100})
    await machine.settled()
    await machine.kill()
    forget_moments(machine.state_dir / "journal.sqlite")
    machine.clock.advance(60)
    wire = await machine.start()
    assert (await get(wire, session))["expires"] == session["expires"]
    machine.clock.advance(41)
    assert await ended(wire, session) == ("expired", "lease")


def forget_moments(journal: Path) -> None:
    """Leave of each row what a daemon wrote that knew nothing of them."""
    with closing(sqlite3.connect(journal)) as base:
        for session_id, data in base.execute("SELECT id, data FROM session").fetchall():
            row = {
                k: v for k, v in json.loads(data).items() if k not in ("written", "unread_limit")
            }
            base.execute(
                "UPDATE session SET data = ? WHERE id = ?", (json.dumps(row).encode(), session_id)
            )
        base.commit()


# The same request


async def test_same_key_gives_the_same_session_in_another_life(machine: Machine) -> None:
    request = {"request_key": "k", "count": 500, "lease": {"ttl": 60}, "deadline": 30, "env": {}}
    wire = await machine.start()
    session = await wire.call("session.start", **request)
    await machine.kill()
    wire = await machine.start()
    assert await wire.call("session.start", **request) == {**session, "joined": True}
    refused = await wire.refusal("session.start", **{**request, "count": 501})
    assert refused.type == "conflict"
    other = await wire.call("session.start", **request, owner="somebody else")
    assert other["session_id"] != session["session_id"]


async def test_same_key_gives_an_ended_session_in_another_life(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", request_key="k")
    done = await wire.call("session.stop", session_id=session["session_id"])
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    found = await wire.call("session.start", request_key="k")
    assert (found["session_id"], found["phase"]) == (done["session_id"], "ended")
    assert (await wire.refusal("session.start", request_key="k", count=9)).type == "conflict"


async def test_key_of_a_start_that_came_to_nothing_can_be_used_again(machine: Machine) -> None:
    wire = await machine.start()
    gate = machine.engine.script.hold("create")
    wire.begin("session.start", request_key="k")
    await gate.reached.wait()
    await machine.kill()
    wire = await machine.start()
    again = await wire.call("session.start", request_key="k")
    assert again["phase"] == "running"


# Those that wait


async def test_accepted_request_waits_on_and_has_its_turn(small: Machine) -> None:
    wire = await small.start()
    holders = [await wire.call("session.start") for _ in range(2)]
    first, second = await accepted(wire), await accepted(wire, priority=0)
    await small.settled()
    await small.kill(away=5)
    wire = await small.start()
    found = await get(wire, first)
    assert (found["phase"], found["position"]) == ("queued", 1)
    assert "2 of 2 sessions" in found["reason"]
    assert found["created"] == first["created"]
    assert (await get(wire, second))["position"] == 2
    await wire.call("session.stop", session_id=holders[0]["session_id"])
    await running(wire, first)
    assert (await get(wire, second))["position"] == 1


async def test_age_in_the_queue_goes_on(small: Machine) -> None:
    wire = await small.start()
    holders = [await wire.call("session.start") for _ in range(2)]
    patient = await accepted(wire)
    small.clock.advance(100)
    await small.settled()
    await small.kill(away=100)
    wire = await small.start()
    hasty = await accepted(wire, priority=2)
    assert (await get(wire, patient))["position"] == 1, "200 s are worth three levels"
    await wire.call("session.stop", session_id=holders[0]["session_id"])
    await running(wire, patient)
    assert (await get(wire, hasty))["phase"] == "queued"


async def test_deadline_goes_on_while_the_daemon_is_away(small: Machine) -> None:
    wire = await small.start()
    for _ in range(2):
        await wire.call("session.start")
    late = await accepted(wire, deadline=100)
    later = await accepted(wire, deadline=200)
    await small.settled()
    await small.kill(away=110)
    wire = await small.start()
    found = await get(wire, late)
    assert (found["outcome"], found["cause"]) == ("refused", "deadline")
    assert (await get(wire, later))["phase"] == "queued"
    small.clock.advance(91)
    assert await ended(wire, later) == ("refused", "deadline")


async def test_request_whose_requester_waited_ends(small: Machine) -> None:
    wire = await small.start()
    for _ in range(2):
        await wire.call("session.start")
    waiting = await small.wire()
    waiting.begin("session.start")
    session_id = (await waiting.note(lambda note: note["stage"] == "queue"))["session_id"]
    bound = await accepted(wire, lease="connection")
    await small.settled()
    await small.kill()
    wire = await small.start()
    for each in (session_id, bound["session_id"]):
        found = await get(wire, each)
        assert (found["outcome"], found["cause"]) == ("stopped", "client")
        assert "connection that waited is gone" in found["reason"]
    assert (await wire.call("system.status"))["queue"]["length"] == 0


async def test_most_urgent_of_those_who_wait_goes_first_though_all_fit_again(
    small: Machine,
) -> None:
    wire = await small.start()
    holders = [await wire.call("session.start") for _ in range(2)]
    ordinary = await accepted(wire)
    urgent = [await accepted(wire, priority=5) for _ in range(2)]
    await small.settled()
    await small.kill()
    for each in holders:
        for stage in ("probe", "stream", "segmentation"):
            small.world.end(each[stage])
    wire = await small.start()
    for each in urgent:
        await running(wire, each)
    assert (await get(wire, ordinary))["phase"] == "queued"


# Those that were being started or stopped

BEFORE = ["image_ids", "create_network", "create", "start", "connect_stage", "inspect"]
AFTER = ["create_network", "create", "start", "connect_stage"]


async def half_started(machine: Machine, operation: str, took_effect: bool) -> str:
    """Kill the daemon in the middle of a start; return the session's id."""
    wire = await machine.start()
    script = machine.engine.script
    reached = machine.engine.swallow(operation) if took_effect else script.hold(operation).reached
    wire.begin("session.start", lease={"ttl": 60})
    await reached.wait()
    [record] = machine.daemon.supervisor.registry.living()
    await machine.kill()
    return record.id


async def test_request_that_is_repeated_while_its_half_start_is_undone_is_told_no_step(
    machine: Machine,
) -> None:
    """It was an earlier daemon's start, which has not said how far it came."""
    wire = await machine.start()
    script, asked = machine.engine.script, {"request_key": "k", "lease": {"ttl": 60}}
    reached = script.hold("start").reached
    wire.begin("session.start", **asked)
    await reached.wait()
    await machine.kill()
    removal = script.hold("remove_network")
    wire = await machine.start()
    await removal.reached.wait()
    again = wire.begin("session.start", **asked)
    await wire.call("system.ping")
    removal.open.set()
    with pytest.raises(Refused) as refused:
        await wire.reply(again)
    assert refused.value.type == "start_failed"
    assert "the daemon ended while the session was being started" in refused.value.message
    assert "step" not in refused.value.data


@pytest.mark.parametrize(
    ("operation", "took_effect"),
    [*((each, False) for each in BEFORE), *((each, True) for each in AFTER)],
)
async def test_half_started_session_is_rolled_back(
    machine: Machine, operation: str, took_effect: bool
) -> None:
    session_id = await half_started(machine, operation, took_effect)
    wire = await machine.start()
    found = await wire.call("session.wait", session_id=session_id)
    assert (found["outcome"], found["cause"]) == ("failed", "restart")
    assert "while the session was being started" in found["reason"]
    assert machine.engine.empty
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 0
    assert (await wire.call("session.start"))["phase"] == "running"


async def test_daemon_that_dies_again_while_it_rolls_back(machine: Machine) -> None:
    session_id = await half_started(machine, "start", took_effect=True)
    for operation in ("remove", "remove_network"):
        gate = machine.engine.script.hold(operation)
        await machine.start()
        await gate.reached.wait()
        await machine.kill()
    wire = await machine.start()
    found = await wire.call("session.wait", session_id=session_id)
    assert (found["outcome"], found["cause"]) == ("failed", "restart")
    assert machine.engine.empty
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 0


async def test_stream_whose_requester_was_never_told_is_taken_on_if_it_was_written_down(
    machine: Machine,
) -> None:
    wire = await machine.start()
    session = await accepted(wire)
    await until(
        lambda: any(row.phase == "running" for row in machine.daemon.journal.living()),
        "it is written down",
    )
    await machine.kill()
    wire = await machine.start()
    assert (await get(wire, session))["phase"] == "running"


async def test_daemon_does_not_begin_with_another_engine_than_where_its_sessions_are(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be said to have failed, and be removed as nobody's once the first engine is there again."""
    wire = await machine.start()
    session = await wire.call("session.start")
    await machine.kill()
    with monkeypatch.context() as patch:
        patch.setattr(machine.engine, "name", "other")
        with pytest.raises(
            base.NotOurs, match="may still run on the engine fake, and this one is o"
        ):
            await machine.start()
        await machine.stop()
    wire = await machine.start()
    assert await get(wire, session) == session
    await wire.call("session.stop", session_id=session["session_id"])
    await machine.kill()
    monkeypatch.setattr(machine.engine, "name", "other")
    [found] = (await (await machine.start()).call("session.list"))["sessions"]
    assert (found["session_id"], found["outcome"]) == (session["session_id"], "stopped")


@pytest.mark.parametrize("operation", ["stop", "logs", "remove", "remove_network"])
async def test_stopping_goes_on(machine: Machine, operation: str) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    gate = machine.engine.script.hold(operation)
    wire.begin("session.stop", session_id=session["session_id"], grace=0.1)
    await gate.reached.wait()
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    assert await ended(wire, session) == ("stopped", "client")
    assert machine.engine.empty


# Room


async def test_who_was_taken_on_has_its_place(small: Machine) -> None:
    wire = await small.start()
    holders = [await wire.call("session.start") for _ in range(2)]
    await small.kill()
    wire = await small.start()
    refused = await wire.refusal("session.start", on_shortage="refuse")
    assert (refused.type, refused.data["dimension"]) == ("no_capacity", "sessions")
    third = await accepted(wire)
    assert (await get(wire, third))["phase"] == "queued"
    await wire.call("session.stop", session_id=holders[1]["session_id"])
    await running(wire, third)
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 2


async def test_what_is_rolled_back_has_its_place_until_it_is_gone(small: Machine) -> None:
    await half_started(small, "create", took_effect=True)
    gate = small.engine.script.hold("remove")
    wire = await small.start()
    await gate.reached.wait()
    await wire.call("session.start")
    third = await accepted(wire)
    assert (await get(wire, third))["phase"] == "queued"
    gate.open.set()
    await running(wire, third)


async def test_older_request_does_not_take_the_room_of_a_younger_session(tmp_path: Path) -> None:
    stage = {"image": "demo-stream", "port": 12346, "env": {"fps": 10}, "memory": "64MiB"}
    overlay = {
        "pipelines": {
            "large": {"stages": {"serve": {**stage, "cpus": 4}}},
            "little": {"stages": {"serve": {**stage, "cpus": 2}}},
        },
        "system_reserved": {"cpus": 0, "memory": 0},
    }
    machine = Machine(tmp_path / "state", overlay)
    wire = await machine.start()
    holder = await wire.call("session.start", pipeline="little", count=10_000)
    large = await accepted(wire, pipeline="large")
    passing = await running(wire, await accepted(wire, pipeline="little", count=10))
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    for each in (holder, passing):
        assert (await get(wire, each))["phase"] == "running"
    assert (await get(wire, large))["phase"] == "queued"
    assert (await wire.call("system.status"))["reserved"]["cpus"] == 4
    await machine.close()


WITH_DEVICES = {
    "pipelines": {
        "seeing": {
            "stages": {
                "serve": {"image": "demo-stream", "port": 12346, "gpus": 1, "memory": "64MiB"}
            }
        }
    },
    "system_reserved": {"memory": 0},
}
TWO_DEVICES = [{"id": "left", "memory": "8GiB"}, {"id": "right", "memory": "8GiB"}]


def devices(world: World) -> list[str]:
    return sorted(gpu for each in world.containers.values() for gpu in each.plan.gpus)


@pytest.mark.parametrize("how", ["configured", "found"])
async def test_no_device_is_handed_out_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def found() -> list[Gpu]:
        return [Gpu(8 << 30, each["id"]) for each in TWO_DEVICES]

    monkeypatch.setattr("operatord.daemon.counting.find_gpus", found)
    gpus = {"gpus": TWO_DEVICES if how == "configured" else "auto"}
    machine = Machine(tmp_path / "state", WITH_DEVICES, gpus)
    wire = await machine.start()
    first = await wire.call("session.start", pipeline="seeing")
    await machine.kill()
    wire = await machine.start()
    await wire.call("session.start", pipeline="seeing")
    assert devices(machine.world) == ["left", "right"]
    third = await accepted(wire, pipeline="seeing")
    assert (await get(wire, third))["phase"] == "queued"
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    assert (await get(wire, third))["phase"] == "queued", "not refused for want of devices"
    await wire.call("session.stop", session_id=first["session_id"])
    await running(wire, third)
    assert devices(machine.world) == ["left", "right"]
    await machine.close()


async def test_no_subnet_is_handed_out_twice(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_in_use(_: object) -> list[str]:
        return []

    monkeypatch.setattr(Lasting, "subnets_in_use", none_in_use)
    wire = await machine.start()
    for _ in range(2):
        await wire.call("session.start")
    await machine.kill()
    wire = await machine.start()
    await wire.call("session.start")
    calls = [operation for operation, _ in machine.engine.script.calls]
    assert calls.count("create_network") == 3, "none was in vain"


# Degraded ones

CLINIC = {
    "pipelines": {
        "segmented": {
            "stages": {
                "probe": {"cpus": 0.5},
                "stream": {"cpus": 0.5},
                "segmentation": {"cpus": 2, "cpu_limit": 2},
            }
        }
    },
    "system_reserved": {"cpus": 0},
}


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Machine]:
    """Four cores: one session whole and one plain, but not two whole."""
    machine = Machine(tmp_path / "state", CLINIC)
    yield machine
    await machine.close()


async def degraded(machine: Machine) -> tuple[Wire, Json, Json]:
    """Have a session that has all, and one that waits for the rest."""
    wire = await machine.start()
    whole = await wire.call("session.start")
    plain = await wire.call("session.start", on_shortage="degrade")
    assert plain["degraded"] is True
    return wire, whole, plain


async def test_degraded_session_waits_on_for_the_rest_and_gets_it(clinic: Machine) -> None:
    _, whole, plain = await degraded(clinic)
    await clinic.kill()
    wire = await clinic.start()
    assert await get(wire, plain) == plain
    assert (await wire.call("system.status"))["queue"]["attaching"] == 1
    await wire.call("events.subscribe")
    await wire.call("session.stop", session_id=whole["session_id"])
    await wire.event("session.attached", plain["session_id"])
    found = await get(wire, plain)
    assert (found["degraded"], found["plain_location"]) == (False, plain["location"])
    assert (await wire.call("system.status"))["reserved"]["cpus"] == 3


async def test_attached_stage_is_taken_on_and_its_loss_costs_only_itself(clinic: Machine) -> None:
    wire, whole, plain = await degraded(clinic)
    await wire.call("events.subscribe")
    await wire.call("session.stop", session_id=whole["session_id"])
    await wire.event("session.attached", plain["session_id"])
    before = await get(wire, plain)
    await clinic.settled()
    await clinic.kill()
    wire = await clinic.start()
    assert await get(wire, plain) == before
    await wire.call("events.subscribe")
    clinic.world.end(before["segmentation"], 3)
    await wire.event("session.detached", plain["session_id"])
    found = await get(wire, plain)
    assert (found["phase"], found["degraded"]) == ("running", True)
    assert found["location"] == plain["location"]
    assert (await wire.call("system.status"))["reserved"]["cpus"] == 1


@pytest.mark.parametrize("extended", [False, True], ids=["", "noted meanwhile"])
async def test_daemon_that_dies_while_it_attaches_begins_that_anew(
    clinic: Machine, extended: bool
) -> None:
    wire = await clinic.start()
    whole = await wire.call("session.start")
    plain = await wire.call("session.start", on_shortage="degrade", lease={"ttl": 60})
    created = clinic.engine.swallow("create")
    await wire.call("session.stop", session_id=whole["session_id"])
    await created.wait()
    if extended:
        await wire.call("session.extend", session_id=plain["session_id"], ttl=90)
        await clinic.settled()
    await clinic.kill()
    wire = await clinic.start()
    await until(lambda: len(clinic.world.containers) == 3, "the stage is there")
    await wire.call("events.subscribe", since=0)
    await wire.event("session.attached", plain["session_id"])
    assert (await wire.call("system.status"))["reserved"]["cpus"] == 3
    assert (await get(wire, plain))["degraded"] is False
    assert len(clinic.world.containers) == 3, "what had been made before is used or removed"
    await wire.call("session.stop", session_id=plain["session_id"])
    assert clinic.engine.empty


# The engine


async def test_nothing_is_decided_before_the_engine_answers(small: Machine) -> None:
    wire = await small.start()
    session, other = [await wire.call("session.start", plain_stream=True) for _ in range(2)]
    patient = await accepted(wire, deadline=500)
    gate = small.engine.script.hold("stop")
    wire.begin("session.stop", session_id=other["session_id"])
    await gate.reached.wait()
    await small.settled()
    await small.kill()
    small.world.lose()
    small.world.end(session["stream"], 7)
    small.world.write(other["stream"], "last words")
    wire = await small.start()
    assert (await get(wire, session))["phase"] == "running"
    assert (await get(wire, other))["phase"] == "stopping"
    found = await get(wire, patient)
    assert found["phase"] == "queued"
    assert "engine" in found["reason"]
    assert (await wire.refusal("session.start")).type == "engine_unavailable"
    small.world.come_back()
    assert await ended(wire, session) == ("failed", "engine_lost")
    assert await ended(wire, other) == ("stopped", "client")
    logs = await wire.call("session.logs", session_id=other["session_id"], stage="stream")
    assert [line["line"] for line in logs["lines"]] == ["last words"]
    await running(wire, patient)


async def test_request_can_be_stopped_while_the_engine_does_not_answer_yet(small: Machine) -> None:
    wire = await small.start()
    for _ in range(2):
        await wire.call("session.start")
    patient = await accepted(wire)
    await small.settled()
    await small.kill()
    small.world.lose()
    wire = await small.start()
    await wire.call("session.stop", session_id=patient["session_id"])
    small.world.come_back()
    await until(lambda: small.daemon.supervisor.availability.problem is None, "the engine answers")
    assert await ended(wire, patient) == ("stopped", "client")
    assert (await wire.call("system.status"))["queue"]["length"] == 0


async def test_container_that_died_meanwhile_fails_its_session_with_its_exit(
    machine: Machine,
) -> None:
    wire = await machine.start()
    session, vanished = [await wire.call("session.start") for _ in range(2)]
    await machine.kill()
    machine.world.write(session["stream"], "out of ideas")
    machine.world.end(session["stream"], 3)
    machine.world.vanish(vanished["stream"])
    wire = await machine.start()
    assert await ended(wire, session) == ("failed", "exit")
    found = await get(wire, session)
    assert found["exit_codes"]["stream"] == 3
    assert "ended with code 3" in found["reason"]
    assert await ended(wire, vanished) == ("failed", "exit")
    assert "removed by somebody else" in (await get(wire, vanished))["reason"]
    assert machine.engine.empty


async def test_stage_that_was_killed_meanwhile_is_told_apart_from_one_that_is_killed_later(
    machine: Machine,
) -> None:
    wire = await machine.start()
    session, out_of_memory, later = [await wire.call("session.start") for _ in range(3)]
    await machine.kill()
    machine.world.end(session["stream"], 137)
    machine.world.end(out_of_memory["stream"], 137, oom=True)
    wire = await machine.start()
    assert await ended(wire, session) == ("failed", "exit")
    reason = (await get(wire, session))["reason"]
    assert reason == "the stage 'stream' was killed by signal 9 (SIGKILL) while no daemon watched"
    assert await ended(wire, out_of_memory) == ("failed", "oom")
    machine.world.end(later["stream"], 137)
    assert await ended(wire, later) == ("failed", "exit")
    assert (await get(wire, later))["reason"] == "the stage 'stream' ended with code 137"


@pytest.mark.parametrize("comes_back", [True, False])
async def test_stage_that_was_restarted_meanwhile_fails_its_session(
    machine: Machine, comes_back: bool
) -> None:
    """F2: what was written down of its start tells, or that its start has failed since."""
    wire = await machine.start()
    session, other = [await wire.call("session.start") for _ in range(2)]
    for each in (session, other):
        record = machine.daemon.supervisor.registry.get(each["session_id"])
        await until(lambda record=record: len(record.observed.runs) == 3, "all were looked at")
    await machine.settled()
    await machine.kill()
    stream = machine.world.containers[session["stream"]]
    machine.world.restart(stream.id)
    if not comes_back:
        machine.world.end(stream.id, 127)
        stream.start_failed, stream.began = True, stream.began - 1 if stream.began else None
    wire = await machine.start()
    assert await ended(wire, session) == ("failed", "exit")
    reason = (await get(wire, session))["reason"]
    assert reason == "the stage 'stream' was restarted from outside"
    assert (await get(wire, other))["phase"] == "running"


async def test_stream_that_came_to_its_end_meanwhile_is_completed(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", count=3)
    await machine.kill()
    for stage in ("probe", "stream", "segmentation"):
        machine.world.end(session[stage])
    wire = await machine.start()
    assert await ended(wire, session) == ("completed", "done")
    assert machine.engine.empty


async def test_exit_that_was_seen_but_not_acted_upon_is_seen_again(clinic: Machine) -> None:
    wire = await clinic.start()
    session = await wire.call("session.start", lease={"ttl": 60})
    for stage in ("probe", "stream", "segmentation"):
        record = clinic.daemon.supervisor.registry.get(session["session_id"])
        state = base.StageState(id=session[stage], status="exited", exit_code=0)
        record.observed.exits[stage] = state
    await wire.call("session.extend", session_id=session["session_id"], ttl=90)
    await clinic.settled()
    await clinic.kill()
    for stage in ("probe", "stream", "segmentation"):
        clinic.world.end(session[stage])
    wire = await clinic.start()
    assert await ended(wire, session) == ("completed", "done")


# Orphans


async def orphan(machine: Machine, instance: str = "test", session: str = "F00D" * 4) -> str:
    """Have a container in a network of its own on the engine, that no session knows."""
    labels = {base.LABEL_INSTANCE: instance, base.LABEL_SESSION: session}
    plan = NetworkPlan(name=f"n{session}{instance}", subnet="192.0.2.0/28", labels=labels)
    network_id = f"network-{session}-{instance}"
    machine.world.networks[network_id] = plan
    network = Network(id=network_id, name=plan.name, gateway="192.0.2.1")
    stage = StagePlan(
        name=f"c{session}{instance}", stage="probe", image="demo-probe", network=network, env={},
        labels=labels, port=1,
    )  # fmt: skip
    return await machine.engine.create(stage)


async def test_orphans_are_removed_after_a_grace_and_others_never(machine: Machine) -> None:
    await machine.start()
    mine, theirs = await orphan(machine), await orphan(machine, instance="other")
    look = machine.daemon.reconciler.look
    await look()
    machine.clock.advance(9)
    await look()
    assert mine in machine.world.containers
    machine.clock.advance(1.1)
    await look()
    assert list(machine.world.containers) == [theirs]
    assert list(machine.world.networks) == [f"network-{'F00D' * 4}-other"]


async def test_object_that_a_living_session_has_is_no_orphan(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    await machine.kill()
    wire = await machine.start()
    stray = await orphan(machine, session=session["session_id"])
    await machine.daemon.reconciler.look()
    machine.clock.advance(11)
    await machine.daemon.reconciler.look()
    assert stray not in machine.world.containers, "its labels are the session's, and it is not"
    assert await get(wire, session) == session
    assert len(machine.world.containers) == 3


async def test_what_an_ended_session_left_needs_no_grace(machine: Machine) -> None:
    """S6: nobody can come for it any more."""
    wire = await machine.start()
    session = await wire.call("session.start")
    await wire.call("session.stop", session_id=session["session_id"])
    left, unknown = await orphan(machine, session=session["session_id"]), await orphan(machine)
    await machine.daemon.reconciler.look()
    assert left not in machine.world.containers
    assert unknown in machine.world.containers


async def test_orphan_that_turns_out_to_be_somebodys_is_not_removed(machine: Machine) -> None:
    """S6: between the list that it is due by, and the one right before the removal."""
    wire = await machine.start()
    session = await wire.call("session.start")
    stray = await orphan(machine, session=session["session_id"])
    gone = await orphan(machine)
    look, script = machine.daemon.reconciler.look, machine.engine.script
    await look()
    machine.clock.advance(11)
    first, second = script.hold("list_objects"), script.hold("list_objects")
    looking = asyncio.create_task(look())
    first.open.set()
    await second.reached.wait()
    machine.daemon.supervisor.registry.get(session["session_id"]).provisioned.containers[
        "probe"
    ] = stray
    machine.world.vanish(gone)
    second.open.set()
    await looking
    assert stray in machine.world.containers
    assert ("remove", gone) not in script.calls, "who is not listed any more is not asked for"


async def test_stage_that_is_being_attached_is_no_orphan_before_its_id_is_known(
    clinic: Machine,
) -> None:
    """S6: however long its creation takes; what a session has left over afterwards is one."""
    wire, whole, plain = await degraded(clinic)
    made = clinic.engine.swallow("create")
    gate = clinic.engine._swallowed["create"]
    await wire.call("session.stop", session_id=whole["session_id"])
    await made.wait()
    before = set(clinic.world.containers)
    for _ in range(2):
        await clinic.daemon.reconciler.look()
        clinic.clock.advance(11)
    await clinic.daemon.reconciler.look()
    assert set(clinic.world.containers) == before
    await wire.call("events.subscribe", types=["session.attached"])
    gate.open.set()
    await wire.event("session.attached")
    stray = await orphan(clinic, session=plain["session_id"])
    await look_for_long(clinic)
    assert stray not in clinic.world.containers
    assert (await get(wire, plain))["degraded"] is False


async def test_slot_that_was_being_made_is_known_to_the_next_life(machine: Machine) -> None:
    """S7: it is written down before there is anything of it, so it needs no grace."""
    made = machine.engine.swallow("create")
    await machine.start({"pipelines": {"segmented": {"warm": 1}}})
    await made.wait()
    assert not machine.engine.empty
    await machine.kill()
    await machine.start()
    await machine.daemon.reconciler.look()
    assert machine.engine.empty


async def test_slots_that_cannot_be_read_keep_no_daemon_from_starting(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """F8: what they have on the engine is an orphan like any other."""
    await machine.start()
    machine.daemon.journal.note_fact(SLOTS, b'{"not": "a list"}')
    await machine.daemon.journal.settled()
    await machine.kill()
    await machine.start()
    assert "slots of an earlier life cannot be read" in caplog.text


async def test_orphan_that_cannot_be_removed_does_not_count_as_a_lost_engine(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    await machine.start()
    mine = await orphan(machine)
    await machine.daemon.reconciler.look()
    machine.clock.advance(11)
    machine.engine.script.fail("remove", StageRefused("somebody holds on to it"))
    await machine.daemon.reconciler.look()
    assert "is not all removed" in caplog.text
    assert mine in machine.world.containers
    await machine.daemon.reconciler.look()
    assert not machine.world.containers


async def test_lost_engine_is_noticed_while_orphans_are_removed(machine: Machine) -> None:
    await machine.start()
    await orphan(machine)
    await machine.daemon.reconciler.look()
    machine.clock.advance(11)
    machine.engine.script.fail("remove", EngineUnavailable("gone"))
    with pytest.raises(EngineUnavailable):
        await machine.daemon.reconciler.look()


async def without_its_journal(machine: Machine, how: str) -> tuple[Wire, Json]:
    """Have a daemon that does not know the session that runs on its engine; return both."""
    wire = await machine.start()
    session = await wire.call("session.start")
    await machine.kill()
    journal = machine.state_dir / "journal.sqlite"
    if how == "damaged":
        journal.write_bytes(b"gibberish " * 999)
    else:
        for each in machine.state_dir.glob("journal.sqlite*"):
            each.unlink()
    wire = await machine.start()
    assert (await wire.call("session.list"))["sessions"] == []
    return wire, session


async def look_for_long(machine: Machine) -> None:
    await machine.daemon.reconciler.look()
    machine.clock.advance(11)
    await machine.daemon.reconciler.look()


@pytest.mark.parametrize("how", ["damaged", "moved away"])
async def test_what_runs_is_left_alone_when_its_journal_is_lost(
    machine: Machine, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """F8: however often the daemon looks, and in the life after that one; and it says so."""
    wire, session = await without_its_journal(machine, how)
    for _ in range(2):
        await look_for_long(machine)
        assert set(machine.world.containers) == {session[name] for name in STAGES}
        left = (await wire.call("system.status"))["engine"]["left_alone"]
        assert (left["sessions"], left["objects"]) == (1, 4)
        assert "operatord sweep --forgotten" in left["advice"]
        await machine.stop()
        wire = await machine.start()
    assert "4 objects of 1 sessions run that the journal does not know" in caplog.text
    other = await wire.call("session.start")
    await wire.call("session.stop", session_id=other["session_id"])
    assert set(machine.world.containers) == {session[name] for name in STAGES}


async def test_session_that_was_a_slot_when_the_backup_was_made_is_left_alone(
    machine: Machine, tmp_path: Path
) -> None:
    """F8: the journal that is put back knew it as a slot, which is nobody's to remove any more."""
    wire = await machine.start({"pipelines": {"segmented": {"warm": 1}}})
    await until(lambda: bool(machine.daemon.supervisor.slots.ready("segmented")), "a slot is ready")
    await machine.daemon.journal.settled()
    journal, copy = machine.state_dir / "journal.sqlite", tmp_path / "copy"
    copy_journal(journal, copy, machine.daemon.instance)
    session = await wire.call("session.start")
    assert session["warm"] is True
    await machine.kill()
    for each in machine.state_dir.glob("journal.sqlite*"):
        each.unlink()
    journal.write_bytes(copy.read_bytes())
    wire = await machine.start()
    await look_for_long(machine)
    assert {session[name] for name in STAGES} <= set(machine.world.containers)
    assert (await wire.call("system.status"))["engine"]["left_alone"]["sessions"] == 1


async def test_what_the_lost_journal_knew_goes_when_it_has_ended(machine: Machine) -> None:
    """F8: then nobody can need it; and from then on nothing is unknown."""
    wire, session = await without_its_journal(machine, "damaged")
    await look_for_long(machine)
    for name in STAGES:
        assert machine.world.containers[session[name]].status == "running"
        machine.world.end(session[name])
    await look_for_long(machine)
    assert machine.engine.empty
    await machine.daemon.reconciler.look()
    assert "left_alone" not in (await wire.call("system.status"))["engine"]
    stray = await orphan(machine)
    await machine.engine.start(stray)
    await look_for_long(machine)
    assert machine.engine.empty


async def test_what_the_lost_journal_knew_goes_when_somebody_says_so(machine: Machine) -> None:
    """F8: a sweep leaves it alone, too, unless it is told to remove what is forgotten."""
    await without_its_journal(machine, "damaged")
    said: list[str] = []
    config = settings(machine.state_dir)

    def make_engine() -> FakeEngine:
        return FakeEngine("test", machine.world)

    options = Options(said.append, lambda _: None, 0.0, make_engine=make_engine)
    assert await sweep_once(config, options)
    assert said == ["nothing is left over"]
    assert len(machine.world.containers) == 3
    assert await sweep_once(config, options._replace(forgotten=True))
    assert machine.engine.empty


async def test_journal_of_a_newer_version_is_a_sentence_and_costs_nothing(machine: Machine) -> None:
    """F8: after a rollback of operatord, what runs is waited for by the newer one's journal."""
    wire = await machine.start()
    session = await wire.call("session.start")
    await machine.kill()
    journal = machine.state_dir / "journal.sqlite"
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA user_version = 2")
    said = await refuses(machine.state_dir)
    assert "version 2" in said and "start the newer operatord" in said
    assert len(machine.world.containers) == 3
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA user_version = 1")
    wire = await machine.start()
    assert (await get(wire, session))["phase"] == "running"


# Relays


async def register_here(machine: Machine, wire: Wire) -> int:
    """Register a probe that only this host can reach from now on, as "scope"; return its port."""
    lender = (await wire.call("session.start"))["location"]
    port: int = lender["port"]
    await wire.call("probe.register", name="scope", host="127.0.0.1", port=port)
    machine.engine.gateway = "127.0.0.1"
    return port


async def test_relay_goes_on_in_another_life_and_ends_with_its_session(machine: Machine) -> None:
    wire = await machine.start()
    port = await register_here(machine, wire)
    session = await wire.call("session.start", probe="scope")
    [relay] = relays_to(port)
    await machine.kill()
    wire = await machine.start()
    assert await get(wire, session) == session
    assert relays_to(port) == [relay]
    await wire.call("session.stop", session_id=session["session_id"])
    assert relays_to(port) == []


async def test_relay_of_a_start_that_fails_is_ended(machine: Machine) -> None:
    wire = await machine.start()
    port = await register_here(machine, wire)
    machine.engine.script.fail("start", StageRefused("not today"))
    await wire.refusal("session.start", probe="scope")
    assert relays_to(port) == []


async def test_session_whose_relay_is_dead_ends_like_any(machine: Machine) -> None:
    wire = await machine.start()
    port = await register_here(machine, wire)
    session = await wire.call("session.start", probe="scope")
    [relay] = relays_to(port)
    os.kill(relay, signal.SIGKILL)
    await wire.call("session.stop", session_id=session["session_id"])
    assert not psutil.pid_exists(relay)


async def test_relay_that_was_let_stay_for_a_session_that_never_ran_is_ended(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def never_write(_: SessionWriter, record: SessionRecord) -> None:
        reached.set()
        await asyncio.Event().wait()

    wire = await machine.start()
    port = await register_here(machine, wire)
    monkeypatch.setattr(SessionWriter, "write_running", never_write)
    session = await accepted(wire, probe="scope")
    await reached.wait()
    assert len(relays_to(port)) == 1
    await machine.kill()
    wire = await machine.start()
    assert await ended(wire, session) == ("failed", "restart")
    assert relays_to(port) == []


async def test_relay_of_a_session_that_a_sweep_removes_is_ended(machine: Machine) -> None:
    wire = await machine.start()
    port = await register_here(machine, wire)
    session = await wire.call("session.start", probe="scope")
    gate = machine.engine.script.hold("stop")
    wire.begin("session.stop", session_id=session["session_id"])
    await gate.reached.wait()
    await machine.kill()
    config = settings(machine.state_dir)
    options = Options(str, str, 0.0, make_engine=lambda: FakeEngine("test", machine.world))
    assert await sweep_once(config, options._replace(dry_run=True))
    assert len(relays_to(port)) == 1
    assert await sweep_once(config, options)
    assert relays_to(port) == []


# What else is remembered


async def test_registered_probe_is_known_in_another_life(machine: Machine) -> None:
    wire = await machine.start()
    location = (await wire.call("session.start"))["location"]
    address = {"host": location["host"], "port": location["port"]}
    await wire.call("probe.register", name="scope", **address, labels={"room": "3"})
    await wire.call("probe.register", name="passing", **address, lease="connection")
    await wire.call("probe.register", name="once-pinned", **address)
    await wire.call("probe.register", name="once-pinned", **address, lease="connection")
    await wire.call("probe.register", name="gone", **address)
    await wire.call("probe.remove", name="gone")
    before = await wire.call("probe.get", name="scope")
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    assert (await wire.call("probe.list"))["probes"] == [before]
    session = await wire.call("session.start", probe="scope")
    assert session["registered_probe"] == "scope"
    await machine.kill()
    wire = await machine.start()
    refused = await wire.refusal("probe.remove", name="scope")
    assert refused.data["sessions"] == [session["session_id"]]


async def test_what_was_learned_is_known_in_another_life(machine: Machine) -> None:
    wire = await machine.start()
    learned = machine.daemon.supervisor.admission.learned
    for _ in range(30):
        learned.note("segmented", "stream", Use(cpus=700, memory=300 << 20), young=False)
    before = (await wire.call("pipeline.list"))["pipelines"]
    await machine.stop()
    wire = await machine.start()
    assert (await wire.call("pipeline.list"))["pipelines"] == before
    again = machine.daemon.supervisor.admission.learned
    assert again.to_dict() == learned.to_dict()
    assert again.of("segmented", "stream") is not None


async def test_history_is_readable_in_another_life(machine: Machine) -> None:
    wire = await machine.start()
    sessions = [await wire.call("session.start", owner="anna")]
    machine.clock.advance(1)
    sessions.append(await wire.call("session.start", owner="ben"))
    machine.world.write(sessions[0]["stream"], "the last thing it said")
    done = [await wire.call("session.stop", session_id=each["session_id"]) for each in sessions]
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    asked = [await wire.call("session.get", session_id=each["session_id"]) for each in done]
    assert asked == done
    listed = (await wire.call("session.list", phase="ended"))["sessions"]
    assert [each["session_id"] for each in listed] == [each["session_id"] for each in done[::-1]]
    [of_anna] = (await wire.call("session.list", owner="anna"))["sessions"]
    assert of_anna["session_id"] == done[0]["session_id"]
    logs = await wire.call("session.logs", session_id=done[0]["session_id"], stage="stream")
    assert [line["line"] for line in logs["lines"]] == ["the last thing it said"]
    assert (await wire.call("system.status"))["sessions"]["ended"] == 2


async def test_session_that_cannot_be_read_any_more_hides_no_other(machine: Machine) -> None:
    wire = await machine.start()
    bad, good = [await wire.call("session.start", request_key=key) for key in ("b", "g")]
    for each in (bad, good):
        await wire.call("session.stop", session_id=each["session_id"])
    await machine.stop()
    with closing(sqlite3.connect(machine.state_dir / "journal.sqlite")) as db, db:
        db.execute("UPDATE session SET data = ? WHERE id = ?", (b"{", bad["session_id"]))
    wire = await machine.start()
    [listed] = (await wire.call("session.list"))["sessions"]
    assert listed["session_id"] == good["session_id"]
    refused = await wire.refusal("session.get", session_id=bad["session_id"])
    assert refused.type == "not_found"
    again = await wire.call("session.start", request_key="b")
    assert again["phase"] == "running"


def spoil(machine: Machine, session: Json, data: bytes = b"{") -> None:
    """Make what the journal says of a session unreadable, while no daemon runs."""
    with closing(sqlite3.connect(machine.state_dir / "journal.sqlite")) as db, db:
        db.execute("UPDATE session SET data = ? WHERE id = ?", (data, session["session_id"]))


async def test_nonsense_that_an_earlier_version_wrote_down_of_reports_is_passed_over(
    machine: Machine,
) -> None:
    """A10: earlier versions wrote down whatever a stage had said."""
    wire = await machine.start()
    session = await wire.call("session.start")
    await wire.call("session.stop", session_id=session["session_id"])
    await machine.stop()
    with closing(sqlite3.connect(machine.state_dir / "journal.sqlite")) as db, db:
        [[data]] = db.execute("SELECT data FROM session")
        said = {"segmentation": {"frames": True, "dice_mean": "x", "oops": [1]}}
        db.execute(
            "UPDATE session SET data = ?", (json.dumps(json.loads(data) | {"reports": said}),)
        )
    wire = await machine.start()
    found = await get(wire, session)
    assert found["outcome"] == "stopped"
    assert "frames" not in found


async def test_living_session_that_cannot_be_read_any_more_fails_and_touches_no_other(
    machine: Machine,
) -> None:
    wire = await machine.start()
    bad, good = [await wire.call("session.start", owner=owner) for owner in ("anna", "ben")]
    await machine.stop()
    spoil(machine, bad, b'{"plan":')
    wire = await machine.start()
    assert await ended(wire, bad) == ("failed", "internal")
    told = await get(wire, bad)
    assert (told["owner"], told["created"]) == ("anna", bad["created"])
    assert "cannot be read" in told["reason"]
    assert told["post_mortem"]["advice"]
    assert await get(wire, good) == good
    assert {c.plan.labels[base.LABEL_SESSION] for c in machine.world.containers.values()} == {
        good["session_id"]
    }, "what it had is removed"
    assert len(machine.world.networks) == 1
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 1
    assert machine.daemon.journal.fact(f"unreadable.{bad['session_id']}") == b'{"plan":'
    await wire.call("events.subscribe", since=0)
    assert (await wire.event("session.ended", bad["session_id"]))["cause"] == "internal"


async def test_session_that_cannot_be_read_is_complained_of_once(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await machine.start()
    bad = await wire.call("session.start")
    await machine.stop()
    spoil(machine, bad)
    wire = await machine.start()
    [error] = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert f"session {bad['session_id']} cannot be read" in error
    assert f"'unreadable.{bad['session_id']}'" in error, "it says where to find what was written"
    await ended(wire, bad)
    await machine.settled()
    for leave in (machine.kill, machine.stop):
        caplog.clear()
        await leave()
        wire = await machine.start()
        assert await ended(wire, bad) == ("failed", "internal")
        assert "cannot be read from the journal" not in caplog.text


async def test_session_that_cannot_be_read_is_removed_on_in_a_third_life(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await machine.start()
    bad = await wire.call("session.start")
    await machine.stop()
    spoil(machine, bad)
    removal = machine.engine.script.hold("remove")
    await machine.start()
    await removal.reached.wait()
    await machine.kill()
    caplog.clear()
    wire = await machine.start()
    assert await ended(wire, bad) == ("failed", "internal")
    assert machine.engine.empty
    assert "cannot be read from the journal" not in caplog.text


async def test_session_that_cannot_be_read_is_kept_until_the_engine_answers(
    machine: Machine,
) -> None:
    wire = await machine.start()
    bad = await wire.call("session.start")
    await machine.stop()
    spoil(machine, bad)
    machine.world.lose()
    wire = await machine.start()
    assert (await get(wire, bad))["phase"] == "stopping"
    assert not machine.engine.empty
    machine.world.come_back()
    assert await ended(wire, bad) == ("failed", "internal")
    assert machine.engine.empty


async def test_request_whose_session_cannot_be_read_may_be_made_again(small: Machine) -> None:
    wire = await small.start()
    bad = await wire.call("session.start", request_key="k")
    waiting = [await accepted(wire, request_key=key) for key in ("l", "m")][1]
    await small.stop()
    for each in (bad, waiting):
        spoil(small, each)
    wire = await small.start()
    assert await ended(wire, waiting) == ("failed", "internal")
    again = await wire.call("session.start", request_key="k")
    assert again["session_id"] != bad["session_id"]
    assert again["phase"] == "running"


async def test_flipped_bit_in_what_is_remembered_never_keeps_the_daemon_from_serving(
    small: Machine,
) -> None:
    wire = await small.start()
    for key in ("a", "b"):
        await wire.call("session.start", request_key=key, lease={"ttl": 1000})
    await small.stop()
    file = small.state_dir / "journal.sqlite"
    good = file.read_bytes()
    places = [place for place, byte in enumerate(good) if byte and place >= 100]
    chance = random.Random(20260101)
    for place in chance.sample(places, 40):
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        file.write_bytes(bad)
        wire = await small.start()
        await wire.call("session.list")
        await wire.call("events.subscribe", since=0)
        assert (await wire.call("system.ping"))["pong"]
        await small.kill()


async def test_report_that_cannot_be_written_down_costs_only_itself(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    report = r'{"type":"report","stage":"segmentation","frames":5,"oops":"\ud800"}'
    machine.world.write(session["segmentation"], report)
    found = await wire.call("session.stop", session_id=session["session_id"])
    assert (found["outcome"], machine.engine.empty) == ("stopped", True)
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 0
    await machine.stop()
    wire = await machine.start()
    assert (await get(wire, session))["outcome"] == "stopped"


# Events


async def numbers(wire: Wire, since: int) -> list[int | str]:
    """Return the numbers of all events after ``since``, and a word for each gap."""
    seq = (await wire.call("events.subscribe", since=since))["seq"]
    found: list[int | str] = []
    last = since
    while last < seq:
        event = await wire.note()
        if event["type"] == "events.lost":
            assert event["from"] == last + 1
            found.append("lost")
            last = event["to"]
        else:
            assert event["seq"] == last + 1
            found.append(last := event["seq"])
    assert last == seq
    return found


async def test_events_go_on_without_a_gap_after_a_clean_restart(machine: Machine) -> None:
    wire = await machine.start()
    first = await wire.call("session.start")
    seen = (await wire.call("events.subscribe"))["seq"]
    await machine.stop()
    wire = await machine.start()
    await wire.call("session.stop", session_id=first["session_id"])
    found = await numbers(wire, seen)
    assert found == list(range(seen + 1, seen + 1 + len(found)))
    assert len(found) >= 2
    late = await machine.wire()
    assert (await numbers(late, 0))[:seen] == list(range(1, seen + 1)), "all of it, from the first"


async def test_events_after_a_kill_have_one_gap_that_is_told_at_once(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    seen = (await wire.call("events.subscribe"))["seq"]
    await machine.kill()
    wire = await machine.start()
    assert await numbers(wire, seen) == ["lost"]
    await wire.call("session.stop", session_id=session["session_id"])
    late = await machine.wire()
    found = await numbers(late, seen)
    assert (found[0], found.count("lost")) == ("lost", 1)
    assert len(found) == 3


async def test_number_is_never_used_twice_though_the_last_ones_were_not_written_down(
    machine: Machine,
) -> None:
    used: set[int] = set()
    for _ in range(3):
        wire = await machine.start()
        await machine.settled()
        await wire.call("events.subscribe")
        for number in range(700):  # at once, so that nothing of it is committed
            machine.daemon.events.emit("probe.up", name=f"p{number}")
        fresh = {(await wire.note())["seq"] for _ in range(700)}
        assert not used & fresh
        used |= fresh
        await machine.kill()


# A disk that is full


async def test_nothing_is_started_while_nothing_can_be_written_down(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.01)
    wire = await machine.start()
    session = await wire.call("session.start")
    await machine.settled()
    connection = machine.daemon.journal._connection
    connection.execute("PRAGMA max_page_count = 1")
    machine.daemon.journal.note_fact("large", bytes(100_000))
    await until(lambda: machine.daemon.journal.problem is not None, "the disk is full")
    waiting = await accepted(wire)
    found = await get(wire, waiting)
    assert found["phase"] == "queued"
    assert "disk is full" in found["reason"]
    status = await wire.call("system.status")
    assert "disk is full" in status["queue"]["reason"]
    assert (await get(wire, session))["phase"] == "running", "what runs goes on"
    stopped = await wire.call("session.stop", session_id=session["session_id"])
    assert stopped["outcome"] == "stopped", "and can be ended"
    connection.execute("PRAGMA max_page_count = 100000")
    await running(wire, waiting)
    assert "reason" not in (await wire.call("system.status"))["queue"]
    await machine.settled()
    await machine.kill()
    wire = await machine.start()
    assert (await get(wire, session))["outcome"] == "stopped", "nothing was lost"


async def test_start_under_way_when_the_disk_fills_up_is_good(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await machine.start()
    gate = machine.engine.script.hold("start")
    start = wire.begin("session.start")
    await gate.reached.wait()
    await machine.settled()
    machine.daemon.journal._connection.execute("PRAGMA max_page_count = 1")
    machine.daemon.journal.note_fact("large", bytes(100_000))
    await until(lambda: machine.daemon.journal.problem is not None, "the disk is full")
    gate.open.set()
    assert (await wire.reply(start))["phase"] == "running"
    machine.daemon.journal._connection.execute("PRAGMA max_page_count = 100000")


async def test_start_that_finds_the_disk_full_is_refused_for_the_disk(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await machine.start()
    await machine.settled()
    go_on = threading.Event()
    monkeypatch.setattr(journal_module, "hit", lambda _: go_on.wait(PATIENCE))
    machine.daemon.journal._connection.execute("PRAGMA max_page_count = 1")
    machine.daemon.journal.note_fact("large", bytes(100_000))
    start = wire.begin("session.start")
    await wire.note(lambda note: note["stage"] == "queue")
    go_on.set()
    with pytest.raises(Refused) as caught:
        await wire.reply(start)
    assert (caught.value.type, caught.value.data["dimension"]) == ("no_capacity", "disk")
    assert caught.value.data["retryable"] is True
    assert machine.engine.empty
    assert "create_network" not in [each for each, _ in machine.engine.script.calls]
    machine.daemon.journal._connection.execute("PRAGMA max_page_count = 100000")


async def test_disk_that_is_full_from_the_start_is_told_before_anybody_can_ask(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def full(_: str) -> None:
        go_on.wait(PATIENCE)
        raise sqlite3.OperationalError("database or disk is full")

    caplog.set_level("INFO")
    monkeypatch.setattr(journal_module, "hit", full)
    starting = asyncio.ensure_future(machine.start())
    await until(lambda: "fake 0 answers" in caplog.text, "the engine has answered")
    await asyncio.wait((starting,), timeout=0.05)
    early = "listening on" in caplog.text
    go_on.set()
    wire = await starting
    assert not early
    assert caplog.text.index("the journal cannot be written") < caplog.text.index("listening on")
    refused = await wire.refusal("session.start", on_shortage="refuse")
    assert (refused.type, refused.data["dimension"]) == ("no_capacity", "disk")
    assert "disk is full" in refused.message
    monkeypatch.undo()


# Where nothing can be written at all


def as_nobody() -> tuple[str, ...]:
    """Return what drops the rights of root, who may write everywhere."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    below = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    if subprocess.run(
        [*below, sys.executable, "-c", ""], capture_output=True, check=False
    ).returncode:
        pytest.skip("this Python is root's alone")
    return below


async def refuses(state_dir: Path, *below: str) -> str:
    """Serve where that is impossible; return the one sentence that it says."""
    command = (*below, OPERATORD, "serve", "--listen", "127.0.0.1:0", "--engine", "process")
    code, out, err = await run(*command, "--state-dir", str(state_dir), env=clean_env())
    assert (code, out) == (1, "")
    return err.splitlines()[-1]  # what is open to others is closed with a line of its own before


async def test_state_directory_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    state = tmp_path / "s"
    state.mkdir(mode=0o500)
    if os.geteuid() == 0:
        os.chown(state, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o555)
    said = await refuses(state, *as_nobody())
    assert "Permission denied" in said
    assert str(state) in said


async def test_journal_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    state = tmp_path / "s"
    async with served(state, "--engine", "process"):
        pass
    (state / "journal.sqlite").unlink()
    (state / "journal.sqlite").mkdir()
    said = await refuses(state)
    assert f"{state / 'journal.sqlite'} is a directory, and must be a file" in said


async def test_journal_of_somebody_else_is_a_sentence_and_stays_where_it_is(
    tmp_path: Path,
) -> None:
    below = as_nobody()
    if not below:
        pytest.skip("only root can make files of somebody else's")
    state = tmp_path / "s"
    async with served(state, "--engine", "process"):
        pass
    before = (state / "journal.sqlite").read_bytes()
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o555)
    state.chmod(0o777)
    (state / "lock").chmod(0o666)
    said = await refuses(state, *below)
    assert "belongs to another user" in said
    assert (state / "journal.sqlite").read_bytes() == before


async def test_damaged_journal_does_not_keep_the_daemon_from_serving(tmp_path: Path) -> None:
    state = tmp_path / "s"
    arguments = ("--engine", "process")
    async with served(state, *arguments) as daemon:
        await daemon.stop()
    (state / "journal.sqlite").write_bytes(b"gibberish " * 999)
    async with served(state, *arguments) as daemon:
        entry = await daemon.logged("cannot be read")
        assert entry is not None
        assert entry["level"] == "error"
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True, count=3)
        assert len((await receive(session["location"]))[1]) == 3
        await wire.close()
    assert [each for each in state.iterdir() if "unreadable" in each.name]
