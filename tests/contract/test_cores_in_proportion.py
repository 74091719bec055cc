# SPDX-License-Identifier: MIT
"""Processor time is divided in proportion to the reserved cores, when everybody wants all of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator

import docker
import pytest
from engine_lab import DockerLab, Lab

from operatord.engines.base import LogLine, Network

MANY, SMALL, LARGE = 50, 0.02, 1.0
"""So many small stages have reserved as much as a large one, all of them together."""
MEASURED = 5
"""Seconds of processor time of the large stage, in which each small one has some thirty turns."""
TOLERANCE = 0.04
"""How far from a half its share may be. On cgroup v2, 1024 shares for a core make it 0.44 or 0.25."""
NOWHERE = Network(id="", name="")

# Each begins with the line that says what the kernel has made of its cores.
WEIGHT = "cat /sys/fs/cgroup/cpu.weight 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.shares"
BUSY = ("sh", "-c", f"{WEIGHT}; while :; do :; done")
COUNTS = """
import time
seconds = 1
while True:
    if time.process_time() >= seconds:
        print(seconds, flush=True)
        seconds += 1
"""
COUNTING = ("sh", "-c", f'{WEIGHT}; exec python3 -I -S -c "$0"', COUNTS)
"""Is busy as well, and writes a line whenever it has had another second of processor time."""

pytestmark = pytest.mark.engine


async def run(lab: Lab, stage: str, command: tuple[str, ...], cpus: float) -> str:
    """Run a stage without a network, on one and the same core as all others."""
    assert isinstance(lab, DockerLab)
    plan = lab.plan(
        NOWHERE, "idle", stage, command=command, cpus=cpus, connect_later=True, aliases=()
    )
    container_id = await lab.engine.create(plan)
    await asyncio.to_thread(pin, lab.url, container_id)
    await lab.engine.start(container_id)
    return container_id


def pin(url: str, container_id: str) -> None:
    with contextlib.closing(docker.APIClient(url, version="auto")) as client:
        client.update_container(container_id, cpuset_cpus=str(min(os.sched_getaffinity(0))))


async def number(lines: AsyncGenerator[LogLine, None]) -> int:
    return int((await anext(lines)).line)


async def weight(lab: Lab, container_id: str) -> int:
    """Return what the kernel divides by, as the stage has said."""
    async with contextlib.aclosing(lab.engine.follow_logs(container_id, 100)) as lines:
        return await number(lines)


async def used(lab: Lab, container_id: str) -> tuple[float, float]:
    """Return the processor time that a stage has had, and when; both in seconds."""
    seconds = (await lab.engine.stats(container_id)).cpu_seconds
    assert seconds is not None
    return seconds, time.monotonic()


async def speeds(lab: Lab, large: str, all_of_them: list[str]) -> list[float]:
    """Return how much processor time each had in a second, while the large one had `MEASURED` seconds."""
    async with contextlib.aclosing(lab.engine.follow_logs(large, 100)) as lines:
        await number(lines)
        until = await number(lines) + MEASURED
        before = await asyncio.gather(*(used(lab, each) for each in all_of_them))
        while await number(lines) < until:
            pass
        after = await asyncio.gather(*(used(lab, each) for each in all_of_them))
    return [(a[0] - b[0]) / (a[1] - b[1]) for a, b in zip(after, before, strict=True)]


async def test_kernel_has_the_weights_that_were_meant(docker_lab: Lab) -> None:
    """E6: whatever engine, runtime and kernel do to shares."""
    found = [
        await weight(docker_lab, await run(docker_lab, f"of-{cpus}", ("sh", "-c", WEIGHT), cpus))
        for cpus in (LARGE, 0.1, SMALL)
    ]
    is_v1 = (await docker_lab.engine.connect()).cgroup_version != "2"
    assert found == ([1024, 102, 20] if is_v1 else [100, 10, 2])


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="takes its time: FAULTS=all runs it")
async def test_fifty_busy_neighbours_leave_a_core_its_share(docker_lab: Lab) -> None:
    """E6: who has reserved one core has as much as fifty that have reserved 0.02 each."""
    starts = [run(docker_lab, f"small-{n}", BUSY, SMALL) for n in range(MANY)]
    small = await asyncio.gather(*starts)
    large = await run(docker_lab, "large", COUNTING, LARGE)
    weights = [await weight(docker_lab, each) for each in (large, small[0])]
    got, *others = await speeds(docker_lab, large, [large, *small])
    share = got / (got + sum(others))
    info = await docker_lab.engine.connect()
    print(
        f"\n{info.name} {info.version}, {info.runtime}, cgroup v{info.cgroup_version}: weights {weights},",
        f"the large one has {share:.3f} of the processor time (0.5 is right),",
        f"the small ones {min(others):.4f} to {max(others):.4f} cores",
    )
    assert abs(share - 0.5) <= TOLERANCE
