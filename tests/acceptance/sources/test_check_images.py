# SPDX-License-Identifier: MIT
"""`operatord check-stage` on the images of the adapters, in containers, each with a source to read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from camera_lab import make_video
from daemon_lab import OPERATORD, clean_env, run
from docker_lab import have_image
from igtl_lab import HOST, image, packed

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PACE = 0.01
"""Seconds between two pictures of the scanner."""
LIVE = {"lossless", "checked"}
"""What is not required, and need not hold, where a source waits for nobody."""
UNTOLD = {"second-consumer", "lossless", "checked", "live-consumer", "watch"}
"""What cannot be told of a stage that speaks another protocol."""


async def failing(name: str, *words: str) -> set[str]:
    """Check an image; return the names of what does not hold, or cannot be told."""
    await asyncio.to_thread(have_image, name)
    options = ("--engine", "docker", "--json", "--timeout", "60")
    command = (OPERATORD, "check-stage", f"operatord-{name}", *options, *words)
    code, out, err = await run(*command, env=clean_env())
    found: dict[str, Any] = json.loads(out)
    short = [each for each in found["checks"] if each["state"] != "holds"]
    assert (code, found["passes"]) == (0, True), (short, err)
    return {each["name"] for each in short}


@contextlib.asynccontextmanager
async def scanner() -> AsyncIterator[int]:
    """Have a scanner on this machine alone that sends pictures to all who connect; give its port."""
    over = asyncio.Event()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for number in itertools.count():
                picture = image(np.full((64, 96), number % 256, np.uint8))
                writer.write(packed("IMAGE", "US", picture, time=1000 + number))
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), PACE)
                    break
        writer.close()

    async with await asyncio.start_server(send, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]
        over.set()


async def test_camera_keeps_the_contract(engine_folder: Path, ffmpeg: str) -> None:
    engine_folder.chmod(0o755)  # the adapter runs as nobody
    scan = make_video(ffmpeg, engine_folder / "scan.mkv", "-c:v", "ffv1", frames=400, rate=100)
    assert await failing("camera", "--env", f"source_url=file:{scan}") == set()


async def test_scanner_s_adapter_keeps_the_contract() -> None:
    """The scanner is found from a network without a way out; gaps are those of a live source."""
    async with scanner() as port:
        url = f"source_url=igtl://{HOST}:{port}?device=US"
        assert await failing("openigtlink-in", "--env", url) <= LIVE


async def test_slicer_s_server_keeps_the_contract() -> None:
    assert await failing("openigtlink-out", "--kind", "sink") <= UNTOLD
