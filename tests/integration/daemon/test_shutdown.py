# SPDX-License-Identifier: MIT
"""The daemon is told to end: what goes on without it, what it waits for, and what everybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from daemon_lab import PATIENCE, Json, Refused, Served, Wire, served, until
from test_restart import CLINIC, Machine, accepted, ended, get, running

STOP = {"on_shutdown": "stop"}
PROCESS = ("--engine", "process")


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "state")
    yield machine
    await machine.close()


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[tuple[Machine, Wire, Json]]:
    """A machine with one place, and who has it."""
    machine = Machine(tmp_path / "state", {"limits": {"sessions": 1}})
    wire = await machine.start()
    yield machine, wire, await wire.call("session.start")
    await machine.close()


@contextlib.asynccontextmanager
async def ending(machine: Machine) -> AsyncIterator[asyncio.Task[None]]:
    """Have the daemon shutting down; afterwards it is gone, and another can be started."""
    daemon = machine.daemon
    stopping = asyncio.create_task(daemon.stop())
    await until(lambda: daemon.supervisor.draining, "it has begun to leave")
    yield stopping
    await stopping
    await machine.stop()


async def events_since(wire: Wire, seq: int) -> list[str]:
    """Return the types of all events after a number."""
    newest = (await wire.call("events.subscribe", since=seq))["seq"]
    found: list[Json] = []
    while not found or found[-1].get("seq", 0) < newest:
        found.append(await wire.note())
    return [each["type"] for each in found]


# Sessions go on


async def test_running_sessions_are_left_alone(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", lease={"ttl": 60})
    seen = (await wire.call("events.subscribe"))["seq"]
    calls = len(machine.engine.script.calls)
    await machine.stop(away=10)
    verbs = {operation for operation, _ in machine.engine.script.calls[calls:]}
    assert not verbs & {"stop", "remove", "remove_network"}
    wire = await machine.start()
    assert await get(wire, session) == session
    other = await machine.wire()
    await other.call("system.drain")
    assert await events_since(wire, seen) == ["drain.changed", "drain.changed"]


async def test_connections_are_ended(machine: Machine) -> None:
    wire = await machine.start()
    await wire.call("session.start")
    await machine.daemon.stop()
    assert await wire.at_end()


async def test_lease_of_a_connection_ends_in_the_next_life(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start", lease="connection")
    await machine.stop()
    assert not machine.engine.empty
    wire = await machine.start()
    machine.clock.advance(15.1)  # in which a reader would have been seen
    assert await ended(wire, session) == ("expired", "lease")
    assert machine.engine.empty


async def test_start_under_way_is_finished_and_answered(machine: Machine) -> None:
    wire = await machine.start()
    gate = machine.engine.script.hold("start")
    start = wire.begin("session.start")
    await gate.reached.wait()
    async with ending(machine) as stopping:
        await asyncio.wait((stopping,), timeout=0.02)
        assert not stopping.done()
        gate.open.set()
        session = await wire.reply(start)
        assert session["phase"] == "running"
    wire = await machine.start()
    assert await get(wire, session) == session


async def test_all_who_wait_for_the_same_start_are_answered(machine: Machine) -> None:
    wires = [await machine.start(), await machine.wire(), await machine.wire()]
    gate = machine.engine.script.hold("inspect")
    starts = [wires[0].begin("session.start", request_key="k")]
    await gate.reached.wait()
    starts += [wire.begin("session.start", request_key="k") for wire in wires[1:]]
    [record] = machine.daemon.supervisor.registry.living()
    await until(lambda: record.waiters == 3, "all wait for it")
    async with ending(machine):
        await asyncio.sleep(0)
        gate.open.set()
        sessions = [await w.reply(s) for w, s in zip(wires, starts, strict=True)]
        assert {each["session_id"] for each in sessions} == {record.id}


async def test_start_that_fails_meanwhile_is_rolled_back_and_answered(machine: Machine) -> None:
    wire = await machine.start()
    gate = machine.engine.script.hold("start")
    start = wire.begin("session.start")
    await gate.reached.wait()
    async with ending(machine):
        machine.world.programs.clear()
        for container in machine.world.containers.values():
            container.status = "exited"
        machine.world.containers.clear()
        gate.open.set()
        with pytest.raises(Refused, match="start_failed"):
            await wire.reply(start)
    assert machine.engine.empty


async def test_start_that_takes_too_long_is_left_to_the_next_life(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await machine.start({"shutdown_timeout": 0.1})
    gate = machine.engine.script.hold("create")
    wire.begin("session.start")
    await gate.reached.wait()
    [record] = machine.daemon.supervisor.registry.living()
    async with ending(machine):
        pass
    assert f"left to the next start: {record.id}" in caplog.text
    wire = await machine.start()
    found = await wire.call("session.wait", session_id=record.id)
    assert (found["outcome"], found["cause"]) == ("failed", "restart")
    assert machine.engine.empty


async def test_removal_under_way_is_finished_and_answered(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    gate = machine.engine.script.hold("remove")
    stop = wire.begin("session.stop", session_id=session["session_id"])
    await gate.reached.wait()
    async with ending(machine):
        gate.open.set()
        assert (await wire.reply(stop))["phase"] == "ended"
    assert machine.engine.empty


async def test_attaching_under_way_is_finished(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "state", CLINIC, {"shutdown_timeout": 600})
    wire = await machine.start()
    whole = await wire.call("session.start")
    plain = await wire.call("session.start", on_shortage="degrade")
    late = machine.engine.script.hold("create")
    await wire.call("session.stop", session_id=whole["session_id"])
    await late.reached.wait()
    async with ending(machine) as stopping:
        late.open.set()
        async with asyncio.timeout(PATIENCE):  # and not until the time for a shutdown is over
            await asyncio.shield(stopping)
    wire = await machine.start()
    found = await get(wire, plain)
    assert (found["degraded"], found["plain_location"]) == (False, plain["location"])
    await machine.close()


async def test_those_who_wait_for_their_turn_are_told(full: tuple[Machine, Wire, Json]) -> None:
    machine, _, holder = full
    waiting = [await machine.wire() for _ in range(2)]
    starts = [wire.begin("session.start") for wire in waiting]
    notes = [await wire.note(lambda note: note["stage"] == "queue") for wire in waiting]
    await machine.daemon.stop()
    for wire, start in zip(waiting, starts, strict=True):
        with pytest.raises(Refused) as caught:
            await wire.reply(start)
        assert (caught.value.type, caught.value.data["retryable"]) == ("draining", True)
        assert "shutting down" in caught.value.message
        assert await wire.at_end()
    await machine.stop()
    wire = await machine.start()
    assert (await get(wire, holder))["phase"] == "running"
    for note in notes:
        found = await get(wire, note["session_id"])
        assert (found["outcome"], found["cause"]) == ("stopped", "shutdown")


async def test_accepted_requests_wait_on(full: tuple[Machine, Wire, Json]) -> None:
    machine, wire, holder = full
    waiting = await accepted(wire)
    await machine.stop(away=60)
    wire = await machine.start()
    assert (await get(wire, waiting))["position"] == 1
    await wire.call("session.stop", session_id=holder["session_id"])
    await running(wire, waiting)


async def test_nothing_is_begun_any_more(full: tuple[Machine, Wire, Json]) -> None:
    machine, wire, holder = full
    waiting = await accepted(wire)
    gate = machine.engine.script.hold("remove")
    stop = wire.begin("session.stop", session_id=holder["session_id"])
    await gate.reached.wait()
    async with ending(machine):
        refused = wire.begin("session.start")
        with pytest.raises(Refused, match="draining"):
            await wire.reply(refused)
        gate.open.set()
        await wire.reply(stop)
    assert machine.engine.empty
    wire = await machine.start()
    await running(wire, waiting)


async def test_engine_that_is_lost_does_not_hold_up_the_end(machine: Machine) -> None:
    wire = await machine.start({"shutdown_timeout": 0.2})
    session = await wire.call("session.start")
    gate = machine.engine.script.hold("remove")
    wire.begin("session.stop", session_id=session["session_id"])
    await gate.reached.wait()
    machine.world.lose()
    gate.open.set()
    async with ending(machine):
        pass
    machine.world.come_back()
    wire = await machine.start()
    assert await ended(wire, session) == ("stopped", "client")
    assert machine.engine.empty


async def test_who_comes_second_waits_for_the_same_end(machine: Machine) -> None:
    await machine.start()
    daemon = machine.daemon
    await asyncio.gather(daemon.stop(), daemon.stop())
    await daemon.stop()


# Sessions end with the daemon


async def test_all_is_removed_when_that_is_wanted(machine: Machine) -> None:
    wire = await machine.start(STOP)
    sessions = [await wire.call("session.start") for _ in range(2)]
    await machine.stop()
    assert machine.engine.empty
    wire = await machine.start(STOP)
    for each in sessions:
        found = await get(wire, each)
        assert (found["outcome"], found["cause"]) == ("stopped", "shutdown")


async def test_all_who_wait_are_told_when_all_is_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "state", {"limits": {"sessions": 1}}, STOP)
    wire = await machine.start()
    gate = machine.engine.script.hold("create")
    start = wire.begin("session.start")
    await gate.reached.wait()
    waiting = await machine.wire()
    queued = waiting.begin("session.start")
    await waiting.note(lambda note: note["stage"] == "queue")
    async with ending(machine):
        gate.open.set()
        for each, request in ((wire, start), (waiting, queued)):
            with pytest.raises(Refused, match="shutting down"):
                await each.reply(request)
    assert machine.engine.empty
    await machine.close()


async def test_those_who_wait_while_nothing_runs_are_told_too(machine: Machine) -> None:
    for shutdown in ("keep", "stop"):
        wire = await machine.start({"on_shutdown": shutdown})
        machine.daemon.supervisor.note_journal("the disk is full")
        start = wire.begin("session.start")
        await wire.note(lambda note: note["stage"] == "queue")
        await machine.daemon.stop()
        with pytest.raises(Refused, match="shutting down"):
            await wire.reply(start)
        await machine.stop()


# Draining


async def test_drain_says_what_it_waits_for(machine: Machine) -> None:
    wire = await machine.start()
    sessions = [await wire.call("session.start") for _ in range(2)]
    ids = [each["session_id"] for each in sessions]
    drained = await wire.call("system.drain", timeout=0)
    assert drained == {"draining": True, "waiting_for": ids}
    await wire.call("session.stop", session_id=ids[0])
    assert (await wire.call("system.drain"))["waiting_for"] == ids[1:]


async def test_drain_answers_as_soon_as_all_have_ended(machine: Machine) -> None:
    wire = await machine.start()
    session = await wire.call("session.start")
    drain = wire.begin("system.drain", timeout=60)
    other = await machine.wire()
    await until(lambda: machine.daemon.supervisor.draining, "it drains")
    await other.call("session.stop", session_id=session["session_id"])
    assert await wire.reply(drain) == {"draining": True, "waiting_for": []}


async def test_draining_does_not_outlive_the_daemon(machine: Machine) -> None:
    wire = await machine.start()
    await wire.call("system.drain")
    await machine.stop()
    wire = await machine.start()
    assert (await wire.call("session.start"))["phase"] == "running"


# As a process


def processes_of(state_dir: Path) -> list[psutil.Process]:
    """Return the stages that work below a state directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(state_dir):
                found.append(process)
    return found


