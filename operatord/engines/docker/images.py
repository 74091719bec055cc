# SPDX-License-Identifier: MIT
"""A client for building images, with a longer timeout: a build may take minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from operatord.engines.base import EngineUnavailable
from operatord.engines.docker_host.endpoint import Endpoint

from .client import APIClient, Clients

BUILD_TIMEOUT = 600
"""Seconds that the engine may be silent during a build or an import."""


@contextlib.contextmanager
def image_client(endpoint: Endpoint) -> Iterator[APIClient]:
    """Yield a client of an engine. Raises `EngineUnavailable` when none answers there."""
    clients = Clients(endpoint, BUILD_TIMEOUT)
    try:
        clients.connect()
    except EngineUnavailable as exc:
        raise EngineUnavailable(f"no container engine answers at {endpoint.url}: {exc}") from exc
    with contextlib.closing(clients.make()) as client:
        yield client
    clients.close()
