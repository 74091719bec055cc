# SPDX-License-Identifier: MIT
"""Which engine is meant: the docker command itself is asked, and says the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from certificates import Authority

from operatord.engines.docker_host.endpoint import DEFAULT_SOCKET, Wanted, named
from operatord.engines.docker_host.tls import BadEndpoint, check

HOST = "tcp://host.example:2375"
CASES: list[dict[str, str]] = [
    {},
    {"DOCKER_HOST": HOST},
    {"DOCKER_HOST": HOST, "DOCKER_CONTEXT": "far"},
    {"DOCKER_HOST": HOST, "DOCKER_CONTEXT": "none"},
    {"DOCKER_CONTEXT": "near"},
    {"DOCKER_CONTEXT": "none"},
    {"DOCKER_CONTEXT": "default"},
    {"DOCKER_HOST": "", "DOCKER_CONTEXT": ""},
    {"DOCKER_CONFIG": "/nowhere/at/all"},
]


def docker(env: dict[str, str], *arguments: str) -> str | None:
    """Return what the command prints; None if it fails."""
    done = subprocess.run(
        ["docker", *arguments], check=False, env=env, capture_output=True, text=True
    )
    return done.stdout if done.returncode == 0 else None


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Return the environment of somebody who has two contexts."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    for name, host in (("far", "tcp://far.example:2375"), ("near", "unix:///run/near.sock")):
        assert docker(env, "context", "create", name, "--docker", f"host={host}") is not None
    return env


@pytest.mark.parametrize("current", [None, "far"])
def test_the_same_engine_is_meant(home: dict[str, str], current: str | None) -> None:
    """F5"""
    if current is not None:
        assert docker(home, "context", "use", current) is not None
    for case in CASES:
        env = home | case
        answer = docker(env, "context", "inspect")
        try:
            found = named(Wanted(), env)
        except BadEndpoint:
            assert answer is None, case
            continue
        assert answer is not None, case
        [context] = json.loads(answer)
        ours = f"unix://{DEFAULT_SOCKET}" if found is None else found.url
        assert context["Endpoints"]["docker"]["Host"] == ours, case


def test_certificates_of_a_context_are_found_where_the_command_puts_them(
    home: dict[str, str], tmp_path: Path
) -> None:
    """F5"""
    tls = Authority(tmp_path).client()
    files = dict(zip(("ca", "cert", "key"), tls[:3], strict=True))
    options = ",".join(f"{name}={file}" for name, file in files.items())
    made = docker(home, "context", "create", "safe", "--docker", f"host={HOST},{options}")
    assert made is not None
    found = named(Wanted(context="safe"), home)
    assert found is not None
    assert found.tls is not None
    assert found.tls.verify
    for kept, file in zip(found.tls[:3], files.values(), strict=True):
        assert kept is not None
        assert kept.read_bytes() == file.read_bytes()
    check(found.tls)
