# SPDX-License-Identifier: MIT
"""What every engine does with a stage from its creation to its removal."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from daemon_lab import PATIENCE
from engine_lab import Lab, collect

from operatord.engines.base import ImageMissing, NotThere, StageRefused


async def test_created_stage_does_not_run_until_it_is_started(lab: Lab) -> None:
    network = await lab.network()
    container_id = await lab.engine.create(lab.plan(network, "idle"))
    assert (await lab.engine.inspect(container_id)).status == "created"
    await lab.engine.start(container_id)
    state = await lab.engine.inspect(container_id)
    assert (state.id, state.status, state.exit_code) == (container_id, "running", None)
    assert state.ip
    await lab.engine.remove(container_id)
    assert (await lab.engine.inspect(container_id)).status == "gone"


@pytest.mark.parametrize(("program", "code"), [("ends-0", 0), ("ends-3", 3)])
async def test_exit_code_is_the_programs_own(lab: Lab, program: str, code: int) -> None:
    container_id = await lab.run_until_ended(await lab.network(), program)
    state = await lab.engine.inspect(container_id)
    assert (state.status, state.exit_code, state.oom_killed) == ("exited", code, False)


async def test_ends_are_told_in_their_order(lab: Lab) -> None:
    network = await lab.network()
    ends = []
    for stage in ("one", "other"):
        container_id = await lab.run_until_ended(network, "ends-3", stage=stage)
        state = await lab.engine.inspect(container_id)
        assert state.ended is not None
        ends.append(state.ended)
    assert ends == sorted(ends)
    assert ends[1] - ends[0] < 60 and abs(time.time() - ends[1]) < 60


async def test_stop_ends_a_program_that_does_nothing_about_sigterm(lab: Lab) -> None:
    if not lab.engine.capabilities.reaps:
        pytest.skip("this engine has no reaper: such a program is stopped when its grace is over")
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    async with asyncio.timeout(PATIENCE):
        await lab.engine.stop(container_id, grace=4 * PATIENCE)
    state = await lab.engine.inspect(container_id)
    assert (state.status, state.exit_code) == ("exited", 128 + 15)


async def test_stop_kills_once_the_grace_is_over(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "stubborn")
    await lab.engine.stop(container_id, grace=1)
    state = await lab.engine.inspect(container_id)
    assert (state.status, state.exit_code) == ("exited", 128 + 9)


async def test_stop_of_what_has_ended_or_is_gone_succeeds(lab: Lab) -> None:
    container_id = await lab.run_until_ended(await lab.network(), "ends-3")
    await lab.engine.stop(container_id, grace=1)
    assert (await lab.engine.inspect(container_id)).exit_code == 3
    await lab.engine.remove(container_id)
    await lab.engine.stop(container_id, grace=1)


async def test_remove_of_a_running_stage_kills_it_and_may_be_repeated(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "stubborn")
    await lab.engine.remove(container_id)
    assert (await lab.engine.inspect(container_id)).status == "gone"
    await lab.engine.remove(container_id)


async def test_concurrent_removals_all_succeed(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    await asyncio.gather(*(lab.engine.remove(container_id) for _ in range(3)))
    assert (await lab.engine.inspect(container_id)).status == "gone"


async def test_only_images_that_are_there_have_an_id(lab: Lab) -> None:
    idle = lab.image("idle")
    asked = ["no-such-b:1", idle, "no-such-a:1", idle]
    assert list(await lab.engine.image_ids(asked)) == [idle]


async def test_stage_of_a_missing_image_is_not_created(lab: Lab) -> None:
    plan = lab.plan(await lab.network(), "idle", image="no-such:1", command=())
    with pytest.raises(ImageMissing) as caught:
        await lab.engine.create(plan)
    assert caught.value.image == "no-such:1"
    assert [found.kind for found in await lab.engine.list_objects(lab.instance)] == ["network"]


async def test_stage_that_cannot_run_is_refused_or_ends_at_once(lab: Lab) -> None:
    events = lab.engine.events()
    container_id = await lab.engine.create(lab.plan(await lab.network(), "nonsense"))
    try:
        await lab.engine.start(container_id)
    except StageRefused:
        assert (await lab.engine.inspect(container_id)).status == "created"
    else:
        await collect(events, 1)
        assert (await lab.engine.inspect(container_id)).exit_code in (1, 127)  # the reaper's
    await events.aclose()
    await lab.engine.remove(container_id)


async def test_what_is_gone_cannot_be_started_or_measured(lab: Lab) -> None:
    container_id = await lab.engine.create(lab.plan(await lab.network(), "idle"))
    await lab.engine.remove(container_id)
    with pytest.raises(NotThere):
        await lab.engine.start(container_id)
    with pytest.raises(NotThere):
        await lab.engine.stats(container_id)


async def test_stage_of_a_network_that_is_gone_is_not_started(lab: Lab) -> None:
    network = await lab.network()
    await lab.engine.remove_network(network.id)
    with pytest.raises(NotThere):
        await lab.run(network, "idle")


async def test_second_creation_of_the_same_plan_adopts(lab: Lab) -> None:
    plan = lab.plan(await lab.network(), "idle")
    first = await lab.engine.create(plan)
    assert await lab.engine.create(plan) == first


async def test_name_held_by_another_plan_is_refused(lab: Lab) -> None:
    network = await lab.network()
    await lab.engine.create(lab.plan(network, "idle"))
    other = lab.plan(network, "idle", labels=lab.labels("stage", plan="plan-2"))
    with pytest.raises(StageRefused):
        await lab.engine.create(other)


async def test_cancelled_creation_leaves_at_most_what_a_relist_finds(lab: Lab) -> None:
    plan = lab.plan(await lab.network(), "idle")
    cancelled = asyncio.ensure_future(lab.engine.create(plan))
    await asyncio.sleep(0)  # let it begin
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):  # an engine in memory is done by now
        await cancelled
    container_id = await lab.engine.create(plan)
    found = await lab.engine.list_objects(lab.instance)
    assert [f.id for f in found if f.kind == "container"] == [container_id]


async def test_usage_of_a_running_stage_is_measured(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    stats = await lab.engine.stats(container_id)
    assert stats.cpu_seconds is not None
    assert stats.cpu_seconds >= 0
    assert stats.memory
    assert stats.pids
