# SPDX-License-Identifier: MIT
"""One laboratory for each engine: every contract test runs in all of them, or says why not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_lab import DockerLab, FakeLab, Lab, ProcessLab


def make_lab(engine: str, tmp_path: Path) -> Lab:
    """Return the laboratory of an engine, or skip the test where there is no such engine."""
    if engine == "fake":
        return FakeLab()
    if engine == "process":
        return ProcessLab(tmp_path)
    url = os.environ.get("DOCKER_HOST")
    if not url:
        pytest.skip("DOCKER_HOST names no engine (tools/engine up)")
    return DockerLab(url)


ENGINES = ["fake", "process", pytest.param("docker", marks=pytest.mark.engine)]
REAL_ENGINES = ENGINES[1:]


async def working_lab(engine: str, tmp_path: Path) -> AsyncIterator[Lab]:
    laboratory = make_lab(engine, tmp_path)
    await laboratory.open()
    try:
        yield laboratory
    finally:
        await laboratory.close()


@pytest.fixture(params=ENGINES)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """Every engine in turn."""
    async for laboratory in working_lab(request.param, tmp_path):
        yield laboratory


@pytest.fixture(params=REAL_ENGINES)
async def real_lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """The engines in which programs really run."""
    async for laboratory in working_lab(request.param, tmp_path):
        yield laboratory


@pytest.fixture
async def docker_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """The Docker Engine only; its tests carry the marker themselves."""
    async for laboratory in working_lab("docker", tmp_path):
        yield laboratory
