# SPDX-License-Identifier: MIT
"""Fixtures: stages as processes that are gone when the test is."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import emulator_stages
import pytest
from emulator_stages import Launcher, load


@pytest.fixture
def launch() -> Iterator[Launcher]:
    """Start stages; kill what is left of them afterwards, by handle."""
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def probe_script() -> SimpleNamespace:
    return load("probe")


@pytest.fixture(scope="session")
def streaming_script() -> SimpleNamespace:
    return load("streaming")


@pytest.fixture(scope="session")
def segmentation_script() -> SimpleNamespace:
    return load("segmentation")


@pytest.fixture
def ffmpeg() -> str:
    """Return the path of ffmpeg: without it CI fails, elsewhere the test is skipped."""
    return emulator_stages.require_tool("ffmpeg")
