# SPDX-License-Identifier: MIT
"""Looking at the real machine, at directories that are not there, and at graphics processors by script."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from daemon_lab import until

from operatord.core.scheduling.pressure import Sample
from operatord.core.scheduling.room import Gpu
from operatord.machine.clock import Clock
from operatord.machine.gpus import find_gpus
from operatord.machine.host import PRESSURE, HostMonitor

NOWHERE = Path("/nowhere")


class HandClock(Clock):
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


@contextlib.asynccontextmanager
async def watching(
    monitor: HostMonitor, on_sample: Callable[[Sample, float], None]
) -> AsyncIterator[None]:
    """Let a monitor run as fast as it can."""
    task = asyncio.create_task(monitor.run(on_sample, 0.0))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def burn(seconds: float) -> None:
    """Keep one core busy until this process has used that much more processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


# The machine


def test_sample_lies_within_the_machine(tmp_path: Path) -> None:
    sample = HostMonitor(tmp_path).sample()
    assert 0 <= sample.cpu_busy <= 1
    assert 0 < sample.memory_available <= psutil.virtual_memory().total
    assert 0 < sample.disk_free <= psutil.disk_usage(str(tmp_path)).total
    assert 0 <= sample.memory_stall <= 1


def test_measured_keeps_its_names_and_survives_json(tmp_path: Path) -> None:
    clock = HandClock()
    monitor = HostMonitor(tmp_path, clock)
    assert "cpu_average" not in monitor.measured(), "nothing has been measured yet"
    clock.time += 1.0
    measured = monitor.measured()
    assert set(measured) - {"cpu_psi", "memory_psi", "io_psi"} == {
        "cpu_percent", "cpu_average", "load", "memory_available", "memory_percent",
        "disk_path", "disk_free", "disk_percent", "daemon",
    }  # fmt: skip
    assert set(measured["daemon"]) == {"rss", "cpu_percent", "descriptors"}
    assert measured["disk_path"] == str(tmp_path)
    assert measured["disk_percent"] == pytest.approx(
        psutil.disk_usage(str(tmp_path)).percent, abs=1
    )
    assert json.loads(json.dumps(measured)) == measured


def test_a_busy_loop_shows() -> None:
    clock = HandClock()
    monitor = HostMonitor(NOWHERE, clock)
    burn(0.5)
    clock.time += 1.0
    sample = monitor.sample()
    # Alone it keeps one core busy; where others take the core away, they are what keeps it so.
    assert sample.cpu_busy >= 0.5 / (os.cpu_count() or 1)
    measured = monitor.measured()
    assert measured["cpu_percent"] == pytest.approx(sample.cpu_busy * 100, abs=0.1)
    assert measured["cpu_average"] > 0
    assert measured["daemon"]["cpu_percent"] > 0


def test_two_who_ask_do_not_disturb_each_other_or_the_sampler() -> None:
    clock = HandClock()
    monitor = HostMonitor(NOWHERE, clock)
    burn(0.1)
    clock.time += 0.5
    sample = monitor.sample()
    burn(0.1)
    clock.time += 0.5
    asked = [monitor.measured()["cpu_percent"] for _ in range(3)]
    assert asked == [round(sample.cpu_busy * 100, 1)] * 3
    burn(0.1)
    assert monitor.sample().cpu_busy >= 0.5 / (os.cpu_count() or 1), "all 0.2 s are in this look"


def test_without_a_sampler_an_answer_is_at_most_a_second_old() -> None:
    clock = HandClock()
    monitor = HostMonitor(NOWHERE, clock)
    burn(0.2)
    assert monitor.measured()["cpu_percent"] == 0.0, "a look over no time would be nonsense"
    clock.time += 1.0
    assert monitor.measured()["cpu_percent"] > 0
    assert monitor.measured()["cpu_average"] > 0


def test_two_looks_within_one_tick_are_both_sane() -> None:
    monitor = HostMonitor(NOWHERE)
    burn(0.1)
    looks = [monitor.sample().cpu_busy for _ in range(200)]
    assert all(0 <= busy <= 1 for busy in looks)


def test_a_look_costs_little() -> None:
    monitor = HostMonitor(NOWHERE)
    costs = []
    for _ in range(50):
        begin = time.perf_counter()
        monitor.sample()
        costs.append(time.perf_counter() - begin)
    assert min(costs) < 0.003, "ten times what it took when it was written"


