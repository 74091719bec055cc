# SPDX-License-Identifier: MIT
"""The original's way: docker-py's high-level client, one container after the other."""

from __future__ import annotations

import secrets
from typing import Any

import docker
from engine_api import LABEL, RUN
from relay import free_port
from topology import ENV, IMAGES, PORT


class Original:
    """A network, then ``containers.run(detach=True)`` three times."""

    def __init__(self, url: str) -> None:
        self._client = docker.from_env(environment={"DOCKER_HOST": url})
        self._made: list[Any] = []

    def start(self) -> tuple[str, int]:
        """Make the network and the three containers, in the order of the stream."""
        port = free_port()
        labels = {LABEL: RUN}
        name = f"network_{secrets.token_hex(3)}"
        self._made = [self._client.networks.create(name, labels=labels)]
        for stage, image in IMAGES.items():
            alias = self._client.api.create_endpoint_config(aliases=[stage])
            container = self._client.containers.run(
                image,
                detach=True,
                environment=ENV[stage],
                network=name,
                networking_config={name: alias},
                labels=labels,
                ports={f"{PORT}/tcp": ("127.0.0.1", port)} if stage == "segmentation" else {},
            )
            self._made.append(container)
        return "127.0.0.1", port

    def stop(self) -> None:
        """Remove the containers by force, then the network."""
        while self._made:
            thing = self._made.pop()
            if self._made:
                thing.remove(force=True)
            else:
                thing.remove()

    def close(self) -> None:
        """Close the client."""
        self._client.close()
