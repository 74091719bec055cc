# SPDX-License-Identifier: MIT
"""operatord on a container engine, of which nothing is left there afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import shared_host
from daemons import Daemon, operatord
from engine_api import EngineApi

from operatord.settings.config import Config, to_dict


def shipped(pipeline: str, **changes: Any) -> dict[str, Any]:
    """Return a pipeline as it is shipped, but for the members that ``changes`` name."""
    found: dict[str, Any] = to_dict(Config())["pipelines"][pipeline]
    return found | changes


def each_stage(pipeline: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a pipeline with the same changes made to each of its stages."""
    stages = {name: stage | changes for name, stage in pipeline["stages"].items()}
    return {**pipeline, "stages": stages}


@contextlib.contextmanager
def operatord_on_docker(engine: EngineApi, url: str, config: Mapping[str, Any]) -> Iterator[Daemon]:
    """Run a daemon on the engine; ``config`` is laid over its defaults."""
    instance = None
    try:
        with shared_host.block() as block:
            own = {"docker_host": url, "subnets": str(block)}
            with operatord("docker", {**own, **config}) as daemon:
                instance = daemon.instance
                yield daemon
    finally:
        # Only to be sure: it has removed its sessions before it ended.
        if instance is not None:
            engine.sweep(f"operatord.instance={instance}")
