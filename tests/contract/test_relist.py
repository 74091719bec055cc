# SPDX-License-Identifier: MIT
"""What every engine tells a daemon that wants to know what is there, and what changes."""

from __future__ import annotations

import asyncio
import threading

import pytest
from daemon_lab import PATIENCE
from engine_lab import Lab, collect

from operatord.engines.base import LABEL_INSTANCE, LABEL_STAGE


async def test_everything_of_the_instance_is_listed_in_every_state(lab: Lab) -> None:
    network = await lab.network()
    created = await lab.engine.create(lab.plan(network, "idle", stage="a", port=11001))
    running = await lab.run_until_ready(network, "idle", stage="b", port=11002)
    exited = await lab.run_until_ended(network, "ends-3", stage="c", port=11003)
    # Docker announces an end before its list shows it; an inspection waits for the list too.
    assert (await lab.engine.inspect(exited)).status == "exited"
    found = {f.id: f for f in await lab.engine.list_objects(lab.instance)}
    assert set(found) == {network.id, created, running, exited}
    assert [found[i].status for i in (created, running, exited)] == ["created", "running", "exited"]
    assert found[running].name == f"{lab.instance}-b"
    assert found[running].labels[LABEL_STAGE] == "b"


async def test_instances_do_not_see_each_other(lab: Lab) -> None:
    other = lab.instance + "-other"
    network = await lab.network()
    labels = lab.labels("stage") | {LABEL_INSTANCE: other}
    container_id = await lab.engine.create(lab.plan(network, "idle", labels=labels))
    try:
        assert [f.id for f in await lab.engine.list_objects(lab.instance)] == [network.id]
        assert [f.id for f in await lab.engine.list_objects(other)] == [container_id]
    finally:
        await lab.sweep(lab.engine, other)


async def test_instance_belongs_to_who_marked_it_first(lab: Lab) -> None:
    """N7: the mark is nobody else's until it is removed; where only its daemon is, there is none."""
    engine = lab.engine
    assert await engine.holder() is None
    assert await engine.claim("anna") == "anna"
    if engine.name == "process":
        assert await engine.holder() is None
        return
    try:
        assert await engine.claim("anna") == "anna"
        assert await engine.claim("berta") == "anna"
        assert await engine.holder() == "anna"
        many = [engine.claim(str(number)) for number in range(8)]
        assert set(await asyncio.gather(*many)) == {"anna"}
    finally:
        await engine.release()
    await engine.release()
    assert await engine.holder() is None


async def test_later_daemon_finds_and_removes_what_an_earlier_one_left(lab: Lab) -> None:
    network = await lab.network()
    created = await lab.engine.create(lab.plan(network, "idle", stage="a", port=11001))
    running = await lab.run_until_ready(network, "idle", stage="b", port=11002)
    await lab.die()
    found = {f.id: f.status for f in await lab.engine.list_objects(lab.instance)}
    assert found == {network.id: "running", created: "created", running: "running"}
    assert (await lab.engine.inspect(running)).status == "running"
    await lab.engine.remove(running)
    assert (await lab.engine.inspect(running)).status == "gone"


async def test_end_and_removal_are_told_with_the_labels(lab: Lab) -> None:
    events = lab.engine.events()
    container_id = await lab.run(await lab.network(), "ends-3")
    [exited] = await collect(events, 1)
    assert (exited.kind, exited.id) == ("exited", container_id)
    assert exited.labels == lab.labels("stage")
    await lab.engine.remove(container_id)
    [removed] = await collect(events, 1)
    assert (removed.kind, removed.id) == ("removed", container_id)
    await events.aclose()


async def test_kill_by_removal_is_told_as_an_end_too(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    events = lab.engine.events()
    await lab.engine.remove(container_id)
    assert [event.kind for event in await collect(events, 2)] == ["exited", "removed"]
    await events.aclose()


async def test_listening_for_events_ends_when_its_task_is_cancelled(lab: Lab) -> None:
    events = lab.engine.events()
    container_id = await lab.run(await lab.network(), "ends-0")
    await collect(events, 1)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)  # let it begin to wait
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for thread in threading.enumerate():
        if thread.name == "docker-events":
            await asyncio.to_thread(thread.join, PATIENCE)
            assert not thread.is_alive()
    await lab.engine.remove(container_id)


@pytest.mark.engine
async def test_stage_that_ran_out_of_memory_is_told_apart_from_one_that_was_killed(
    docker_lab: Lab,
) -> None:
    container_id = await docker_lab.run_until_ended(await docker_lab.network(), "eats")
    state = await docker_lab.engine.inspect(container_id)
    assert (state.status, state.oom_killed) == ("exited", True)
