# SPDX-License-Identifier: MIT
"""Fixtures: cameras as processes that are gone when the test is, and what they read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import camera_lab
import pytest
from camera_lab import Camera


@pytest.fixture(scope="session")
def modules() -> SimpleNamespace:
    """The camera's modules by their names."""
    return camera_lab.load()


@pytest.fixture
def launch() -> Iterator[Callable[..., Camera]]:
    """Start cameras on a URL, with settings."""
    cameras: list[Camera] = []

    def start(url: str, **env: object) -> Camera:
        cameras.append(Camera(url, env))
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.close()


@pytest.fixture(scope="session")
def decoder() -> str:
    return camera_lab.require("ffmpeg")


@pytest.fixture(scope="session")
def recording(decoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 20 pictures, 0.05 s each."""
    folder = tmp_path_factory.mktemp("recordings")
    return camera_lab.make_video(decoder, folder / "a recording.mkv", "-c:v", "ffv1")


@pytest.fixture(scope="session")
def jpegs(decoder: str) -> list[bytes]:
    return camera_lab.make_jpegs(decoder)
