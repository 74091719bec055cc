# SPDX-License-Identifier: MIT
"""What engines say of a container and its networks, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.engines.base import Address
from operatord.engines.docker.bodies import found_container, stage_state

PORTS = {"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}
ENDPOINT = {"IPAddress": "10.89.0.2"}


def answer(
    networks: dict[str, Any] | None, mode: str = "session", **said: object
) -> dict[str, Any]:
    return {
        "Id": "0123",
        "State": {"Status": "running", **said},
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


NEVER = "0001-01-01T00:00:00Z"


@pytest.mark.parametrize("said", ["stopping", "initialized"])
def test_container_that_has_not_ended_has_no_exit_code_whatever_podman_says(said: str) -> None:
    """One that was being removed by force seemed to have ended with 0, and its session to go on."""
    state = stage_state(answer({}, Status=said, ExitCode=0, FinishedAt=NEVER))
    assert (state.exit_code, state.ended) == (None, None)
    assert (state.status, state.stopping) in {("running", True), ("created", False)}
    assert found_container({"Id": "0123", "State": said}).status == state.status


def test_container_that_podman_has_stopped_has_exited() -> None:
    state = stage_state(answer({}, Status="stopped", ExitCode=143))
    assert (state.status, state.exit_code, state.stopping) == ("exited", 143, False)
