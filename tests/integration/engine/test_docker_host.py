# SPDX-License-Identifier: MIT
"""A `DOCKER_HOST`, or a setting, that is no engine's address ends each command with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import OPERATORD, clean_env, run

COMMANDS = ["serve", "sweep", "check-config", "demo", "build-images"]


async def ends(command: str, tmp_path: Path, **env: str) -> tuple[int, str]:
    where = (
        {} if command in ("demo", "build-images") else {"OPERATORD_STATE_DIR": str(tmp_path / "s")}
    )
    code, _, said = await run(OPERATORD, command, env={**clean_env(), **where, **env})
    return code, said


@pytest.mark.parametrize("address", ["docker.sock", "htp://x", "tcp://localhost:x"])
@pytest.mark.parametrize("command", COMMANDS)
async def test_docker_host_that_is_none_is_told_in_a_line(
    tmp_path: Path, command: str, address: str
) -> None:
    """F12: exit code 2, nothing begun, and no traceback."""
    code, said = await ends(command, tmp_path, DOCKER_HOST=address)
    assert code == 2
    [line] = said.splitlines()
    assert line.startswith("operatord: DOCKER_HOST: the address ")
    assert "unix:///run/docker.sock" in line
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("command", ["serve", "sweep", "check-config"])
async def test_setting_that_is_no_address_is_named(tmp_path: Path, command: str) -> None:
    """F12"""
    code, said = await ends(
        command, tmp_path, OPERATORD_DOCKER_HOST="unix://", DOCKER_HOST="docker.sock"
    )
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("operatord: OPERATORD_DOCKER_HOST: docker_host: the address names no")


async def test_local_processes_need_no_address(tmp_path: Path) -> None:
    """F12: what is not used does not matter."""
    code, said = await ends(
        "check-config", tmp_path, OPERATORD_ENGINE="process", DOCKER_HOST="docker.sock"
    )
    assert (code, said) == (0, "")
