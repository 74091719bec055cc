# SPDX-License-Identifier: MIT
"""A probe that hangs, on a real engine: said while it lasts, and nothing is lost when it goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from daemon_lab import until
from docker.errors import APIError
from docker_lab import DockerDaemon, docker_served, viewer_at

pytestmark = pytest.mark.engine


def paused(daemon: DockerDaemon, container: str) -> bool:
    """Pause a stage; tell whether it is, as runc gives up on a freezer that is slow on busy cores."""
    try:
        daemon.engine.client.pause(container)
    except APIError as exc:
        assert "unable to freeze" in str(exc)
        return False
    return True


async def test_stage_that_hangs_is_named_and_the_stream_completes_once_it_goes_on(
    tmp_path: Path,
) -> None:
    """In two sessions at once different stages hang; most of the time goes by while they do."""
    config = {"stall_timeout": 3}

    async def hang(daemon: DockerDaemon, stage: str) -> None:
        wire, watcher = await daemon.wire(), await daemon.watcher("session.stalled")
        session = await wire.call("session.start", count=200, env={"probe": {"fps": 40}})
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(60)
            await until(lambda: paused(daemon, session[stage]), "the stage hangs")
            try:
                reading = asyncio.create_task(viewer.rest())
                event = await watcher.event("session.stalled", session["session_id"])
            finally:
                daemon.engine.client.unpause(session[stage])
            assert event["stage"] == stage
            assert event["seconds"] >= 3
            assert await reading == {"type": "end", "frames": 200, "dropped": 0}
        ended = await wire.call("session.wait", session_id=session["session_id"])
        assert ended["outcome"] == "completed"

    async with (
        docker_served(tmp_path / "s", config=config) as daemon,
        asyncio.TaskGroup() as both,
    ):
        for stage in ("probe", "stream"):
            both.create_task(hang(daemon, stage), name=stage)


async def test_consumer_that_does_not_read_is_no_stall(tmp_path: Path) -> None:
    """It reads on in the end: until then, everybody has waited for it alone."""
    config = {"stall_timeout": 3}
    large = {"probe": {"fps": 0, "width": 640, "height": 640}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire, watcher = await daemon.wire(), await daemon.watcher()
        start = {"count": 400, "plain_stream": True, "env": large}
        session = await wire.call("session.start", **start)
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(1)
            logs = await wire.call(
                "session.logs", session_id=session["session_id"], stage="stream", follow=True
            )
            held = await wire.note(lambda note: '"blocked":1' in note.get("line", ""))
            assert logs["subscription"] == held["subscription"]
            refused = await wire.refusal(
                "session.wait", session_id=session["session_id"], timeout=6
            )
            assert refused.data["phase"] == "running"
            assert (await viewer.rest() or {})["frames"] == 400
        await watcher.event("session.running")
        # That it holds the stream up is told of, where a busy host lets it do so for long.
        beside = ("session.held_up", "session.stopping")
        seen = await watcher.note(lambda note: note["type"] not in beside)
        assert seen["type"] == "session.ended"


async def test_last_stage_that_hangs_is_not_taken_for_held_up_by_its_consumer(
    tmp_path: Path,
) -> None:
    config = {"stall_timeout": 2}
    large = {"probe": {"fps": 0, "width": 640, "height": 640}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire, watcher = await daemon.wire(), await daemon.watcher("session.stalled")
        session = await wire.call("session.start", count=400, plain_stream=True, env=large)
        sid, stage = session["session_id"], session["stream"]
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(1)
            await wire.call("session.logs", session_id=sid, stage="stream", follow=True)
            await wire.note(lambda note: '"blocked":1' in note.get("line", ""))
            daemon.engine.client.pause(stage)
            begun = time.monotonic()
            try:
                event = await watcher.event("session.stalled", sid)
                took = time.monotonic() - begun  # at most PATIENCE, or there would be no event
            finally:
                daemon.engine.client.unpause(stage)
            assert (event["stage"], took >= 2) == ("stream", True)
            assert (await viewer.rest() or {})["frames"] == 400
