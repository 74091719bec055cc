# SPDX-License-Identifier: MIT
"""Calls of a Docker Engine that may be refused for several reasons, or take more than one request.

Engines disagree on the status of a refusal and on its words: Podman has 500 for a name that is taken, a
network that is gone, and a container that others need. So after a refusal we inspect the object of the call;
the table in `errors` decides only what that does not explain. Each function runs in a thread, with a client
of its own.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from http import HTTPStatus

from operatord.engines.base import (
    Network,
    NetworkPlan,
    NotThere,
    OutOfMemory,
    StagePlan,
    StageRefused,
    SubnetTaken,
)
from operatord.engines.docker_host.versions import numbers

from . import bodies
from .client import APIClient, APIError, post_json
from .errors import not_connected, port_in_use, still_needed
from .values import networks

_KILLED = 128 + signal.SIGKILL
"""How a container ends that the kernel kills."""
_PORT_TRIES = 10
_PLATFORMS = (1, 41)
"""The version of the interface from which on a platform can be asked for."""
_PODMANS_NETWORKS = "/v4.0.0/libpod/networks/create"
"""The oldest version of that interface that Podman 4 and 5 both have."""
_JOINS = "container:"
"""Prefix of a network mode that means another container's namespace."""


def image(client: APIClient, name: str) -> bodies.Json:
    """Return the description of an image."""
    found: bodies.Json = client.inspect_image(name)  # type: ignore[no-untyped-call]
    return found


def create_network(client: APIClient, plan: NetworkPlan, *, podman: bool = False) -> bodies.Json:
    """Create a network, or use an existing one of that name and the same plan.

    ``podman``: a closed one is made by Podman's own interface.
    """
    try:
        answer: bodies.Json
        if podman and plan.way_out == "none":
            answer = post_json(client, _PODMANS_NETWORKS, networks.podman_closed_body(plan))
        else:
            answer = client.create_network(**networks.network_body(plan))
    except APIError as exc:
        if exc.status_code == HTTPStatus.CONFLICT:  # where names are unique
            there = _found(lambda: client.inspect_network(plan.name))
            if there is None or not bodies.is_planned(there.get("Labels"), plan):
                raise
            return there
        if _is_trouble(exc) and bodies.overlaps(plan.subnet, client.networks()):
            raise SubnetTaken(f"the subnet of {plan.name} overlaps with another network's") from exc
        raise
    return answer


def create(client: APIClient, plan: StagePlan, body: bodies.Json, *, joins_by_name: bool) -> str:
    """Create a container, or use an existing one of that name and the same plan; return its id. With
    ``joins_by_name``, the container whose network it shares need not exist yet.
    """
    platform = plan.options.platform
    if platform is not None and numbers(client.api_version) < _PLATFORMS:
        raise StageRefused(f"the engine is too old for the `platform` of {plan.name}")
    try:
        answer = client.create_container_from_config(  # type: ignore[no-untyped-call]
            body, plan.name, platform
        )
        return str(answer["Id"])
    except APIError as exc:
        if exc.status_code != HTTPStatus.CONFLICT and not _is_trouble(exc):
            raise
        there = _found(lambda: client.inspect_container(plan.name))
        if there is None:
            join = None if joins_by_name else _join_of(body)
            _require(client, plan.name, join, plan.network.id)
            raise
        if not bodies.is_planned(there["Config"].get("Labels"), plan):
            raise StageRefused(f"the name {plan.name} is taken by another container") from exc
        return str(there["Id"])


def start(client: APIClient, container_id: str) -> None:
    """Start a container. After a foreign program's port, go on to the next of the range.

    The engine itself avoids only its own containers' ports; each attempt continues after the port that was
    tried last.
    """
    attempts = 1
    while True:
        try:
            client.start(container_id)
            return
        except APIError as exc:
            if not port_in_use(str(exc.explanation)):
                _explain(client, container_id, exc)
                raise
            room = bodies.ports_to_choose_from(client.inspect_container(container_id))
            if attempts >= min(_PORT_TRIES, room):
                raise
            attempts += 1


