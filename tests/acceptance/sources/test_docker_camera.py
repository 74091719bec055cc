# SPDX-License-Identifier: MIT
"""operatord-camera in a container: a camera of RTSP with a password, and a recording, by their URLs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from camera_lab import PASSWORD, make_video, rtsp_server
from daemon_lab import Json, receive
from docker_lab import have_image, viewer_at
from test_docker_restart import Lives

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def image() -> None:
    """The image, made unless it is there already."""
    have_image("camera")


@pytest.fixture
async def lives(
    tmp_path: Path, engine_folder: Path, subnets: str, image: None
) -> AsyncIterator[Lives]:
    lives = Lives(tmp_path / "state", subnets)
    lives.more = {"probes": {"allow": ["127.0.0.0/8", f"file:{engine_folder}"]}}
    yield lives
    await lives.close()


async def test_camera_and_recording_are_streamed_by_their_urls(
    lives: Lives, engine_folder: Path, ffmpeg: str
) -> None:
    engine_folder.chmod(0o755)  # the adapter runs as nobody
    recording = make_video(ffmpeg, engine_folder / "a scan.mkv", "-c:v", "ffv1")
    wire = await lives.start()
    with rtsp_server(user="operator", password=PASSWORD) as server:
        url = server.url(f"operator:{quote(PASSWORD, safe='')}@")
        await wire.call("probe.register", name="cam", url=url)
        session = await wire.call("session.start", probe="cam", plain_stream=True, count=10)
        hello, frames, end = await receive(session["location"])
        size = {"width": 320, "height": 240, "format": "gray8", "fps": 25}
        assert hello.items() >= size.items()
        assert (len(frames), end["frames"]) == (10, 10)
        inspected = await asyncio.to_thread(lives.engine.client.inspect_container, session["probe"])
        assert quote(PASSWORD, safe="") not in str(inspected)
    url = f"file:{quote(str(recording))}"
    await wire.call("probe.register", name="scan", url=url)
    wanted: Json = {"width": 32, "loop": True}
    session = await wire.call(
        "session.start", probe="scan", plain_stream=True, env={"probe": wanted}
    )
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(25)
    await lives.end(wire)
