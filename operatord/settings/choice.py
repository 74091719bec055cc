# SPDX-License-Identifier: MIT
"""Which engine a daemon uses, and why it is that one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from operatord.core import engine_address
from operatord.core.engine_kinds import KINDS, is_local
from operatord.engines.base import Engine
from operatord.engines.docker_host import endpoint as docker_endpoint
from operatord.engines.docker_host import ssh as docker_ssh
from operatord.engines.docker_host import tls as docker_tls
from operatord.engines.docker_host.endpoint import Endpoint, Wanted

from .advertised import is_this_machine
from .config import Config, ConfigError
from .listeners import is_loopback

DEFAULT = Endpoint(f"unix://{docker_endpoint.DEFAULT_SOCKET}", because="the settings ask for it")

NO_ISOLATION = (
    "stages are local processes with the rights of the daemon: nothing isolates them, and their limits hold "
    "roughly or not at all; only a container engine does better (`engine: docker`)"
)


class Choice(NamedTuple):
    """An engine, and why it is that one."""

    engine: Engine
    because: str
    """A phrase."""
    warning: str | None = None
    """What a person has to hear of it, as a sentence."""


def choose_engine(config: Config, instance: str, state_dir: Path, env: Mapping[str, str]) -> Choice:
    """Return the engine that the settings ask for. No I/O but a look at files. Raises `ConfigError`."""
    if is_local(config.engine):
        return Choice(_process(state_dir, instance), "the settings ask for it")
    if (endpoint := engine_endpoint(config, env)) is not None:
        return Choice(_docker(endpoint, instance), endpoint.because)
    looked_at = ", ".join(map(str, docker_endpoint.sockets(env)))
    because = f"no DOCKER_HOST and no docker context is set, and there is none of {looked_at}"
    warning = (
        f"no container engine was found, so stages run as local processes, without limits and isolation: "
        f"{because}; write `engine: process` if that is what you want, or set DOCKER_HOST or docker_host"
    )
    return Choice(_process(state_dir, instance), because, warning)


def engine_warnings(engine: Engine) -> list[str]:
    """Return what everybody should know of stages on an engine, as sentences; its choice is logged."""
    return [NO_ISOLATION] if is_local(engine.name) else []


def engine_endpoint(config: Config, env: Mapping[str, str]) -> Endpoint | None:
    """Return where the container engine is; None where the settings leave it open and none was found.

    An engine that was named is never skipped, even if it cannot be reached. Raises `ConfigError`.
    """
    if is_local(config.engine):
        return None
    wanted = Wanted(
        config.docker_host,
        config.docker_context,
        config.docker_cert_path,
        config.docker_tls_verify,
        config.docker_tls,
    )
    try:
        endpoint = docker_endpoint.named(wanted, env)
        if endpoint is None:
            found = docker_endpoint.find(docker_endpoint.sockets(env))
            return found or (DEFAULT if KINDS[config.engine].is_named else None)
        if wrong := engine_address.problem(endpoint.url):
            raise ConfigError([f"{endpoint.source}: {wrong}"])
        if endpoint.tls is not None:
            docker_tls.check(endpoint.tls)
    except docker_tls.BadEndpoint as exc:
        raise ConfigError([str(exc)], exc.path) from exc
    return endpoint


def engine_host(config: Config, env: Mapping[str, str]) -> str | None:
    """Return the name or address of the engine's host; None if that is this machine, as far as one can tell.

    It may wait for a name service. Raises `ConfigError`.
    """
    endpoint = engine_endpoint(config, env)
    host = "" if endpoint is None else docker_endpoint.host_of(endpoint.url)
    if not host or is_loopback(host):
        return None
    if endpoint is not None and endpoint.url.lower().startswith("ssh://"):
        host = docker_ssh.real_host(host)
    return None if is_this_machine(host) else host


def _docker(endpoint: Endpoint, instance: str) -> Engine:
    from operatord.engines.docker.engine import (  # noqa: PLC0415  # 100 ms that a process engine need not pay
        DockerEngine,
    )

    return DockerEngine(endpoint, instance)


def _process(state_dir: Path, instance: str) -> Engine:
    from operatord.engines.process.engine import ProcessEngine  # noqa: PLC0415

    return ProcessEngine(state_dir)