async def test_same_signal_again_leaves_at_once(tmp_path: Path) -> None:
    async with served(tmp_path / "s", *PROCESS, config={"stop_grace": 30}) as daemon:
        wire = await daemon.wire()
        await wire.call("session.start", plain_stream=True)
        stages = processes_of(daemon.state_dir)
        for stage in stages:
            stage.suspend()  # so that none ends before it is killed
        daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.logged("SIGTERM: stopping")
        await until(lambda: signalled_to_its_end(daemon), "it leaves")
        assert await daemon.ended() == 1
        assert await daemon.logged("SIGTERM again: leaving at once")
        assert not [entry for entry in daemon.log if entry.get("message") == "stopped"]
        await until(lambda: not any(map(psutil.Process.is_running, stages)), "they are gone")
        await wire.close()


def signalled_to_its_end(daemon: Served) -> bool:
    """Send one more SIGTERM, unless it has ended."""
    if daemon.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.process.pid, signal.SIGTERM)  # asyncio's own way would reap it
    return daemon.process.returncode is not None


async def test_two_signals_at_once_are_one_wish(tmp_path: Path) -> None:
    """F15: as coreutils' timeout sends them, or whoever stops a process group."""
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        for _ in range(2):
            daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert [e["message"] for e in daemon.log if "SIGTERM" in e.get("message", "")] == [
            "SIGTERM: stopping"
        ]
        await wire.close()
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        assert await ended(wire, session) == ("stopped", "shutdown")
        await wire.close()


