# SPDX-License-Identifier: MIT
"""What every engine does for a session's network, and for those who look for a stage in it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import pytest
from engine_lab import PORT, Lab, ProcessLab

from operatord.engines.base import (
    Address,
    Network,
    NotConnected,
    NotThere,
    PortTaken,
    Publish,
    StageRefused,
    SubnetTaken,
)

LOOPBACK = "127.0.0.1"
NOWHERE = Network(id="", name="not-yet")


async def test_network_is_listed_until_it_is_removed(lab: Lab) -> None:
    network = await lab.network()
    [found] = await lab.engine.list_objects(lab.instance)
    assert (found.kind, found.id, found.name) == ("network", network.id, network.name)
    assert found.labels == lab.labels()
    await lab.engine.remove_network(network.id)
    assert await lab.engine.list_objects(lab.instance) == []
    await lab.engine.remove_network(network.id)


async def test_concurrent_removals_of_a_network_all_succeed(lab: Lab) -> None:
    network = await lab.network()
    await asyncio.gather(*(lab.engine.remove_network(network.id) for _ in range(3)))
    assert await lab.engine.list_objects(lab.instance) == []


async def test_overlapping_subnet_is_taken(lab: Lab) -> None:
    if isinstance(lab, ProcessLab):
        pytest.skip("the process engine takes no subnets")
    plan = lab.network_plan()
    await lab.engine.create_network(plan)
    assert plan.subnet in await lab.engine.subnets_in_use()
    half = str(next(ipaddress.ip_network(plan.subnet).subnets()))
    for subnet in (plan.subnet, half):
        with pytest.raises(SubnetTaken):
            await lab.engine.create_network(lab.network_plan(subnet))


async def test_network_goes_even_when_a_stage_is_still_in_it(lab: Lab) -> None:
    network = await lab.network()
    container_id = await lab.run_until_ready(network, "idle")
    await lab.engine.remove_network(network.id)
    found = await lab.engine.list_objects(lab.instance)
    assert [f.id for f in found] == [container_id]


async def test_stage_is_found_under_its_address(real_lab: Lab) -> None:
    network = await real_lab.network()
    await real_lab.run(network, "serves", stage="probe")
    where = real_lab.engine.address(network, "probe", PORT)
    target = {"TARGET": f"{where.host}:{where.port}"}
    asking = await real_lab.run(network, "asks", stage="stream", env=target, port=PORT + 1)
    assert [line.line for line in await real_lab.output(asking)] == ["hello from probe"]


async def test_joined_stages_find_each_other_under_the_owners_aliases(real_lab: Lab) -> None:
    network = await real_lab.network()
    owner = await real_lab.run_until_ready(
        network, "idle", stage="probe", aliases=("probe", "stream")
    )
    await real_lab.run(network, "serves", stage="stream", join=owner, port=PORT + 1)
    where = real_lab.engine.address(network, "stream", PORT + 1)
    target = {"TARGET": f"{where.host}:{where.port}"}
    asking = await real_lab.run(
        network, "asks", stage="view", join=owner, env=target, port=PORT + 2
    )
    assert [line.line for line in await real_lab.output(asking)] == ["hello from stream"]


async def test_stage_may_be_created_before_the_one_that_it_joins(lab: Lab) -> None:
    owner = f"{lab.instance}-probe"
    if not lab.engine.capabilities.joins_by_name:
        with pytest.raises(NotThere):
            await lab.engine.create(lab.plan(NOWHERE, "idle", stage="stream", join=owner))
        return
    early = await lab.engine.create(lab.plan(NOWHERE, "idle", stage="stream", join=owner))
    with pytest.raises((StageRefused, NotThere)):
        await lab.engine.start(early)
    await lab.run_until_ready(await lab.network(), "idle", stage="probe")
    await lab.engine.start(early)
    assert (await lab.engine.inspect(early)).status == "running"


async def test_stage_cannot_join_one_that_does_not_run(lab: Lab) -> None:
    network = await lab.network()
    owner = await lab.engine.create(lab.plan(network, "idle", stage="probe"))
    joining = await lab.engine.create(lab.plan(network, "idle", stage="stream", join=owner))
    try:
        await lab.engine.start(joining)
    except StageRefused:
        return
    # Or it is started along, as Podman does: in no case does a stage run without whom it joins.
    assert (await lab.engine.inspect(owner)).status == "running"


async def test_stage_cannot_join_one_that_is_gone(real_lab: Lab) -> None:
    """E9: whichever of the two calls says it."""
    network = await real_lab.network()
    owner = await real_lab.engine.create(real_lab.plan(network, "idle", stage="probe"))
    plan = real_lab.plan(network, "idle", stage="stream", join=owner)
    with pytest.raises(NotThere):
        if not real_lab.engine.capabilities.joins_by_name:
            await real_lab.engine.remove(owner)
        joining = await real_lab.engine.create(plan)
        await real_lab.engine.remove(owner)
        await real_lab.engine.start(joining)


async def test_published_port_is_reachable_where_inspect_says(real_lab: Lab) -> None:
    network = await real_lab.network()
    container_id = await real_lab.run_until_ready(network, "serves", publish=Publish(LOOPBACK))
    assert await _ask(real_lab, container_id) == b"hello from stage"


async def test_owner_publishes_the_port_of_a_stage_that_joined_it(real_lab: Lab) -> None:
    network = await real_lab.network()
    owner = await real_lab.run_until_ready(
        network, "idle", stage="probe", publish=Publish(LOOPBACK), publish_port=PORT + 1
    )
    await real_lab.run_until_ready(network, "serves", stage="stream", join=owner, port=PORT + 1)
    assert await _ask(real_lab, owner) == b"hello from stream"


async def test_stage_may_run_before_there_is_a_network(lab: Lab) -> None:
    if not await _connects_late(lab):
        return
    owner = await lab.run_until_ready(
        NOWHERE, "serves", stage="probe", connect_later=True, publish=Publish(LOOPBACK)
    )
    state = await lab.engine.inspect(owner)
    assert (state.status, state.published) == ("running", None)
    joining = await lab.run(NOWHERE, "idle", stage="stream", join=f"{lab.instance}-probe")
    with pytest.raises(NotThere):
        gone = await lab.network()
        await lab.engine.remove_network(gone.id)
        await lab.engine.connect_stage(owner, gone, ("probe",))
    network = await lab.network()
    await lab.engine.connect_stage(owner, network, ("probe", "stream"))
    state = await lab.engine.inspect(owner)
    assert state.status == "running"
    assert state.published is not None
    assert state.ip is not None
    await asyncio.gather(lab.engine.remove(joining), lab.engine.remove(owner))
    await lab.engine.remove_network(network.id)


@pytest.mark.engine
async def test_stages_connected_late_are_reached_and_find_each_other(docker_lab: Lab) -> None:
    lab, target = docker_lab, {"TARGET": f"stream:{PORT}"}
    if not await _connects_late(lab):
        return
    owner = await lab.run_until_ready(
        NOWHERE, "serves", stage="stream", connect_later=True, publish=Publish(LOOPBACK)
    )
    join = f"{lab.instance}-stream"
    asking = await lab.run(NOWHERE, "asks", stage="view", join=join, env=target, port=PORT + 2)
    await lab.engine.connect_stage(owner, await lab.network(), ("stream", "view"))
    assert [line.line for line in await lab.output(asking)] == ["hello from stream"]
    assert await _ask(lab, owner) == b"hello from stream"


async def _connects_late(lab: Lab) -> bool:
    """Tell whether the engine connects stages late; one that does not has to say so when asked to."""
    if lab.engine.capabilities.connects_late:
        return True
    network = await lab.network()
    with pytest.raises(NotConnected):
        await lab.engine.connect_stage(await lab.run(network, "idle"), network, ("stage",))
    return False


async def _ask(lab: Lab, container_id: str) -> bytes:
    published = (await lab.engine.inspect(container_id)).published
    assert published is not None
    reader, writer = await asyncio.open_connection(published.host, published.port)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_taken_port_is_said_at_start_and_the_stage_can_be_removed(real_lab: Lab) -> None:
    network = await real_lab.network()
    with _occupied(real_lab, network) as taken:
        publish = Publish(LOOPBACK, (taken.port, taken.port))
        container_id = await real_lab.engine.create(real_lab.plan(network, "idle", publish=publish))
        with pytest.raises(PortTaken):
            await real_lab.engine.start(container_id)
        assert (await real_lab.engine.inspect(container_id)).status == "created"
        await real_lab.engine.remove(container_id)


@contextlib.contextmanager
def _occupied(lab: Lab, network: Network) -> Iterator[Address]:
    """Listen where the stage would: its own address, or a port of the host's."""
    where = Address(LOOPBACK, 0)
    if isinstance(lab, ProcessLab):
        where = lab.engine.address(network, "stage", PORT)
    with socket.create_server((where.host, where.port)) as thief:
        host, port = thief.getsockname()[:2]
        yield Address(host=host, port=port)


