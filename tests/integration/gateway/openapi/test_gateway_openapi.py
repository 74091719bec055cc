# SPDX-License-Identifier: MIT
"""The description of what may be asked over HTTP, and whether that is what happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gateway_lab import gatewayed

from operatord.gateway.openapi import description
from operatord_protocol.methods import METHODS

CASES = Path(__file__).with_name("openapi_cases.py")


def test_what_is_described_is_what_happens() -> None:
    command = ["-m", "pytest", "-q", "-n0", "-p", "schemathesis.pytest.plugin", str(CASES)]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_method_is_described() -> None:
    paths = {each.removeprefix("/api/v1/") for each in description()["paths"]}
    assert METHODS.keys() - paths == {"events.subscribe", "events.unsubscribe", "request.cancel"}


async def test_it_is_what_the_gateway_answers(tmp_path: Path) -> None:
    async with gatewayed(tmp_path / "state") as daemon:
        said = await daemon.http.get("/api/v1/openapi.json")
        assert (said.status, said.json) == (200, description())
