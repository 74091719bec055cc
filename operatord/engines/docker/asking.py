# SPDX-License-Identifier: MIT
"""What a Docker Engine can do, found out by asking for it: containers are made, never started, and removed.

What is asked for is what a start would ask for. Whatever image is there will do. Each container carries the
label of the instance and of no session, so that one which outlives us is an orphan like any other.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

from operatord.engines.base import Capabilities, EngineError
from operatord.engines.docker_host.versions import numbers

from . import bodies, calls
from . import stdin as docker_stdin
from .client import APIClient, APIError, Clients, ImageNotFound

_ALONE: bodies.Json = {"NetworkMode": bodies.NO_NETWORK}
_OPTIONS: dict[str, bodies.Json] = {
    "reaps": {"Init": True},
    "takes_port_ranges": {
        "PortBindings": {"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49152-49153"}]}
    },
    "takes_devices": {
        "DeviceRequests": [{"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu"]]}]
    },
}
"""What a container is asked for by way of trial, by the name of the capability."""
_TRIES = 3
"""Images that may go while they are asked with."""
_ONE_SHOT = (1, 41)
"""The version of the interface in which statistics can be asked for once."""


def find_out(clients: Clients, instance: str) -> Capabilities | None:
    """Return what the engine can do; None while it has no image to ask with. Blocking, for a thread.

    Raises `EngineError`, or what docker-py does.
    """
    with clients.lease() as client:
        for _ in range(_TRIES):
            image = next((each["Id"] for each in client.images() if each.get("RepoTags")), None)
            if image is None:
                break
            with contextlib.suppress(ImageNotFound):  # it has gone since: so there are others
                return _ask(clients, _Asking(client, image, instance), client)
    return None


def _ask(clients: Clients, asking: _Asking, client: APIClient) -> Capabilities:
    joins = asking.takes({"NetworkMode": f"container:{asking.name()}"})
    with asking.best_container() as (container_id, taken):
        return Capabilities(
            joins_by_name=joins,
            connects_late=_leaves_none(client, container_id),
            holds_input=_holds_input(clients, container_id),
            bridges_at_once=not bodies.is_podman(client.version()),
            filters_events=_filters_events(client),
            one_shot_stats=numbers(client.api_version) >= _ONE_SHOT,
            **taken,
        )


class _Asking:
    """Makes containers to see whether it can be done."""

    def __init__(self, client: APIClient, image: str, instance: str) -> None:
        self._client = client
        self._image = image
        self._instance = instance

    def name(self) -> str:
        """Return the name of a container that nobody has."""
        return f"operatord-{self._instance}-asks-{uuid.uuid4().hex[:12]}"

    @contextlib.contextmanager
    def best_container(self) -> Iterator[tuple[str, dict[str, bool]]]:
        """Have a container with as many of `_OPTIONS` as the engine takes, and which these are.

        All at once is asked for first: most engines take them, and one container tells. Raises `APIError`.
        """
        with contextlib.ExitStack() as stack:
            try:
                everything = {k: v for each in _OPTIONS.values() for k, v in each.items()}
                made = stack.enter_context(self.container(_ALONE | everything))
                taken = {name: self._kept(made, each) for name, each in _OPTIONS.items()}
            except APIError:
                taken = {name: self.takes(_ALONE | each) for name, each in _OPTIONS.items()}
                made = stack.enter_context(self.container(_ALONE))
            yield made, taken

    def takes(self, host_config: bodies.Json) -> bool:
        """Tell whether a container is made so. Raises `ImageNotFound`, which says nothing of that."""
        try:
            with self.container(host_config) as container_id:
                return self._kept(container_id, host_config)
        except ImageNotFound:
            raise
        except APIError:
            return False

    def _kept(self, container_id: str, asked: bodies.Json) -> bool:
        """Tell whether devices that were asked for are not just left out of account."""
        if "DeviceRequests" not in asked:
            return True
        return bool(
            self._client.inspect_container(container_id)["HostConfig"].get("DeviceRequests")
        )

    @contextlib.contextmanager
    def container(self, host_config: bodies.Json) -> Iterator[str]:
        """Have a container, by its id. Raises `APIError`."""
        body = bodies.asking_body(self._image, self._instance, host_config)
        answer = self._client.create_container_from_config(body, self.name())  # type: ignore[no-untyped-call]
        try:
            yield str(answer["Id"])
        finally:
            # Should it fail, the container is removed as an orphan: what was asked for has been answered.
            with contextlib.suppress(APIError):
                calls.remove(self._client, answer["Id"])


def _holds_input(clients: Clients, container_id: str) -> bool:
    try:
        docker_stdin.attach(clients, container_id).close()
    except EngineError:  # whatever stands in the way does so for stages as well
        return False
    return True


def _leaves_none(client: APIClient, container_id: str) -> bool:
    try:
        calls.leave_none(client, container_id)
    except APIError:
        return False
    return True


def _filters_events(client: APIClient) -> bool:
    now = time.time()
    query = bodies.event_query(now) | {"until": f"{now:.6f}"}
    url = f"{client.base_url}/v{client.api_version}/events"
    return bool(client.get(url, params=query, timeout=client.timeout).ok)