@pytest.mark.engine
async def test_free_port_of_a_range_is_found_past_the_taken_ones(docker_lab: Lab) -> None:
    network = await docker_lab.network()
    with socket.create_server((LOOPBACK, 0)) as thief:
        taken = thief.getsockname()[1]
        publish = Publish(LOOPBACK, (taken, min(taken + 20, 65535)))
        container_id = await docker_lab.run_until_ready(network, "serves", publish=publish)
        published = (await docker_lab.engine.inspect(container_id)).published
        assert published is not None
        assert taken < published.port <= taken + 20
        assert await _ask(docker_lab, container_id) == b"hello from stage"


@pytest.mark.engine
async def test_taken_port_hinders_a_late_connection_and_not_the_removal(docker_lab: Lab) -> None:
    if not await _connects_late(docker_lab):
        return
    network = await docker_lab.network()
    with socket.create_server((LOOPBACK, 0)) as thief:
        publish = Publish(LOOPBACK, (thief.getsockname()[1],) * 2)
        robbed = await docker_lab.run(NOWHERE, "idle", connect_later=True, publish=publish)
        for _ in range(2):
            with pytest.raises(NotConnected):
                await docker_lab.engine.connect_stage(robbed, network, ("stage",))
    assert docker_lab.engine.capabilities.connects_late, "it was not for the engine"
    await docker_lab.engine.remove(robbed)
    await docker_lab.engine.remove_network(network.id)


@pytest.mark.engine
async def test_gateway_is_the_first_host_of_the_subnet(docker_lab: Lab) -> None:
    network = await docker_lab.network()
    assert network.gateway is not None
    [subnet] = [
        net
        for net in map(ipaddress.ip_network, await docker_lab.engine.subnets_in_use())
        if ipaddress.ip_address(network.gateway) in net
    ]
    assert str(subnet[1]) == network.gateway