def leave_none(client: APIClient, container_id: str) -> None:
    """Disconnect a container from the network ``none``, which allows no second network. Idempotent."""
    try:
        client.disconnect_container_from_network(container_id, bodies.NO_NETWORK)
    except APIError as exc:
        if not not_connected(str(exc.explanation)):
            raise


def connect(client: APIClient, container_id: str, network: Network, aliases: Sequence[str]) -> None:
    """Connect a container to a network."""
    client.connect_container_to_network(container_id, network.id, aliases=list(aliases))


def remove(client: APIClient, container_id: str) -> bool:
    """Remove a container; False when the call has to be repeated, because a removal is already under way, or
    containers that share its namespace are being removed too.
    """
    try:
        client.remove_container(container_id, force=True, v=True)
    except APIError as exc:
        if exc.status_code == HTTPStatus.CONFLICT:
            return False
        if not _is_trouble(exc):
            raise
        # Podman reports an error if its network went first, but removes the container.
        if _found(lambda: client.inspect_container(container_id)) is None:
            return True
        if not still_needed(str(exc.explanation)):
            raise
        return False
    return True


def remove_network(client: APIClient, network_id: str) -> bool:
    """Remove a network; False when it is still in use.

    Its endpoints are disconnected first: Podman removes a network that is in use, and leaves the bridge
    behind, whose addresses nobody can have then.
    """
    members = client.inspect_network(network_id).get("Containers") or {}
    for key, endpoint in members.items():
        # An endpoint that outlived its container is listed as ep-…, and is removed by name.
        member = endpoint["Name"] if key.startswith("ep-") else key
        with contextlib.suppress(APIError):  # the removal reports it
            client.disconnect_container_from_network(member, network_id, force=True)
    try:
        client.remove_network(network_id)
    except APIError as exc:
        if _is_trouble(exc) and _found(lambda: client.inspect_network(network_id)) is None:
            return True
        if exc.status_code != HTTPStatus.FORBIDDEN:
            raise
        return False
    return True


def _is_trouble(exc: APIError) -> bool:
    """Tell whether the engine says only that something went wrong."""
    return bool(exc.status_code and exc.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR)


def _found(look: Callable[[], bodies.Json]) -> bodies.Json | None:
    """Return what an inspection finds; None when the object is gone."""
    try:
        return look()
    except APIError as exc:
        if exc.status_code != HTTPStatus.NOT_FOUND:
            raise
        return None


def _join_of(body: bodies.Json) -> str | None:
    """Return the container whose namespace a container, planned or made, shares."""
    mode = str((body.get("HostConfig") or {}).get("NetworkMode") or "")
    return mode.removeprefix(_JOINS) if mode.startswith(_JOINS) else None


def _explain(client: APIClient, container_id: str, exc: APIError) -> None:
    """Raise the cause of a failed start, if an inspection of the container shows it."""
    if not _is_trouble(exc):
        return
    there = _found(lambda: client.inspect_container(container_id))
    if there is None:
        raise NotThere(f"the container {container_id[:12]} is not there any more") from exc
    name = str(there.get("Name") or container_id[:12]).removeprefix("/")
    if _was_killed_for_memory(there["State"]):
        raise OutOfMemory(f"{name} has a memory limit that is too low to start it") from exc
    endpoints = (there.get("NetworkSettings") or {}).get("Networks") or {}
    network = next((e.get("NetworkID") or key for key, e in endpoints.items()), None)
    _require(client, name, _join_of(there), network)


def _was_killed_for_memory(state: bodies.Json) -> bool:
    """Tell whether the kernel killed what a container that never ran consists of: the runtime's own process.

    Docker 26 notes only the code of its end where it is killed between the runtime's steps.
    """
    killed = state.get("Status") == "created" and state.get("ExitCode") == _KILLED
    return killed or bool(state.get("OOMKilled"))


def _require(client: APIClient, name: str, join: str | None, network: str | None) -> None:
    """Raise `NotThere` unless what the container called ``name`` needs is there."""
    if join is not None:
        if _found(lambda: client.inspect_container(join)) is None:
            raise NotThere(f"the container whose network {name} would share is not there any more")
    elif network and _found(lambda: client.inspect_network(network)) is None:
        raise NotThere(f"the network of {name} is not there any more")
