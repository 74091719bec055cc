# SPDX-License-Identifier: MIT
"""3D Slicer's way, on a real engine: examples/slicer.yaml and its image, and pyigtl as Slicer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml
from daemon_lab import receive
from docker_lab import docker_served, have_image
from igtl_lab import viewer

pytestmark = pytest.mark.engine

EXAMPLE = Path(__file__).parents[3] / "examples" / "slicer.yaml"
COUNT = 8
FRAMES = {"probe": {"fps": 0, "width": 64, "height": 48, "seed": 3}}


async def test_slicer_sees_what_the_stream_has(tmp_path: Path) -> None:
    await asyncio.to_thread(have_image, "openigtlink-out")
    settings = {"pressure": {"cpu": None}, **yaml.safe_load(EXAMPLE.read_text())}
    async with docker_served(tmp_path / "s", config=settings) as daemon:
        wire = await daemon.wire()
        plain = await wire.call("session.start", count=COUNT, env=FRAMES)
        _, frames, _ = await receive(plain["location"])
        session = await wire.call("session.start", pipeline="slicer", count=COUNT, env=FRAMES)
        location = session["location"]
        assert location["url"] == f"igtl://{location['host']}:{location['port']}"
        with viewer(location["port"], location["host"]) as slicer:
            images = await asyncio.to_thread(slicer.take, COUNT, "Image")
            masks = await asyncio.to_thread(slicer.take, COUNT, "Mask")
            done = await wire.call("session.wait", session_id=session["session_id"])
        for (_, parts), image, mask in zip(frames, images, masks, strict=True):
            assert (image.image.dtype, image.image.shape) == (np.uint8, (1, 48, 64))
            assert (image.image.tobytes(), mask.image.tobytes()) == (parts["image"], parts["mask"])
        assert (done["outcome"], done["frames"]) == ("completed", COUNT)
