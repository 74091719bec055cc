# SPDX-License-Identifier: MIT
"""Which engine a daemon uses, and why it is that one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .config import Config
from .engines.base import Engine

DEFAULT_SOCKET = Path("/var/run/docker.sock")


def choose_engine(
    config: Config, instance: str, state_dir: Path, env: Mapping[str, str]
) -> tuple[Engine, str]:
    """Return the engine that the settings ask for and a phrase that says why. No I/O but a look."""
    url = config.docker_host or env.get("DOCKER_HOST")
    if config.engine == "docker":
        return _docker(url, instance), "the settings ask for it"
    if config.engine == "process":
        return _process(state_dir, instance), "the settings ask for it"
    if url:
        return _docker(url, instance), "DOCKER_HOST is set"
    if DEFAULT_SOCKET.exists():
        return _docker(None, instance), f"{DEFAULT_SOCKET} is there"
    reason = "no DOCKER_HOST is set and there is no " + str(DEFAULT_SOCKET)
    return _process(state_dir, instance), reason


def is_remote(config: Config, env: Mapping[str, str]) -> bool:
    """Tell whether the settings name a container engine of another machine."""
    host = config.docker_host or env.get("DOCKER_HOST") or ""
    return (
        config.engine != "process" and bool(host) and not host.startswith(("unix:", "http+unix:"))
    )


def _docker(url: str | None, instance: str) -> Engine:
    from .engines.docker import DockerEngine  # noqa: PLC0415  # 100 ms that a process engine need not pay

    return DockerEngine(url=url, instance=instance)


def _process(state_dir: Path, instance: str) -> Engine:
    from .engines.process import ProcessEngine  # noqa: PLC0415

    return ProcessEngine(state_dir)
