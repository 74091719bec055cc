# SPDX-License-Identifier: MIT
"""A session from a scanner to 3D Slicer, as local processes: pyigtl at both ends, and the daemon between.

The pipeline is the one in examples/, on a probe that is registered by its URL.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from daemon_lab import in_process
from igtl_lab import HOST, POSE, disk, scanning, viewer

EXAMPLE = Path(__file__).parents[2] / "examples" / "slicer.yaml"


async def test_a_scanner_is_seen_in_slicer(tmp_path: Path, capfd: Any) -> None:
    settings = {**yaml.safe_load(EXAMPLE.read_text()), "engine": "process"}
    with scanning() as port:
        async with in_process(tmp_path / "state", settings) as lab:
            wire = await lab.wire()
            await wire.call("probe.register", name="us", url=f"igtl://{HOST}:{port}?device=US")
            session = await wire.call("session.start", pipeline="slicer", probe="us", count=4)
            location = session["location"]
            assert location["format"] == "openigtlink"
            with viewer(location["port"], location["host"]) as slicer:
                images = await asyncio.to_thread(slicer.take, 4, "Image")
                masks = await asyncio.to_thread(slicer.take, 4, "Mask")
                poses = await asyncio.to_thread(slicer.take, 3, "Pose")  # before each but the first
                done = await wire.call("session.wait", session_id=session["session_id"])
    for image, mask in zip(images, masks, strict=True):
        picture = disk(round(image.timestamp) - 1000)
        assert (image.image == picture).all()
        assert set(np.unique(mask.image)) == {0, 255}
        assert ((mask.image == 255) == (picture == 20)).mean() > 0.98
    assert poses[0].matrix.tolist() == POSE.tolist()
    assert (done["outcome"], done["frames"]) == ("completed", 4)
    capfd.readouterr()  # pyigtl prints where it was when the daemon's look had ended
