# SPDX-License-Identifier: MIT
"""What a stage is sure to get, what it never exceeds and which devices it sees: from plan to engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from daemon_lab import StreamingFake
from engine_lab import Lab

from operatord.core.pipelines import Pipeline, Stage
from operatord.core.plans import make_plan
from operatord.core.subnets import SubnetPool
from operatord.core.units import Bytes
from operatord.engines.base import Network, StagePlan, StageRefused
from operatord.engines.docker import bodies
from operatord.engines.docker.values.cpu_weight import conversion, cpu_shares
from operatord.machine.clock import Clock
from operatord.provision.blueprint import StartSettings
from operatord.provision.starter import Starter
from operatord.session.record import SessionRecord
from operatord_protocol.messages import SessionStartParams

MIB = 1024**2
NVIDIA = {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "3"], "Capabilities": [["gpu"]]}


def host_config(**sizes: Any) -> dict[str, Any]:
    """Return what the engine would be asked for."""
    plan = StagePlan(
        name="n", stage="s", image="i", network=Network(id="1", name="net"), env={}, labels={},
        port=1, **sizes,
    )  # fmt: skip
    host: dict[str, Any] = bodies.container_body(plan, None, bodies.Hardening(), "none")[
        "HostConfig"
    ]
    return host


def test_only_what_is_limited_is_asked_for() -> None:
    plain = host_config(memory=64 * MIB)
    assert (plain["Memory"], plain["MemorySwap"]) == (64 * MIB, 64 * MIB)
    for key in ("NanoCpus", "MemoryReservation", "DeviceRequests"):
        assert key not in plain
    full = host_config(
        cpu_limit=0.25, memory=64 * MIB, memory_reservation=32 * MIB, gpus=("GPU-1", "3")
    )
    assert (full["NanoCpus"], full["Memory"]) == (250_000_000, 64 * MIB)
    assert full["MemoryReservation"] == 32 * MIB
    assert full["DeviceRequests"] == [NVIDIA]


@pytest.mark.parametrize(
    ("reserved", "asked"), [(1, 6 * MIB), (8 * MIB, 8 * MIB), (99 * MIB, 64 * MIB)]
)
def test_memory_is_reserved_within_what_the_engine_takes(reserved: int, asked: int) -> None:
    host = host_config(memory=64 * MIB, memory_reservation=reserved)
    assert host["MemoryReservation"] == asked


async def test_stage_is_created_with_its_sizes_and_the_sessions_devices() -> None:
    camera = Stage(
        image="demo-probe", port=1, cpus=0.25, cpu_limit=2, memory=Bytes(8 * MIB),
        memory_limit=Bytes(16 * MIB), gpus=2,
    )  # fmt: skip
    mixer = Stage(image="demo-stream", port=2, memory=Bytes(32 * MIB))
    asked = SessionStartParams(pipeline="x")
    plan = make_plan(asked, {"x": Pipeline(stages={"camera": camera, "mixer": mixer})}, 1)
    record = SessionRecord("A" * 16, plan, SessionStartParams(), "tests", {})
    record.provisioned.gpus = {"camera": ("GPU-1", "3")}
    engine = StreamingFake()
    settings = StartSettings("test", "127.0.0.1", None, 10, "127.0.0.1")
    starter = Starter(engine, SubnetPool("198.18.0.0/24"), lambda: settings, Clock())
    try:
        await starter.start(record)
        made = {c.plan.stage: c.plan for c in engine.world.containers.values()}
    finally:
        for container_id in record.provisioned.containers.values():
            await engine.remove(container_id)
        await engine.close()
    assert (made["camera"].cpus, made["camera"].cpu_limit) == (0.25, 2)
    assert (made["camera"].memory, made["camera"].memory_reservation) == (16 * MIB, 8 * MIB)
    assert made["camera"].gpus == ("GPU-1", "3")
    assert (made["mixer"].cpus, made["mixer"].cpu_limit) == (0.1, None)
    assert (made["mixer"].memory, made["mixer"].memory_reservation) == (32 * MIB, 32 * MIB)
    assert made["mixer"].gpus == ()


@contextlib.contextmanager
def looking() -> Iterator[docker.APIClient]:
    """Look at the engine past ours."""
    url = os.environ["DOCKER_HOST"]
    with contextlib.closing(docker.APIClient(base_url=url, version="auto")) as client:
        yield client


@pytest.mark.engine
async def test_shares_reservation_and_limits_arrive_at_the_engine(docker_lab: Lab) -> None:
    network = await docker_lab.network()
    info = await docker_lab.engine.connect()
    converted = conversion(info.cgroup_version, info.runtime)
    sizes = {"cpus": 0.25, "cpu_limit": 0.5, "memory": 64 * MIB, "memory_reservation": 16 * MIB}
    limited = await docker_lab.run_until_ready(network, "idle", stage="a", **sizes)
    small = {"cpus": 0.0001, "memory": 6 * MIB, "memory_reservation": 1}
    unlimited = await docker_lab.engine.create(docker_lab.plan(network, "idle", "b", **small))
    with looking() as client:
        there = client.inspect_container(limited)["HostConfig"]
        assert (there["CpuShares"], there["NanoCpus"]) == (cpu_shares(0.25, converted), 500_000_000)
        assert (there["Memory"], there["MemorySwap"]) == (64 * MIB, 64 * MIB)
        assert there["MemoryReservation"] == 16 * MIB
        assert not there["DeviceRequests"]
        there = client.inspect_container(unlimited)["HostConfig"]
        assert (there["CpuShares"], there["NanoCpus"]) == (2, 0)


@pytest.mark.engine
async def test_more_cores_than_the_kernel_has_weights_for_can_be_reserved(docker_lab: Lab) -> None:
    await docker_lab.run_until_ready(await docker_lab.network(), "idle", cpus=1024)


@pytest.mark.engine
async def test_device_that_is_not_there_is_a_sentence_of_ours(docker_lab: Lab) -> None:
    plan = docker_lab.plan(await docker_lab.network(), "idle", gpus=("GPU-1", "3"))
    if not docker_lab.engine.capabilities.takes_devices:
        with pytest.raises(StageRefused):
            await docker_lab.engine.create(plan)
        return
    container_id = await docker_lab.engine.create(plan)
    with looking() as client:
        [asked] = client.inspect_container(container_id)["HostConfig"]["DeviceRequests"]
    assert {key: asked[key] for key in NVIDIA} == NVIDIA
    with pytest.raises(StageRefused) as caught:
        await docker_lab.engine.start(container_id)
    for word in ("driver", "nvidia", "capabilities", "OCI"):
        assert word not in str(caught.value)
    assert (await docker_lab.engine.inspect(container_id)).status == "created"
