# SPDX-License-Identifier: MIT
"""What engines say of the networks of a container, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.engines.base import Address
from operatord.engines.docker.bodies import stage_state

PORTS = {"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}
ENDPOINT = {"IPAddress": "10.89.0.2"}


def answer(networks: dict[str, Any] | None, mode: str = "session") -> dict[str, Any]:
    return {
        "Id": "0123",
        "State": {"Status": "running"},
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Ports": PORTS, "Networks": networks},
    }


def test_container_with_an_endpoint_has_its_address_and_is_published() -> None:
    state = stage_state(answer({"session": ENDPOINT}))
    assert (state.ip, state.published) == ("10.89.0.2", Address(host="127.0.0.1", port=49153))


@pytest.mark.parametrize("networks", [None, {}, {"bridge": {"IPAddress": ""}}])
def test_container_without_an_endpoint_is_not_published_whatever_podman_says(
    networks: dict[str, Any] | None,
) -> None:
    """F2: Podman goes on telling of the ports of one that was disconnected."""
    state = stage_state(answer(networks))
    assert (state.ip, state.published) == (None, None)


def test_container_in_the_namespace_of_another_has_no_address_of_its_own() -> None:
    """F2: with Podman it would seem to be disconnected when the other one was."""
    assert stage_state(answer({"session": ENDPOINT}, "container:4567")).ip is None
