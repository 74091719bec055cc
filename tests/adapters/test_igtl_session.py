# SPDX-License-Identifier: MIT
"""A session from a scanner to 3D Slicer, as local processes: pyigtl at both ends, and the daemon between.

The pipeline is the one in examples/, on a probe that is registered by its URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyigtl
import yaml
from daemon_lab import in_process
from igtl_lab import HOST, pyigtl_server, viewer

EXAMPLE = Path(__file__).parents[2] / "examples" / "slicer.yaml"
POSE = np.eye(4)
POSE[:3, 3] = 1, 2, 3


def disk(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a bright picture with a dark disk, which the segmentation finds."""
    y, x = np.mgrid[:64, :96]
    inside = (x - 40 - number % 20) ** 2 + (y - 30) ** 2 < 15**2
    return np.where(inside, np.uint8(20), np.uint8(200))[None]


@contextlib.contextmanager
def scanning() -> Iterator[int]:
    """Have pyigtl's server send pictures, which their time stamps count, and poses; give its port.

    It serves one client at a time, and sees that one has left only when it sends: the daemon's look at it
    costs pictures.
    """
    over = threading.Event()

    def send(server: Any) -> None:
        number = 0
        while not over.wait(0.02):
            number += 1
            sent = pyigtl.ImageMessage(disk(number), timestamp=1000 + number, device_name="US")
            server.send_message(pyigtl.TransformMessage(POSE, device_name="Pose"), wait=False)
            server.send_message(sent, wait=False)

    with pyigtl_server() as server:
        thread = threading.Thread(target=send, args=(server,))
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            over.set()
            thread.join()


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
