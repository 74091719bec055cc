# SPDX-License-Identifier: MIT
"""A daemon whose sessions are local processes, and a gateway to it, for the tests of pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Lab, in_process
from streams_lab import Site, a_site


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with in_process(tmp_path / "state", {"engine": "process"}) as running:
        yield running


@pytest.fixture
async def site(lab: Lab) -> AsyncIterator[Site]:
    async with a_site(lab.address) as running:
        yield running
