# SPDX-License-Identifier: MIT
"""A state directory that is copied, beside its original, on a real Docker Engine."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, clean_env, run
from docker_lab import Engine, docker_served, viewer_at

pytestmark = pytest.mark.engine


async def operatord(*arguments: str, state_dir: Path) -> tuple[int, str, str]:
    env = {**clean_env(), "DOCKER_HOST": os.environ["DOCKER_HOST"]}
    options = ("--engine", "docker", "--state-dir", str(state_dir))
    return await run(OPERATORD, *arguments, *options, env=env)


async def test_engine_tells_a_copy_that_cannot_see_its_original(tmp_path: Path) -> None:
    """N7: as in another container, or on another machine; nothing of the original is touched."""
    state = tmp_path / "state"
    async with docker_served(state) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", count=100_000, env={"probe": {"fps": 50}})
        copied = tmp_path / "copy"
        await asyncio.to_thread(shutil.copytree, state, copied)
        (copied / "identity").unlink()  # whatever it says, the engine knows better
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(5)
            serve = ("serve", "--listen", "127.0.0.1:0")
            for command in (serve, ("sweep", "--grace", "0")):
                code, _, err = await operatord(*command, state_dir=copied)
                assert code == 1
                assert "belongs to another state directory" in err.splitlines()[-1]
            await viewer.frames(100)
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        volume = f"operatord-{daemon.instance}"
        assert volume in _volumes(await asyncio.to_thread(daemon.engine.client.volumes))
        instance = daemon.instance
    code, out, _ = await operatord("identity", state_dir=state)
    assert (code, f"instance {instance}," in out) == (0, True)
    assert not [name for name in await _all_volumes() if instance in name], "its mark went with it"


async def _all_volumes() -> list[str]:
    engine = Engine()
    try:
        return _volumes(await asyncio.to_thread(engine.client.volumes))
    finally:
        engine.close()


def _volumes(answer: dict[str, list[dict[str, str]]]) -> list[str]:
    return [each["Name"] for each in answer["Volumes"] or ()]