# Stalls


def test_stalls_are_fractions(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("some avg10=12.50 avg60=0.64 avg300=1.18 total=1923677266\n")
    (tmp_path / "memory").write_text(
        "some avg10=41.00 avg60=0.13 avg300=0.18 total=138769658\n"
        "full avg10=29.01 avg60=0.10 avg300=0.12 total=67158061\n"
    )
    monitor = HostMonitor(NOWHERE, pressure=tmp_path)
    measured = monitor.measured()
    assert measured["cpu_psi"] == {"some_avg10": 0.125}
    assert measured["memory_psi"] == {"some_avg10": 0.41, "full_avg10": 0.2901}
    assert "io_psi" not in measured
    assert monitor.sample().memory_stall == 0.2901


def test_a_kernel_without_stalls_has_none(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()  # reading it fails, as it does for a kernel started with psi=0
    (tmp_path / "io").write_text("something else\n")
    monitor = HostMonitor(NOWHERE, pressure=tmp_path)
    assert monitor.sample().memory_stall == 0.0
    assert not {"cpu_psi", "memory_psi", "io_psi"} & set(monitor.measured())


@pytest.mark.skipif(not (PRESSURE / "memory").exists(), reason="this kernel keeps no PSI")
def test_this_kernels_stalls_are_read() -> None:
    psi = HostMonitor(NOWHERE).measured()["memory_psi"]
    assert set(psi) == {"some_avg10", "full_avg10"}
    assert all(0 <= share <= 1 for share in psi.values())


# The disk


def test_a_directory_that_is_not_there_yet_is_watched_by_its_parent(tmp_path: Path) -> None:
    monitor = HostMonitor(NOWHERE)
    assert monitor.measured()["disk_path"] == "/"
    root = tmp_path / "docker" / "overlay2"
    monitor.watch_disk(root)
    assert monitor.measured()["disk_path"] == str(tmp_path)
    root.mkdir(parents=True)
    assert monitor.measured()["disk_path"] == str(root)


def test_a_directory_behind_a_file_or_a_long_name_is_watched_by_its_parent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monitor = HostMonitor(tmp_path / "file" / "below")
    assert monitor.measured()["disk_path"] == str(tmp_path / "file")
    monitor.watch_disk(tmp_path / ("x" * 5000))
    assert monitor.sample().disk_free > 0
    assert monitor.measured()["disk_path"] == str(tmp_path)


def test_a_directory_that_may_not_be_seen_is_watched_by_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:  # root may see everything: a stranger is played
        if path.name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert HostMonitor(tmp_path / "secret").measured()["disk_path"] == str(tmp_path)


def test_a_relative_path_is_one() -> None:
    assert HostMonitor(Path("not-here-yet")).measured()["disk_path"] == str(Path.cwd())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_file_system_that_counts_nothing_is_not_full() -> None:
    assert HostMonitor(Path("/proc")).sample().disk_free > 2**60


# Running


async def test_each_sample_comes_with_the_seconds_since_the_one_before() -> None:
    clock, enough = HandClock(), asyncio.Event()
    monitor = HostMonitor(NOWHERE, clock)
    seen: list[float] = []

    def on_sample(sample: Sample, seconds: float) -> None:
        assert sample.memory_available > 0
        seen.append(seconds)
        clock.time += 2.5
        monitor.measured()  # somebody asks in between
        if len(seen) == 4:
            enough.set()

    clock.time += 0.25
    async with watching(monitor, on_sample):
        await enough.wait()
    assert seen[:4] == [0.25, 2.5, 2.5, 2.5]


async def test_a_failing_read_is_said_once_and_outlived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, seen = HandClock(), asyncio.Queue[float]()
    monitor = HostMonitor(NOWHERE, clock)
    real, failures = psutil.virtual_memory, iter(range(3))

    def virtual_memory() -> object:
        clock.time += 1.0
        if next(failures, None) is not None:
            raise OSError(errno.EIO, "Input/output error")
        return real()

    monkeypatch.setattr(psutil, "virtual_memory", virtual_memory)
    with caplog.at_level(logging.INFO, "operatord.machine.host"):
        async with watching(monitor, lambda _, seconds: seen.put_nowait(seconds)):
            assert await seen.get() == 3.0, "the seconds without a sample count"
            assert await seen.get() == 1.0
    assert [record.message for record in caplog.records] == [
        "the machine cannot be measured: OSError: [Errno 5] Input/output error",
        "the machine can be measured again",
    ]


async def test_what_the_callback_raises_is_not_taken_for_a_failing_read() -> None:
    def on_sample(sample: Sample, seconds: float) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        await HostMonitor(NOWHERE).run(on_sample)


# Graphics processors

FIRST, SECOND = (
    "GPU-5d2f0b1e-8a3c-4c1e-9f10-0123456789ab",
    "GPU-00000000-1111-2222-3333-444444444444",
)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a shell script the only program of that name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def script(text: str) -> None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
        (folder / "nvidia-smi").chmod(0o755)

    return script


def said(caplog: pytest.LogCaptureFixture) -> str:
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    return caplog.records[0].message


async def test_gpus_are_read_with_their_memory(
    nvidia_smi: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi(f'echo "$@" > {tmp_path}/asked; echo "{FIRST}, 24564"; echo "{SECOND}, 8192"')
    assert await find_gpus() == [Gpu(24564 * 2**20, FIRST), Gpu(8 * 2**30, SECOND)]
    asked = (tmp_path / "asked").read_text()
    assert asked == "--query-gpu=uuid,memory.total --format=csv,noheader,nounits\n"
    assert not caplog.records


async def test_a_gpu_that_shares_the_hosts_memory_has_none_of_its_own(
    nvidia_smi: Callable[[str], None],
) -> None:
    nvidia_smi(f'echo "{FIRST}, [N/A]"')
    assert await find_gpus() == [Gpu(0, FIRST)]


async def test_no_program_no_gpus_no_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await find_gpus() == []
    assert not caplog.records


async def test_a_driver_without_devices_prints_nothing(
    nvidia_smi: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi("exit 0")
    assert await find_gpus() == []
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    [
        "echo 'No devices were found'",
        f"echo '{FIRST}, 24564'; echo '{SECOND}, [GPU is lost]'",
        f"echo '{FIRST}, -1'",
        f"echo '{FIRST}, ١٢'",
        "printf '\\377\\376\\000'",
        "yes",
    ],
)
async def test_what_is_no_list_of_devices_is_no_gpus(
    text: str, nvidia_smi: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi(text)
    assert await find_gpus() == []
    assert "no GPUs are used: nvidia-smi printed" in said(caplog)


async def test_a_failing_program_is_quoted(
    nvidia_smi: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi("echo 'NVIDIA-SMI has failed: no driver'; exit 9")
    assert await find_gpus() == []
    assert said(caplog).endswith("ended with the code 9: 'NVIDIA-SMI has failed: no driver'")


async def test_a_program_that_cannot_be_started_is_no_gpus(
    nvidia_smi: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi("")
    (tmp_path / "bin" / "nvidia-smi").write_bytes(b"\x7fELF, but not really")
    assert await find_gpus() == []
    assert "cannot be started" in said(caplog)


LONG = 1000.0
"""Seconds beyond all that a test waits for."""


async def test_a_hanging_program_is_killed_with_what_it_started(
    nvidia_smi: Callable[[str], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    os.mkfifo(fifo := tmp_path / "pids")
    nvidia_smi(f"sleep 1000 & echo $! $$ > {fifo}; wait")
    task = asyncio.create_task(find_gpus(timeout=LONG))
    sleeper, shell = map(int, (await asyncio.to_thread(fifo.read_text)).split())
    loop: Any = asyncio.get_running_loop()
    # The program may be quicker than who has started it, and waits for it from then on.
    await until(
        lambda: any(timer.when() > loop.time() + LONG / 2 for timer in loop._scheduled), "it waits"
    )
    later = loop.time() + LONG
    monkeypatch.setattr(loop, "time", lambda: later)
    assert await task == []
    assert said(caplog).endswith("gave no answer within 1000 s")
    assert not psutil.pid_exists(shell), "no zombie either"
    monkeypatch.undo()
    await until(lambda: not _is_running(sleeper), "it has been killed, too")


def _is_running(pid: int) -> bool:
    """Tell whether a process is more than a zombie: an orphan is its adopter's to collect."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_whoever_no_longer_wants_to_know_leaves_no_process(
    nvidia_smi: Callable[[str], None], tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "started")
    nvidia_smi(f"echo $$ > {fifo}; exec sleep 1000")
    task = asyncio.create_task(find_gpus(timeout=60))
    pid = int(await asyncio.to_thread(fifo.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pid)
