# SPDX-License-Identifier: MIT
"""A daemon on a real Docker Engine, run as its users run it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker_lab import DockerDaemon, docker_served


@pytest.fixture
async def docker_daemon(tmp_path: Path) -> AsyncIterator[DockerDaemon]:
    async with docker_served(tmp_path / "state") as running:
        yield running
