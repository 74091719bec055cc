# SPDX-License-Identifier: MIT
"""operatord-openigtlink-in in a container: a scanner on this machine, pyigtl's server, by its URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import receive
from docker_lab import have_image
from igtl_lab import HOST, disk, scanning
from test_docker_restart import Lives

pytestmark = [pytest.mark.engine, pytest.mark.slow]

COUNT = 8


@pytest.fixture
async def lives(tmp_path: Path, subnets: str) -> AsyncIterator[Lives]:
    await asyncio.to_thread(have_image, "openigtlink-in")
    lives = Lives(tmp_path / "state", subnets)
    lives.more = {"probes": {"allow": ["127.0.0.0/8"]}}
    yield lives
    await lives.close()


async def test_scanner_s_pictures_are_streamed_by_its_url(lives: Lives, capfd: Any) -> None:
    wire = await lives.start()
    with scanning() as port:
        await wire.call("probe.register", name="us", url=f"igtl://{HOST}:{port}?device=US")
        session = await wire.call("session.start", probe="us", plain_stream=True, count=COUNT)
        hello, frames, end = await receive(session["location"])
        done = await wire.call("session.wait", session_id=session["session_id"])
    assert hello.items() >= {"width": 96, "height": 64, "format": "gray8"}.items()
    assert (len(frames), end["frames"]) == (COUNT, COUNT)
    for header, parts in frames:
        assert parts["image"] == disk(round(header["time"]) - 1000).tobytes()
    assert (done["outcome"], done["frames"]) == ("completed", COUNT)
    await lives.end(wire)
    capfd.readouterr()  # pyigtl prints where it was when the daemon's look had ended
