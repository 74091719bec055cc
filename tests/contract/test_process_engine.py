# SPDX-License-Identifier: MIT
"""What only the process engine has to care for: groups, pipes and processes of earlier daemons."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest
from daemon_lab import PATIENCE, until
from engine_lab import PORT, ProcessLab, collect

from operatord.engines.base import NoDescriptors, Publish, StageRefused
from operatord.engines.process import child as process_child
from operatord.engines.process.engine import ProcessEngine
from operatord.engines.process.records import Record, living_process

# Leaves a child in its group that ignores SIGTERM and keeps the pipes open.
LEAVES_A_CHILD = """
import os, signal
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    while True:
        signal.pause()
signal.pause()
"""
# Leaves a child in a session of its own, holding the pipes.
LEAVES_A_STRANGER = """
import os, signal
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    signal.alarm(600)
    signal.pause()
signal.pause()
"""
# Makes a file ASKED when it is asked to end, and ends once there is a file GO. It writes no line then:
# its pipes end with the daemon that has started it.
TAKES_ITS_TIME = """
import os, signal, time
def asked(*_):
    open(os.environ["ASKED"], "w").close()
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
    os._exit(7)
signal.signal(signal.SIGTERM, asked)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ProcessLab]:
    laboratory = ProcessLab(tmp_path)
    await laboratory.open()
    yield laboratory
    await laboratory.close()


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


async def test_whole_group_ends_with_its_leader(lab: ProcessLab) -> None:
    events = lab.engine.events()
    container_id = await lab.run_until_ready(
        await lab.network(), "idle", command=python(LEAVES_A_CHILD)
    )
    [line] = await lab.engine.logs(container_id, 1)
    await lab.engine.stop(container_id, grace=10)
    await collect(events, 1)
    await until(lambda: has_died(int(line.line)), "the child is dead")
    await events.aclose()


def has_died(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def test_pipe_held_by_a_stranger_does_not_hold_up_the_end(lab: ProcessLab) -> None:
    events = lab.engine.events()
    container_id = await lab.run_until_ready(
        await lab.network(), "idle", command=python(LEAVES_A_STRANGER)
    )
    [line] = await lab.engine.logs(container_id, 1)
    try:
        await lab.engine.stop(container_id, grace=10)
        async with asyncio.timeout(PATIENCE):
            [event] = await collect(events, 1)
        assert event.kind == "exited"
    finally:
        os.kill(int(line.line), 9)
        await events.aclose()


async def test_sessions_have_addresses_of_their_own(lab: ProcessLab) -> None:
    networks = [await lab.network() for _ in range(5)]
    addresses = {lab.engine.address(network, "any", PORT).host for network in networks}
    assert len(addresses) == 5
    for network in networks:
        await lab.run_until_ready(network, "serves", stage=f"s{network.id}")


async def test_nothing_is_published_beyond_loopback(lab: ProcessLab) -> None:
    plan = lab.plan(await lab.network(), "idle", publish=Publish("0.0.0.0"))
    with pytest.raises(StageRefused):
        await lab.engine.create(plan)


async def test_devices_are_named_to_the_stage_that_was_given_them(lab: ProcessLab) -> None:
    network = await lab.network()
    shows = python('import os; print(os.environ.get("CUDA_VISIBLE_DEVICES"))')
    claims = {"CUDA_VISIBLE_DEVICES": "0"}
    cases: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
        "given": (("GPU-1", "3"), {}, "GPU-1,3"),
        "none": ((), {}, "None"),
        "claims-another": (("3",), claims, "3"),
    }
    for stage, (gpus, env, seen) in cases.items():
        container_id = await lab.run(
            network, "idle", stage=stage, command=shows, gpus=gpus, env=env
        )
        [line] = await lab.output(container_id)
        assert line.line == seen, stage


async def test_disk_to_watch_is_the_state_directorys(lab: ProcessLab) -> None:
    assert (await lab.engine.connect()).root_dir == str(lab.state_dir)


async def test_refused_start_leaves_the_port_free(lab: ProcessLab) -> None:
    network = await lab.network()
    container_id = await lab.engine.create(lab.plan(network, "nonsense"))
    with pytest.raises(StageRefused):
        await lab.engine.start(container_id)
    where = lab.engine.address(network, "stage", PORT)
    socket.create_server((where.host, where.port)).close()


