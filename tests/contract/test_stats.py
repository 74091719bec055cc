# SPDX-License-Identifier: MIT
"""What an engine says that a stage uses."""

from __future__ import annotations

import asyncio

import pytest
from daemon_lab import PATIENCE
from engine_lab import Lab

from operatord.engines.base import StageStats
from operatord.monitors.idle import CHATTER


async def grown(lab: Lab, container_id: str, before: StageStats) -> StageStats:
    """Return the first figures with more processor time than ``before``."""
    async with asyncio.timeout(PATIENCE):
        while True:
            stats = await lab.engine.stats(container_id)
            assert stats.cpu_seconds is not None
            assert before.cpu_seconds is not None
            assert stats.cpu_seconds >= before.cpu_seconds
            if stats.cpu_seconds > before.cpu_seconds:
                return stats


async def test_processor_time_of_a_busy_stage_grows(real_lab: Lab) -> None:
    busy = await real_lab.run(await real_lab.network(), "asks", env={"TARGET": "127.0.0.1:1"})
    first = await real_lab.engine.stats(busy)
    assert (await grown(real_lab, busy, first)).memory


@pytest.mark.engine
async def test_bytes_sent_are_those_of_the_namespace_and_stand_still_without_a_reader(
    docker_lab: Lab,
) -> None:
    network = await docker_lab.network()
    owner = await docker_lab.run_until_ready(network, "serves")
    member = await docker_lab.run_until_ready(
        network, "serves", stage="member", join=owner, port=12346, aliases=()
    )
    asleep = await docker_lab.engine.stats(owner)
    assert asleep.tx_bytes is not None
    for each, why in ((owner, "nobody reads"), (member, "they share it")):
        now = (await docker_lab.engine.stats(each)).tx_bytes
        assert now is not None
        # What the system sends by itself there may be, such as in search of neighbours.
        assert 0 <= now - asleep.tx_bytes < CHATTER, why
    asking = await docker_lab.run_until_ended(
        network, "asks", stage="asking", env={"TARGET": "stage:12346"}
    )
    assert [line.line for line in await docker_lab.output(asking)] == ["hello from member"]
    sent = (await docker_lab.engine.stats(owner)).tx_bytes
    assert sent is not None
    assert sent > asleep.tx_bytes


@pytest.mark.engine
async def test_figures_that_take_their_time_hold_up_no_other_look(docker_lab: Lab) -> None:
    container_id = await docker_lab.run_until_ready(await docker_lab.network(), "idle")
    stats = [asyncio.ensure_future(docker_lab.engine.stats(container_id)) for _ in range(16)]
    await asyncio.sleep(0)  # let them begin
    assert (await docker_lab.engine.inspect(container_id)).status == "running"
    assert not all(figures.done() for figures in stats), "it had to wait for all of them"
    await asyncio.gather(*stats)
