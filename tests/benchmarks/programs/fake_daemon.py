# SPDX-License-Identifier: MIT
"""operatord on an engine that exists in memory only, or that engine alone: for what a session costs.

python fake_daemon.py FOLDER               a daemon, until SIGTERM
python fake_daemon.py FOLDER FIRST LAST    the engine alone, with as many sessions' containers; prints the
                                           KiB that each of those from FIRST to LAST took
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # daemons, on_docker
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # daemon_lab

from daemon_lab import StreamingFake, in_process
from daemons import resident_kib
from on_docker import each_stage, shipped

from operatord.engines.base import NetworkPlan, StagePlan

Plan = TypeVar("Plan", NetworkPlan, StagePlan)

CONFIG = {
    "limits": {"sessions": 1000},
    # Reservations so small that this machine, whatever it has, has room for all of them.
    "pipelines": {
        "segmented": each_stage(shipped("segmented"), cpus=0.001, memory="1MiB", cpu_limit=None)
    },
    "pressure": {"cpu": None},
}


async def serve(folder: Path) -> None:
    """Run a daemon until SIGTERM."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    async with in_process(folder, CONFIG) as lab:
        host, port = lab.address
        print(f"listening on {host}:{port}", flush=True)
        await ending.wait()


async def alone(folder: Path, first: int, last: int) -> float:
    """Return the KiB that one session takes on the engine alone, which never heard of a daemon."""
    network, stages = await _plans(folder)
    fake, before = StreamingFake(), 0.0
    for number in range(last):
        if number == first:
            before = resident_kib(os.getpid())
        await _session(fake, number, network, stages)
    taken = (resident_kib(os.getpid()) - before) / (last - first)
    await fake.close()
    return taken


async def _plans(folder: Path) -> tuple[NetworkPlan, list[StagePlan]]:
    """Return what a daemon asks of an engine for one session."""
    async with in_process(folder, CONFIG) as lab:
        wire = await lab.wire()
        await wire.call("session.start")
        world = lab.fake.world
        return next(iter(world.networks.values())), [c.plan for c in world.containers.values()]


async def _session(
    fake: StreamingFake, number: int, network: NetworkPlan, stages: list[StagePlan]
) -> None:
    subnet = f"198.{18 + number // 4096}.{number // 16 % 256}.{number % 16 * 16}/28"
    made = await fake.create_network(_copy(network, subnet=subnet))
    for stage in stages:
        await fake.start(await fake.create(_copy(stage, network=made, join=None)))


def _copy(plan: Plan, **changes: object) -> Plan:
    """Return a plan that shares nothing with the first one, as each session's is its own."""
    changed = msgspec.structs.replace(plan, **changes)
    return msgspec.json.decode(msgspec.json.encode(changed), type=type(plan))


if __name__ == "__main__":
    state, *bounds = sys.argv[1:]
    if bounds:
        print(asyncio.run(alone(Path(state), *map(int, bounds))))
    else:
        asyncio.run(serve(Path(state)))
