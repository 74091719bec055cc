# SPDX-License-Identifier: MIT
"""What every engine tells of what a stage wrote."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest
from daemon_lab import PATIENCE
from engine_lab import Lab, ProcessLab

from operatord.engines.base import EngineFailed
from operatord.engines.logs import LINE_BYTES

SAID = [*map(str, range(200)), "no end"]
TALK = (
    "python3",
    "-u",
    "-c",
    "print('ready'); input(); print(*range(200), 'no end', sep='\\n', end='')",
)


async def test_lines_are_kept_apart_by_stream(lab: Lab) -> None:
    container_id = await lab.run_until_ended(await lab.network(), "talks")
    lines = await lab.engine.logs(container_id, 100)
    assert [line.line for line in lines if line.stream == "stdout"] == ["one", "two"]
    assert [line.line for line in lines if line.stream == "stderr"] == ["oops"]


async def test_lines_carry_the_time_at_which_they_were_written(real_lab: Lab) -> None:
    container_id = await real_lab.run_until_ended(await real_lab.network(), "talks")
    for line in await real_lab.engine.logs(container_id, 100):
        age = datetime.now(UTC) - datetime.fromisoformat(line.time)
        assert timedelta(0) <= age < timedelta(minutes=1)


async def test_tail_gives_the_last_lines_only(lab: Lab) -> None:
    container_id = await lab.run_until_ended(await lab.network(), "talks")
    everything = [line.line for line in await lab.engine.logs(container_id, 100)]
    assert len(everything) == 3
    for tail in (0, 1, 2):
        lines = [line.line for line in await lab.engine.logs(container_id, tail)]
        assert lines == everything[len(everything) - tail :]


async def test_what_is_no_good_line_is_bounded_and_readable(real_lab: Lab) -> None:
    container_id = await real_lab.run_until_ended(await real_lab.network(), "mumbles")
    long, bad, unended = [line.line for line in await real_lab.engine.logs(container_id, 10)]
    assert long == "x" * LINE_BYTES
    assert bad == "�� bad"
    assert unended == "no end"


async def test_following_yields_the_past_then_the_present_and_ends_with_the_stage(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    lines = lab.engine.follow_logs(container_id, 10)
    assert (await anext(lines)).line == "ready"
    ended = asyncio.ensure_future(anext(lines, None))
    await lab.engine.stop(container_id, grace=10)
    assert await ended is None


async def test_follower_has_what_was_written_in_the_end(real_lab: Lab) -> None:
    """Podman may end its answer before the last lines, and Docker before one that has no newline."""
    lab = real_lab
    network = await lab.network()
    names = [f"stage-{n}" for n in range(10)]
    stages = [
        await lab.run_until_ready(network, "idle", stage=each, command=TALK, stdin=True)
        for each in names
    ]

    async def followed(stage: str) -> list[str]:
        with contextlib.closing(await lab.engine.attach_stdin(stage)) as held:
            async with contextlib.aclosing(lab.engine.follow_logs(stage, 10)) as lines:
                assert (await anext(lines)).line == "ready"
                held.send(b"go\n")
                return [line.line async for line in lines]

    assert await asyncio.gather(*map(followed, stages)) == [SAID] * len(stages)


async def test_followed_stage_may_be_removed(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    following = asyncio.ensure_future(lab.output(container_id))
    await lab.engine.remove(container_id)
    await following


async def test_following_ends_when_its_task_is_cancelled(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle")
    lines = lab.engine.follow_logs(container_id, 10)
    await anext(lines)
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)  # let it begin to wait
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for thread in threading.enumerate():
        if thread.name == "docker-logs":
            await asyncio.to_thread(thread.join, PATIENCE)
            assert not thread.is_alive()


async def test_stage_that_is_gone_has_no_lines(lab: Lab) -> None:
    container_id = await lab.run(await lab.network(), "talks")
    await lab.engine.remove(container_id)
    assert await lab.engine.logs(container_id, 10) == []
    assert await lab.output(container_id) == []


@pytest.mark.engine
async def test_what_an_engine_says_in_the_middle_of_a_log_ends_it(
    docker_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman does, when the stage is removed meanwhile: it begins with a brace, and not as a frame."""
    engine = docker_lab.engine
    container_id = await docker_lab.run_until_ready(await docker_lab.network(), "idle")

    async def stream(*_: object) -> AsyncGenerator[bytes, None]:
        yield b"\1\0\0\0\0\0\0\7t1 one\n"
        yield b'{"cause":"no such container","response":500}\n'

    monkeypatch.setattr(engine, "_stream", stream)
    with pytest.raises(EngineFailed):
        await engine.logs(container_id, 10)
    await engine.remove(container_id)
    assert [line.line for line in await engine.logs(container_id, 10)] == ["one"]


async def test_environment_is_the_plans(real_lab: Lab) -> None:
    """F23: and where a stage is nobody, it has a home."""
    plan = {"SECRET": "of the plan"}
    container_id = await real_lab.run(await real_lab.network(), "shows", env=plan)
    [line] = await real_lab.output(container_id)
    uid, _, rest = line.line.partition(" ")
    if isinstance(real_lab, ProcessLab):
        assert rest == "of the plan None"
    else:
        assert uid == "65534"
        assert rest == "of the plan /tmp"
