# SPDX-License-Identifier: MIT
"""A client for building images: a build may take minutes, so it has a patience of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from docker import APIClient
from docker.errors import DockerException
from docker.utils import parse_host

from operatord.engines.base import EngineUnavailable
from operatord.engines.docker_reach import unreachable

BUILD_TIMEOUT = 600
"""Seconds that the engine may be silent during a build or an import."""


@contextlib.contextmanager
def image_client(url: str | None = None) -> Iterator[APIClient]:
    """Yield a client of the engine at ``url``, DOCKER_HOST or the default socket.

    Raises `EngineUnavailable` when none answers there.
    """
    address = str(parse_host(url or os.environ.get("DOCKER_HOST")))
    try:
        client = APIClient(base_url=address, version="auto", timeout=BUILD_TIMEOUT)
    except DockerException as exc:
        shown = address.removeprefix("http+")  # docker-py's own word for unix:
        sentence = f"no container engine answers at {shown}: {unreachable(exc)}"
        raise EngineUnavailable(sentence) from exc
    with contextlib.closing(client):
        yield client
