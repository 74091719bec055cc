# SPDX-License-Identifier: MIT
"""`operatord sweep`: what is left over goes, and nothing that somebody has."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from daemon_lab import (
    OPERATORD,
    PATIENCE,
    Json,
    Lab,
    StreamingFake,
    Wire,
    clean_env,
    in_process,
    left_of,
    run,
    served,
    settings,
)
from fake_engine import FakeEngine, World

from operatord.engines.base import (
    LABEL_INSTANCE,
    LABEL_SESSION,
    LABEL_STAGE,
    EngineUnavailable,
    Found,
    NetworkPlan,
    StagePlan,
)
from operatord.engines.process.engine import ProcessEngine
from operatord.state.sweep import CannotSweep, Options, Sweep, run_sweep, sweep_once

NOBODYS = "0123456789ABCDEF"
KEEP = {"on_shutdown": "keep", "shutdown_timeout": 0.05}


class Broom:
    """Sweeps the world of a fake engine, and has what was said."""

    def __init__(self, state_dir: Path, world: World) -> None:
        self.config = settings(state_dir)
        self.world = world
        self.said: list[str] = []
        self.notes: list[str] = []
        self.made: list[FakeEngine] = []
        self.prepare: Callable[[FakeEngine], None] = lambda engine: None

    def engine(self) -> FakeEngine:
        engine = FakeEngine("test", self.world)
        self.made.append(engine)
        self.prepare(engine)
        return engine

    def options(self, **more: Any) -> Options:
        return Options(self.said.append, self.notes.append, 0.0, make_engine=self.engine, **more)

    async def sweep(self, **more: Any) -> list[str]:
        """Sweep with success and return what was said."""
        self.said.clear()
        assert await sweep_once(self.config, self.options(**more))
        return list(self.said)


async def leave_over(
    engine: FakeEngine, session: str = NOBODYS, instance: str = "test", number: int = 1
) -> tuple[str, str]:
    """Put a network with a container there, with the labels of a session; return their ids."""
    labels = {LABEL_INSTANCE: instance, LABEL_SESSION: session}
    subnet = f"192.0.2.{16 * number}/28"
    network = await engine.create_network(NetworkPlan(f"network_{session[:5]}", subnet, labels))
    container = await engine.create(
        StagePlan(
            f"operatord_{session}_probe_{number}", "probe", "demo-probe", network, {},
            {**labels, LABEL_STAGE: "probe"}, 12345,
        )
    )  # fmt: skip
    return network.id, container


def on(world: World) -> set[str]:
    """Return the ids of all there is."""
    return {*world.containers, *world.networks}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Lab, Wire, Broom]]:
    """A daemon that works, and a broom beside it."""
    async with in_process(tmp_path / "s") as lab:
        lab.daemon.reconciler.grace = 1e9  # what is left over is left to the broom
        yield lab, await lab.wire(), Broom(tmp_path / "s", lab.fake.world)


# Beside a daemon


async def test_what_no_session_has_goes_containers_first(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, _, broom = running
    await leave_over(lab.fake)
    why = "the journal has no such session"
    assert await broom.sweep() == [
        f"removed container operatord_{NOBODYS}_probe_1 of session {NOBODYS}: {why}",
        f"removed network network_01234 of session {NOBODYS}: {why}",
    ]
    assert lab.fake.empty
    assert await broom.sweep() == ["nothing is left over"]
    assert "a daemon runs" in broom.notes[0]


async def test_session_that_runs_or_has_only_begun_is_not_touched(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, wire, broom = running
    await wire.call("session.start", plain_stream=True)
    gate = lab.fake.script.hold("start")
    starting = wire.begin("session.start", plain_stream=True)
    await gate.reached.wait()
    before = on(lab.fake.world)
    assert await broom.sweep() == ["nothing is left over"]
    assert on(lab.fake.world) == before
    gate.open.set()
    assert (await wire.reply(starting))["phase"] == "running"


async def test_session_that_is_being_removed_is_left_to_the_daemon(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, wire, broom = running
    session = await wire.call("session.start")
    gate = lab.fake.script.hold("remove_network")
    stopping = wire.begin("session.stop", session_id=session["session_id"])
    await gate.reached.wait()
    assert await broom.sweep() == ["nothing is left over"]
    assert len(lab.fake.world.networks) == 1
    gate.open.set()
    await wire.reply(stopping)


async def test_object_of_a_session_that_has_ended_is_said_to_be(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, wire, broom = running
    session = await wire.call("session.start")
    await wire.call("session.stop", session_id=session["session_id"])
    await lab.daemon.journal.settled()
    await leave_over(lab.fake, session["session_id"])
    assert {line.rpartition(": ")[2] for line in await broom.sweep()} == {"the session has ended"}


async def test_foreign_objects_and_those_of_other_instances_stay(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, _, broom = running
    theirs = await leave_over(lab.fake, instance="theirs")
    network = await lab.fake.create_network(NetworkPlan("network_01234", "192.0.2.64/28", {}))
    assert await broom.sweep() == ["nothing is left over"]
    assert on(lab.fake.world) == {*theirs, network.id}


async def test_engine_that_lists_what_is_not_ours_is_not_believed(tmp_path: Path) -> None:
    class Careless(FakeEngine):
        async def list_objects(self, instance: str) -> list[Found]:
            return await super().list_objects("theirs")

    async with in_process(tmp_path / "s") as lab:
        theirs = await leave_over(lab.fake, instance="theirs")
        sweep = Sweep(tmp_path / "s", "test", lambda: Careless("test", lab.fake.world))
        assert await sweep.look(alone=False) == {}
        assert on(lab.fake.world) == set(theirs)


async def test_session_that_begins_while_the_engine_lists_has_an_owner(
    running: tuple[Lab, Wire, Broom],
) -> None:
    """Which it would not have if the journal had been read before."""
    lab, wire, broom = running
    started: list[Json] = []

    class Slow(FakeEngine):
        async def list_objects(self, instance: str) -> list[Found]:
            started.append(await wire.call("session.start", plain_stream=True))
            return await super().list_objects(instance)

    sweep = Sweep(broom.config.state_path, "test", lambda: Slow("test", lab.fake.world))
    assert await sweep.look(alone=False) == {}
    assert len(started) == 1
    assert len(lab.fake.world.containers) == 2


async def test_only_what_both_looks_have_seen_goes(running: tuple[Lab, Wire, Broom]) -> None:
    lab, _, broom = running
    first = await leave_over(lab.fake)
    later: list[tuple[str, str]] = []

    class Busy(FakeEngine):
        async def list_objects(self, instance: str) -> list[Found]:
            found = await super().list_objects(instance)
            if not later:
                lab.fake.world.vanish(first[1])
                later.append(await leave_over(lab.fake, number=2))
            return found

    broom.engine = lambda: Busy("test", lab.fake.world)  # type: ignore[method-assign]
    said = await broom.sweep()
    assert len(said) == 1 and said[0].startswith("removed network")
    assert on(lab.fake.world) == set(later[0])


async def test_dry_run_says_what_would_go_and_removes_nothing(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, _, broom = running
    left = await leave_over(lab.fake)
    said = await broom.sweep(dry_run=True)
    assert [line.split(" operatord_")[0].split(" network_")[0] for line in said] == [
        "would remove container", "would remove network",
    ]  # fmt: skip
    assert on(lab.fake.world) == set(left)


async def test_what_cannot_be_removed_is_said_and_the_rest_goes(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, _, broom = running
    await leave_over(lab.fake)
    _, stuck = await leave_over(lab.fake, number=2)

    def jam(engine: FakeEngine) -> None:
        broken = engine.remove

        async def remove(container_id: str) -> None:
            if container_id == stuck:
                raise EngineUnavailable("it is stuck")
            await broken(container_id)

        engine.remove = remove  # type: ignore[method-assign]

    broom.prepare = jam
    assert not await sweep_once(broom.config, broom.options())
    [line] = [line for line in broom.said if not line.startswith("removed")]
    assert line.startswith(f"could not remove container operatord_{NOBODYS}_probe_2")
    assert line.endswith("(it is stuck)")
    assert on(lab.fake.world) == {stuck}


async def test_containers_of_one_session_are_removed_at_the_same_time(
    running: tuple[Lab, Wire, Broom],
) -> None:
    """E1: Podman removes no container whose namespace another one shares."""
    lab, _, broom = running
    found = [(await leave_over(lab.fake))[1], (await leave_over(lab.fake, number=2))[1]]
    asked: set[str] = set()
    both = asyncio.Event()

    def share_namespace(engine: FakeEngine) -> None:
        alone = engine.remove

        async def remove(container_id: str) -> None:
            asked.add(container_id)
            if asked == set(found):
                both.set()
            await asyncio.wait_for(both.wait(), PATIENCE)
            await alone(container_id)

        engine.remove = remove  # type: ignore[method-assign]

    broom.prepare = share_namespace
    assert await sweep_once(broom.config, broom.options())
    assert lab.fake.empty


async def test_engine_that_does_not_answer_is_an_error(
    running: tuple[Lab, Wire, Broom],
) -> None:
    lab, _, broom = running
    await leave_over(lab.fake)
    broom.prepare = lambda engine: engine.script.fail("list_objects", EngineUnavailable("gone"))
    with pytest.raises(EngineUnavailable):
        await sweep_once(broom.config, broom.options())
    assert not lab.fake.empty


@pytest.mark.parametrize("harm", ["missing", "damaged", "of another version"])
async def test_without_a_journal_nobody_knows_what_lives(tmp_path: Path, harm: str) -> None:
    world = World({})
    async with in_process(tmp_path / "s", engine=StreamingFake()):
        pass
    journal = tmp_path / "s" / "journal.sqlite"
    broom = Broom(tmp_path / "s", world)
    await broom.engine().create_network(
        NetworkPlan("n", "192.0.2.0/28", {LABEL_INSTANCE: "test", LABEL_SESSION: NOBODYS})
    )
    if harm == "missing":
        journal.unlink()
    elif harm == "damaged":
        journal.write_bytes(b"not a journal" * 1000)
    else:
        os.truncate(journal, 0)
    with pytest.raises(CannotSweep):
        await sweep_once(broom.config, broom.options())
    assert len(world.networks) == 1
    assert not journal.exists() or harm != "missing", "to read must not make one"


# Where no daemon runs


async def halted(state_dir: Path, fake: StreamingFake) -> dict[str, str]:
    """Let a daemon leave sessions in each phase behind; return their ids by phase."""
    limits = {**KEEP, "limits": {"sessions": 3}}
    async with in_process(state_dir, limits, engine=fake) as lab:
        wire = await lab.wire()
        ids = {}
        for phase in ("running", "stopping"):
            ids[phase] = (await wire.call("session.start"))["session_id"]
        removal = fake.script.hold("remove_network")
        wire.begin("session.stop", session_id=ids["stopping"])
        await removal.reached.wait()
        start = fake.script.hold("start")
        for phase in ("starting", "queued"):
            begun = await wire.call("session.start", wait="accepted")
            ids[phase] = begun["session_id"]
        await start.reached.wait()
    return ids


async def test_what_a_dead_daemon_had_begun_goes_at_once_and_what_runs_stays(
    tmp_path: Path,
) -> None:
    fake = StreamingFake()
    ids = await halted(tmp_path / "s", fake)
    broom = Broom(tmp_path / "s", fake.world)
    said = await broom.sweep()
    assert "no daemon runs" in broom.notes[0]
    assert {line.split(" of session ")[1].split(":")[0] for line in said} == {
        ids["starting"], ids["stopping"],
    }  # fmt: skip
    assert {c.plan.labels[LABEL_SESSION] for c in fake.world.containers.values()} == {
        ids["running"]
    }
    assert len(fake.world.networks) == 1
    async with in_process(tmp_path / "s", KEEP, engine=StreamingFake(fake.world)) as next_one:
        wire = await next_one.wire()

        async def outcome(phase: str) -> tuple[str, str]:
            found = await wire.call("session.wait", session_id=ids[phase])
            return found["outcome"], found["cause"]

        assert await outcome("starting") == ("failed", "restart")
        assert await outcome("stopping") == ("stopped", "client")
        running = await wire.call("session.get", session_id=ids["running"])
        assert running["phase"] == "running"
        await wire.call("session.wait", session_id=ids["queued"], phase="running")


async def test_dry_run_where_no_daemon_runs(tmp_path: Path) -> None:
    fake = StreamingFake()
    await halted(tmp_path / "s", fake)
    before = on(fake.world)
    said = await Broom(tmp_path / "s", fake.world).sweep(dry_run=True)
    assert all(line.startswith("would remove ") for line in said)
    assert on(fake.world) == before


async def test_daemon_can_be_started_while_a_sweep_waits_out_its_grace(tmp_path: Path) -> None:
    fake = StreamingFake()
    async with in_process(tmp_path / "s", engine=fake):
        pass
    broom = Broom(tmp_path / "s", fake.world)
    await leave_over(broom.engine())
    looks = 0

    async def between() -> None:
        async with in_process(tmp_path / "s", engine=StreamingFake(fake.world)):
            pass

    def count(engine: FakeEngine) -> None:
        listed = engine.list_objects

        async def list_objects(instance: str) -> list[Found]:
            nonlocal looks
            looks += 1
            if looks == 2:
                await between()
            return await listed(instance)

        engine.list_objects = list_objects  # type: ignore[method-assign]

    broom.prepare = count
    assert len(await broom.sweep()) == 2
    assert fake.empty


# The command


async def sweep_command(state_dir: Path, *arguments: str) -> tuple[int, str, str]:
    command = (OPERATORD, "sweep", "--engine", "process", "--state-dir", str(state_dir))
    return await run(*command, "--grace", "0.05", *arguments, env=clean_env())


async def leave_a_network(state_dir: Path, instance: str) -> None:
    engine = ProcessEngine(state_dir)
    labels = {LABEL_INSTANCE: instance, LABEL_SESSION: NOBODYS}
    await engine.create_network(NetworkPlan("network_01234", "192.0.2.0/28", labels))
    await engine.close()


async def test_command_says_what_it_removes_and_that_there_is_nothing(tmp_path: Path) -> None:
    async with served(tmp_path / "s", "--engine", "process") as daemon:
        await leave_a_network(tmp_path / "s", daemon.instance)
        code, out, err = await sweep_command(tmp_path / "s", "--dry-run")
        assert (code, out.split(" of ")[0]) == (0, "would remove network network_01234")
        code, out, err = await sweep_command(tmp_path / "s")
        assert (code, out.count("\n")) == (0, 1)
        assert out.startswith("removed network network_01234 of session 0123456789ABCDEF: ")
        assert f"instance {daemon.instance}; a daemon runs" in err
        assert "engine process: the settings ask for it" in err
        assert (await sweep_command(tmp_path / "s"))[:2] == (0, "nothing is left over\n")


async def test_command_where_no_daemon_ever_was_makes_nothing(tmp_path: Path) -> None:
    code, out, _ = await sweep_command(tmp_path / "nowhere")
    assert code == 0
    assert out.startswith("nothing is left over: no operatord has ever worked in ")
    assert not (tmp_path / "nowhere").exists()


async def test_command_leaves_what_ran_when_the_daemon_was_killed(tmp_path: Path) -> None:
    async with served(tmp_path / "s", "--engine", "process") as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        await daemon.stop(signal.SIGKILL)
        await wire.close()
        code, out, err = await sweep_command(tmp_path / "s")
        assert (code, out) == (0, "nothing is left over\n"), err
        assert "no daemon runs" in err
        records = [*(tmp_path / "s" / "process").glob("*.json")]
        assert len(records) == 3, "two stages and a network"
        # What is left of it is the next daemon's to say: local processes cannot be taken on.
        async with served(tmp_path / "s", "--engine", "process") as second:
            wire = await second.wire()
            ended = await wire.call("session.wait", session_id=session["session_id"])
            assert ended["cause"] == "restart"
            await wire.close()


SLEEPING: Json = {"image": "demo-probe", "command": ["sleep", "1000"]}
"""A stage that writes nothing, and so never notices that nobody reads what it writes."""


async def test_command_ends_the_processes_of_a_start_that_killed_its_daemon(
    tmp_path: Path,
) -> None:
    armed = tmp_path / "armed"
    stages = {f"stage{number}": {**SLEEPING, "port": 12345 + number} for number in range(3)}
    config = {"pipelines": {"sleeping": {"stages": stages}}}
    env = {"OPERATORD_FAILPOINT": f"engine.start.after:2@{armed}"}
    async with served(tmp_path / "s", "--engine", "process", config=config, env=env) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        await wire.call("session.stop", session_id=session["session_id"])
        [guard] = psutil.Process(daemon.process.pid).children()
        guard.suspend()  # it would end them as well, and nobody knows who is first
        try:
            armed.touch()
            wire.begin("session.start", pipeline="sleeping")
            assert await daemon.ended() == -signal.SIGKILL
            await wire.close()
            assert len(left_of(tmp_path / "s")) == 2, "two stages had been started"
            code, out, _ = await sweep_command(tmp_path / "s")
        finally:
            guard.resume()
        said = out.splitlines()
        assert (code, len(said)) == (0, 4), "three stages and a network"
        assert {line.rpartition(": ")[2] for line in said} == {
            "its start was never finished, and no daemon runs"
        }
        assert left_of(tmp_path / "s") == []


async def test_command_with_a_state_directory_that_is_not_its_own_to_use(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "instance").mkdir()
    code, out, err = await sweep_command(tmp_path / "s")
    assert (code, out) == (1, "")
    assert "is a directory, and must be a file" in err


@pytest.mark.parametrize("grace", ["-1", "soon", "nan"])
async def test_grace_that_makes_no_sense_is_refused(tmp_path: Path, grace: str) -> None:
    code, _, err = await sweep_command(tmp_path / "s", "--grace", grace)
    assert code == 2
    assert "expected 0 to 3600 seconds" in err


def test_exit_code_is_1_when_the_engine_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("test\n")
    broom = Broom(tmp_path, World({}))
    broom.prepare = lambda engine: engine.script.fail("connect", EngineUnavailable("it is away"))
    assert run_sweep(broom.config, broom.options()) == 1
    assert broom.notes[-1] == "nothing more can be done: it is away"
    assert broom.said == []
