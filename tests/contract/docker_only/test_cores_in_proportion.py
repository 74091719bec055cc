# SPDX-License-Identifier: MIT
"""Processor time is divided in proportion to the reserved cores, when everybody wants all of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable
from typing import TypeVar

import docker
import pytest
from engine_lab import DockerLab, Lab

from operatord.engines.base import LogLine, Network

T = TypeVar("T")

MANY, SMALL, LARGE = int(os.environ.get("STAGES", "50")), 0.02, 1.0
"""How many small stages there are beside a large one. Fifty have reserved as much as that one."""
MEASURED = 8
"""Seconds of processor time of the large stage, in which each small one has some fifty turns."""
TOLERANCE = 0.04
"""How far from what it is to be. Beside fifty, 1024 shares for a core make it 0.44 or 0.25 on cgroup v2."""
AT_ONCE = 4
"""How many calls an engine is given at a time: on a slow machine fifty would wait in vain for their turn."""
PATIENCE = 200
"""Seconds that an engine may be silent, on a machine that is emulated."""
CORE = str(min(os.sched_getaffinity(0)))
NOWHERE = Network(id="", name="")

# Each says what the kernel has made of its cores, and is busy once it has had a signal: on a slow machine,
# nobody gets through a start beside fifty that are, and no engine through a kill. Each ends with SIGTERM.
WEIGHT = "cat /sys/fs/cgroup/cpu.weight 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.shares"
BUSY = f"""
trap go=yes USR1
trap exit TERM
{WEIGHT}
until [ -n "$go" ]; do sleep 60 & wait $!; done
while :; do :; done
"""
COUNTS = """
import signal, subprocess, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
subprocess.run(sys.argv[1], shell=True)
signal.sigwait({signal.SIGUSR1})
for second in range(1, sys.maxsize):
    while time.process_time() < second:
        pass
    print(second, flush=True)
"""
"""Writes a line whenever it has had another second of processor time."""
SMALL_ONE = ("sh", "-c", BUSY)
LARGE_ONE = ("python3", "-I", "-S", "-c", COUNTS, WEIGHT)

pytestmark = pytest.mark.engine


async def all_of(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Return what they return, in order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[T]) -> T:
        async with places:
            return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]


async def number(lines: AsyncGenerator[LogLine, None]) -> int:
    return int((await anext(lines)).line)


async def run(lab: DockerLab, stage: str, command: tuple[str, ...], cpus: float) -> tuple[str, int]:
    """Run a stage without a network, on one and the same core as all others. Return its id and its weight."""
    plan = lab.plan(
        NOWHERE, "idle", stage, command=command, cpus=cpus, connect_later=True, aliases=()
    )
    container_id = await lab.engine.create(plan)
    with client(lab) as engine:
        await asyncio.to_thread(engine.update_container, container_id, cpuset_cpus=CORE)
    await lab.engine.start(container_id)
    async with contextlib.aclosing(lab.engine.follow_logs(container_id, 100)) as lines:
        return container_id, await number(lines)


def client(lab: DockerLab) -> contextlib.closing[docker.APIClient]:
    """Look at the engine past ours."""
    return contextlib.closing(docker.APIClient(lab.url, version="auto", timeout=300))


async def signal_all(lab: DockerLab, stages: Iterable[str], name: str) -> None:
    with client(lab) as engine:
        for each in stages:
            await asyncio.to_thread(engine.kill, each, name)


async def used(lab: Lab, container_id: str) -> tuple[float, float]:
    """Return the processor time that a stage has had, and when; both in seconds."""
    seconds = (await lab.engine.stats(container_id)).cpu_seconds
    assert seconds is not None
    return seconds, time.monotonic()


async def speeds(lab: Lab, stages: list[str]) -> list[float]:
    """Return how much processor time each had in a second, while the first one had `MEASURED` seconds."""
    async with contextlib.aclosing(lab.engine.follow_logs(stages[0], 100)) as lines:
        await number(lines)  # its weight
        until = await number(lines) + MEASURED
        before = await all_of(used(lab, each) for each in stages)
        while await number(lines) < until:
            pass
        after = await all_of(used(lab, each) for each in stages)
    return [(a[0] - b[0]) / (a[1] - b[1]) for a, b in zip(after, before, strict=True)]


async def test_kernel_has_the_weights_that_were_meant(docker_lab: DockerLab) -> None:
    """E6: whatever engine, runtime and kernel do to shares."""
    says = ("sh", "-c", WEIGHT)
    found = [await run(docker_lab, f"of-{cpus}", says, cpus) for cpus in (LARGE, 0.1, SMALL)]
    is_v1 = (await docker_lab.engine.connect()).cgroup_version != "2"
    assert [weight for _, weight in found] == ([1024, 102, 20] if is_v1 else [100, 10, 2])


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="takes its time: FAULTS=all runs it")
async def test_fifty_busy_neighbours_leave_a_core_its_share(docker_lab: DockerLab) -> None:
    """E6: who has reserved one core has as much as fifty that have reserved 0.02 each."""
    docker_lab.engine.be_patient(PATIENCE)
    large = await run(docker_lab, "large", LARGE_ONE, LARGE)
    small = await all_of(run(docker_lab, f"small-{n}", SMALL_ONE, SMALL) for n in range(MANY))
    stages = [container_id for container_id, _ in (large, *small)]
    await signal_all(docker_lab, reversed(stages), "SIGUSR1")
    got, *others = await speeds(docker_lab, stages)
    await signal_all(docker_lab, stages, "SIGTERM")
    share = got / (got + sum(others))
    info = await docker_lab.engine.connect()
    print(
        f"\n{info.name} {info.version}, {info.runtime}, cgroup v{info.cgroup_version}:",
        f"weights {large[1]} and {small[0][1]}, {share:.3f} of the processor time is the large one's,",
        f"each small one has {min(others):.4f} to {max(others):.4f} cores",
    )
    assert abs(share - LARGE / (LARGE + MANY * SMALL)) <= TOLERANCE
