# SPDX-License-Identifier: MIT
"""A state directory that an earlier operatord has left is taken on as it is: `recorded` has its journal.

It is never recorded anew: what is read here is what somebody's machine has on its disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from daemon_lab import Json, Wire, settings, until
from fake_engine import Container, FakeEngine, World
from test_restart import LaterClock, Machine

from operatord.engines import base
from operatord.simulation.recorded import read
from operatord.state.sweep import CannotSweep, Options, sweep_once
from operatord.state.targets import CannotDo
from operatord.state.trace_export import NothingRecorded, export_trace
from operatord.state.upkeep import backup, restore
from operatord.store.journal_file import JOURNAL

RECORDED = Path(__file__).parent / "recorded"
KILLED = 1_767_226_655.0
"""Seconds since the epoch when the daemon was killed that wrote it."""
RUNNING, SLOT = "7AD152F17983690E", "82B8FD43F035A301"
SETTINGS = {"limits": {"sessions": 4, "sessions_per_owner": 1}}
STARTED = {
    SLOT: {"segmentation": 2, "probe": 3, "stream": 4},
    RUNNING: {"stream": 9, "probe": 10},
}
"""What was on the engine: of each session the stages, with the numbers of their containers."""
NETWORKS = {
    SLOT: ("network-000001", "198.18.0.0/28"),
    RUNNING: ("network-000008", "198.18.0.32/28"),
}
RUNS = {9: 6.0, 10: 7.0}
"""By the same numbers, when the engine had started them: with another value they were restarted."""


@pytest.fixture
def views() -> dict[str, Json]:
    """What the daemon that was killed had said last of each session."""
    found: dict[str, Json] = json.loads((RECORDED / "views.json").read_text("utf-8"))
    return found


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """A machine as it was left, half a minute later and after another boot."""
    machine = Machine(tmp_path / "state", SETTINGS)
    write_journal(machine.state_dir)
    put_back(machine.world)
    machine.clock = LaterClock(KILLED + 30)
    yield machine
    await machine.close()


def write_journal(state_dir: Path) -> None:
    with closing(sqlite3.connect(state_dir / JOURNAL)) as db:
        db.executescript((RECORDED / "journal.sql").read_text("utf-8"))


def put_back(world: World) -> None:
    """Have on the engine what was there."""
    for session_id, (network_id, subnet) in NETWORKS.items():
        labels = {base.LABEL_INSTANCE: "test", base.LABEL_SESSION: session_id}
        network = base.Network(network_id, f"network_{session_id[:5]}")
        world.networks[network_id] = base.NetworkPlan(network.name, subnet, labels)
        for stage, number in STARTED[session_id].items():
            image, of_stage = f"demo-{stage}", {**labels, base.LABEL_STAGE: stage}
            plan = base.StagePlan(
                f"{stage}_{session_id[:5]}", stage, image, network, {}, of_stage, 1
            )
            made = Container(
                f"container-{number:06d}", plan, "running", began=RUNS.get(number, 1.0)
            )
            world.containers[made.id] = made
    world.begin_after(10)


async def get(wire: Wire, view: Json) -> Json:
    found: Json = await wire.call("session.get", session_id=view["session_id"])
    return found


async def test_sessions_are_as_they_were(machine: Machine, views: Mapping[str, Json]) -> None:
    wire = await machine.start()
    ended = {**views["ended"]}
    del ended["location"]  # was shown when this was recorded, and delivered nothing
    expected = {**views, "ended": ended}
    assert {name: await get(wire, view) for name, view in views.items()} == expected
    listed = (await wire.call("session.list"))["sessions"]
    newest_first = [views[name]["session_id"] for name in ("waiting", "running", "ended")]
    assert [each["session_id"] for each in listed] == newest_first
    asked = {"owner": "anna", "plain_stream": True, "lease": {"ttl": 3600}, "priority": 2}
    again = await wire.call("session.start", request_key="k2", **asked)
    assert again["session_id"] == RUNNING


async def test_what_waited_starts_when_what_ran_has_ended(
    machine: Machine, views: Mapping[str, Json]
) -> None:
    wire = await machine.start()
    await wire.call("session.stop", session_id=RUNNING)
    waiting = views["waiting"]["session_id"]
    began = await wire.call("session.wait", session_id=waiting, phase="running")
    assert (began["phase"], began["owner"], began["count"]) == ("running", "anna", 7)
    await wire.call("session.stop", session_id=waiting)
    await until(lambda: not machine.world.containers, "the slot has gone as well")


async def test_probes_events_and_their_numbers_go_on(
    machine: Machine, views: Mapping[str, Json]
) -> None:
    wire = await machine.start()
    [scope] = (await wire.call("probe.list"))["probes"]
    assert (scope["name"], scope["port"], scope["labels"]) == ("scope", 49000, {"room": "3"})
    await wire.call("events.subscribe", since=1, session_id=views["ended"]["session_id"])
    event = await wire.event("session.ended")
    assert (event["seq"], event["reason"]) == (6, "the stage 'stream' ended with code 3")
    assert machine.daemon.events.seq >= 1000, "numbers up to the mark may have been used"


async def test_slots_of_the_earlier_daemon_go_and_nothing_else(machine: Machine) -> None:
    await machine.start()
    await machine.daemon.reconciler.look()
    kept = {f"container-{number:06d}" for number in STARTED[RUNNING].values()}
    assert machine.world.containers.keys() == kept
    assert machine.world.networks.keys() == {"network-000008"}


def without_waiting(machine: Machine) -> Options:
    return Options(str, str, 0.0, make_engine=lambda: FakeEngine("test", machine.world))


async def test_commands_read_it_without_a_daemon(
    machine: Machine, views: Mapping[str, Json], tmp_path: Path
) -> None:
    assert export_trace(machine.state_dir, tmp_path / "trace.json") == 1
    [job] = read(tmp_path / "trace.json")
    assert (job.owner, job.seconds) == ("bert", 20.0)
    said: list[str] = []
    options = Options(said.append, str, 0.0, make_engine=lambda: FakeEngine("test", machine.world))
    assert await sweep_once(settings(machine.state_dir), options)
    assert len(said) == 4, "three containers and a network of the slot"
    assert set(machine.world.networks) == {"network-000008"}
    copy = tmp_path / "another"
    assert "the journal of instance test" in backup(machine.state_dir, tmp_path / "backup")
    copy.mkdir()
    restore(tmp_path / "backup", copy)
    wire = await machine.start()
    assert await get(wire, views["running"]) == views["running"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (JOURNAL, "is in the state directory"),
        ("new.jsonl", "is in the state directory"),
        ("settings.yaml", "has the settings"),
        ("thesis.txt", "is not a trace"),
    ],
)
def test_a_trace_takes_the_place_of_nothing_else(
    machine: Machine, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "settings.yaml").write_text("engine: process")
    (tmp_path / "thesis.txt").write_text("All is water.")
    place = (machine.state_dir if "state directory" in said else tmp_path) / name
    before = place.read_bytes() if place.exists() else None
    with pytest.raises(CannotDo, match=said):
        export_trace(machine.state_dir, place, tmp_path / "settings.yaml")
    assert (place.read_bytes() if place.exists() else None) == before
    for _ in range(2):  # the second takes the place of the first
        assert export_trace(machine.state_dir, tmp_path / "trace.jsonl") == 1


def test_a_backup_takes_the_place_of_nothing_else(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "scan.new").write_text("three weeks of work")
    patients = tmp_path / "patients.db"
    with closing(sqlite3.connect(patients)) as db, db:
        db.execute("CREATE TABLE patient (name)")
    another = tmp_path / "another.sqlite"
    another.write_bytes((machine.state_dir / JOURNAL).read_bytes())
    before = patients.read_bytes()
    for other in (patients, another):
        with pytest.raises(CannotDo, match="not one that `operatord backup` wrote"):
            backup(machine.state_dir, other, force=True)
    assert patients.read_bytes() == before
    for _ in range(2):  # the second takes the place of the first
        backup(machine.state_dir, tmp_path / "scan", force=True)
    assert (tmp_path / "scan.new").read_text() == "three weeks of work"
    assert not list(tmp_path.glob(".*.new"))


async def test_commands_say_of_a_newer_journal_that_they_cannot_read_it(
    machine: Machine, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(machine.state_dir / JOURNAL)) as db:
        db.execute("PRAGMA user_version = 2")
    newer = "is of version 2, and this operatord reads versions up to 1: use the newer operatord"
    with pytest.raises(NothingRecorded, match=newer):
        export_trace(machine.state_dir, tmp_path / "trace.json")
    with pytest.raises(CannotDo, match=newer):
        backup(machine.state_dir, tmp_path / "backup")
    with pytest.raises(CannotSweep, match=newer):
        await sweep_once(settings(machine.state_dir), without_waiting(machine))
    assert len(machine.world.containers) == 5