async def test_local_processes_die_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    """F15: nobody is left to end them but what guards them."""
    daemon = await Served.start(tmp_path / "s", *PROCESS)
    wire = await daemon.wire()
    await wire.call("session.start", plain_stream=True)
    stages = processes_of(daemon.state_dir)
    assert len(stages) == 2
    stages[0].suspend()  # so that it cannot notice by itself that its pipe is broken
    guards = [p for p in psutil.Process(daemon.process.pid).children() if p not in stages]
    assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    await until(lambda: not any(p.is_running() for p in [*stages, *guards]), "they are gone")
    await wire.close()


def has_ended(process: psutil.Process) -> bool:
    """Tell whether it runs no more, waited for or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_killed_guard_is_replaced_with_the_next_stage(tmp_path: Path) -> None:
    """F15: a guard is a process like others, and may be killed."""
    daemon = await Served.start(tmp_path / "s", *PROCESS)
    wire = await daemon.wire()
    await wire.call("session.start", plain_stream=True)
    stages = processes_of(daemon.state_dir)
    for process in psutil.Process(daemon.process.pid).children():
        if process not in stages:
            process.kill()
            await until(functools.partial(has_ended, process), "it has died, which takes a moment")
    await wire.call("session.start", plain_stream=True)
    stages = processes_of(daemon.state_dir)
    assert len(stages) == 4
    for stage in stages:
        stage.suspend()
    assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    await until(lambda: not any(map(psutil.Process.is_running, stages)), "they are gone")
    await wire.close()


async def test_local_processes_end_with_their_daemon_whatever_is_wanted(tmp_path: Path) -> None:
    async with served(tmp_path / "s", *PROCESS, config={"on_shutdown": "keep"}) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        assert await daemon.stop() == 0
        assert processes_of(daemon.state_dir) == []
        await wire.close()
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        assert await ended(wire, session) == ("stopped", "shutdown")
        await wire.close()
