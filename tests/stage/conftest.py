# SPDX-License-Identifier: MIT
"""Stages of a few lines, run as processes; streams are played and read as in the tests of the emulators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("emulators", "acceptance")]

from stage_lab import Runner


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def run(tmp_path: Path, pool: ThreadPoolExecutor) -> Iterator[Runner]:
    """Run scripts; kill what is left of them afterwards, by handle: before the upstreams that are played."""
    runner = Runner(tmp_path)
    yield runner
    runner.close()