async def test_want_of_descriptors_is_told_as_that(
    lab: ProcessLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A7: a stage that cannot be started for want of descriptors is not one whose program cannot be run."""

    def short(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    network = await lab.network()
    stage = await lab.engine.create(lab.plan(network, "nonsense"))
    monkeypatch.setattr("operatord.engines.process.child.subprocess.Popen", short)
    with pytest.raises(NoDescriptors, match="no file descriptor left"):
        await lab.engine.start(stage)


def record_of(process: psutil.Process, **change: object) -> Record:
    fields = {"kind": "container", "id": "1", "name": "n", "labels": {}, "started": True}
    fields |= {"pid": process.pid, "pid_time": process.create_time()}
    return msgspec.convert(fields | change, Record)


def test_process_with_a_reused_id_is_not_the_recorded_one(tmp_path: Path) -> None:
    me = psutil.Process()
    assert living_process(record_of(me), tmp_path) == me
    assert living_process(record_of(me, pid_time=me.create_time() - 60), tmp_path) is None


async def test_process_of_the_original_is_not_that_of_a_copied_record(lab: ProcessLab) -> None:
    """N7: whoever has a copy of the records has not the processes, wherever the original has gone."""
    stage = await lab.run_until_ready(await lab.network(), "idle")
    copied = lab.state_dir.with_name("copied")
    shutil.copytree(lab.state_dir, copied)
    other = ProcessEngine(copied)
    await other.connect()
    await other.remove(stage)
    await other.close()
    assert (await lab.engine.inspect(stage)).status == "running"


async def test_process_that_was_never_written_down_is_found_by_its_directory(
    lab: ProcessLab,
) -> None:
    """A daemon killed between starting a process and recording its id."""
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    await lab.die()
    path = lab.state_dir / "process" / f"{container_id}.json"
    record = msgspec.json.decode(path.read_bytes(), type=Record)
    pid, record.pid, record.pid_time = record.pid, None, None
    path.write_bytes(msgspec.json.encode(record))
    lab.engine = lab.another_engine(lab.instance)
    await lab.engine.connect()
    assert (await lab.engine.inspect(container_id)).status == "running"
    await lab.engine.remove(container_id)
    assert pid is not None
    assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # this process is its parent


@contextlib.asynccontextmanager
async def stopping(lab: ProcessLab, container_id: str, grace: float) -> AsyncIterator[asyncio.Task]:
    """Have a stage stopped meanwhile."""
    task = asyncio.ensure_future(lab.engine.stop(container_id, grace))
    try:
        yield task
    finally:
        await lab.engine.remove(container_id)
        await task


@pytest.mark.parametrize("earlier", [False, True], ids=["own", "of an earlier daemon"])
async def test_stage_has_the_grace_to_end_by_itself(
    lab: ProcessLab, tmp_path: Path, earlier: bool
) -> None:
    """S11: it is not killed while the grace lasts, and its exit is its own."""
    asked, go = tmp_path / "asked", tmp_path / "go"
    command, env = python(TAKES_ITS_TIME), {"ASKED": str(asked), "GO": str(go)}
    stage = await lab.run_until_ready(await lab.network(), "idle", command=command, env=env)
    if earlier:
        await lab.die()
    async with stopping(lab, stage, grace=3600) as stop:
        await until(asked.exists, "it has been asked to end")
        assert not stop.done()
        go.touch()
        async with asyncio.timeout(PATIENCE):
            await stop
        state = await lab.engine.inspect(stage)
        assert (state.status, state.exit_code) == ("exited", None if earlier else 7)


@pytest.mark.parametrize("earlier", [False, True], ids=["own", "of an earlier daemon"])
async def test_stage_that_ignores_the_signal_is_killed_when_its_grace_is_over(
    lab: ProcessLab, earlier: bool
) -> None:
    """S11: and not before: of two that are stopped at once, the one with the longer grace lives on."""
    network = await lab.network()
    short = await lab.run_until_ready(network, "stubborn", stage="a", port=11001)
    long = await lab.run_until_ready(network, "stubborn", stage="b", port=11002)
    if earlier:
        await lab.die()
    async with stopping(lab, long, grace=3600) as stop:
        async with asyncio.timeout(PATIENCE):
            await lab.engine.stop(short, grace=1)
        assert (await lab.engine.inspect(short)).status == "exited"
        assert not stop.done()
        assert (await lab.engine.inspect(long)).status == "running"


async def test_half_a_record_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "1.json").write_text('{"kind":"conta')
    engine = ProcessEngine(tmp_path)
    await engine.connect()
    assert await engine.list_objects("any") == []
    await engine.close()


@pytest.mark.parametrize("kernel_lists", [True, False])
def test_figures_are_those_of_all_descendants_without_a_look_at_the_whole_machine(
    monkeypatch: pytest.MonkeyPatch, kernel_lists: bool
) -> None:
    """A1: what a stage uses is asked for by anybody, as often as they like."""
    monkeypatch.setattr(process_child, "_LISTS_CHILDREN", kernel_lists)
    if kernel_lists:
        monkeypatch.setattr(psutil.Process, "children", None)
    nested = "sh -c 'sleep 60 & echo; wait' & wait"
    with subprocess.Popen(
        ["sh", "-c", nested], stdout=subprocess.PIPE, start_new_session=True
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        stats = process_child.group_stats(psutil.Process(shell.pid))
        os.killpg(shell.pid, signal.SIGKILL)
    assert stats.pids == 3
    assert stats.memory
