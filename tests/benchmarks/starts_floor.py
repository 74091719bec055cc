# SPDX-License-Identifier: MIT
"""The floor: the fewest calls that the same topology takes, as many of them at once as it allows."""

from __future__ import annotations

import secrets
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from engine_api import LABEL, RUN, EngineApi
from relay import free_port
from topology import ENV, IMAGES, PORT

OWNER = "segmentation"
"""The container whose network namespace the others join, where it is shared."""
LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"


class Place(NamedTuple):
    """Where a topology is, for those that exist side by side."""

    subnet: str | None
    """Its network's range; None leaves it to the engine, which has about thirty."""
    host: str
    """The loopback address that its port is published on: in one's own, nobody else takes that port."""

    @property
    def ipam(self) -> dict[str, Any] | None:
        """The range as the engine is told of it."""
        return None if self.subnet is None else {"Config": [{"Subnet": self.subnet}]}


ANYWHERE = Place(None, "127.0.0.1")


class Floor:
    """Seven calls: a network, three creations, three starts.

    A container may name a network, or a container to join, that comes into being meanwhile: only
    starting needs it. So the network and all three containers are made at once. With ``late`` it is nine:
    the owner is started without its network, the others join it as soon as it runs, and the network comes
    when it is made. Nothing then waits for anything that it could do without: stages that share a namespace
    find each other on its loopback, which needs neither a network nor a name.
    """

    def __init__(
        self, url: str, *, shared: bool, late: bool = False, place: Place = ANYWHERE
    ) -> None:
        self._api = EngineApi(url)
        self._shared, self._late = shared, late
        self._place = place
        self._pool = ThreadPoolExecutor(4, "floor")
        self._key = ""
        self._made: list[str] = []

    def start(self) -> tuple[str, int]:
        """Create everything at once, then start everything at once."""
        self._key, port = f"bench_{secrets.token_hex(4)}", free_port()
        self._made = [f"{self._key}_{stage}" for stage in IMAGES]
        body = {"Name": self._key, "Labels": {LABEL: RUN}, "IPAM": self._place.ipam}
        network = self._post("/networks/create", body)
        creates = {
            stage: self._post(
                f"/containers/create?name={self._key}_{stage}", self._body(stage, port)
            )
            for stage in (OWNER, *(stage for stage in IMAGES if stage != OWNER))
        }
        if self._late:
            _all([creates[OWNER]])
            _all([self._begin(OWNER)])
            _all(list(creates.values()))
            joining = [self._begin(stage) for stage in IMAGES if stage != OWNER]
            _all([network, self._change("none/disconnect")])
            _all([self._change(f"{self._key}/connect"), *joining])
            return self._place.host, port
        _all([network, *creates.values()])
        if self._shared:
            _all([self._begin(OWNER)])
            _all([self._begin(stage) for stage in IMAGES if stage != OWNER])
        else:
            _all([self._begin(stage) for stage in IMAGES])
        return self._place.host, port

    def stop(self) -> None:
        """Remove the containers at once, then the network."""
        removals = [
            self._pool.submit(
                self._api.call, "DELETE", f"/containers/{name}?force=1", missing_ok=True
            )
            for name in self._made
        ]
        _all(removals)
        if self._made:
            self._api.call("DELETE", f"/networks/{self._key}", missing_ok=True)
        self._made = []

    def close(self) -> None:
        """End the threads; their connections go with them."""
        self._pool.shutdown()
        self._api.close()

    def _post(self, path: str, body: Any) -> Future[Any]:
        return self._pool.submit(self._api.call, "POST", path, body)

    def _begin(self, stage: str) -> Future[Any]:
        return self._post(f"/containers/{self._key}_{stage}/start", None)

    def _change(self, how: str) -> Future[Any]:
        body: dict[str, Any] = {"Container": f"{self._key}_{OWNER}"}
        if how.endswith("/connect"):
            body["EndpointConfig"] = {"Aliases": list(IMAGES)}
        return self._post(f"/networks/{how}", body)

    def _env(self, stage: str) -> dict[str, str]:
        if not self._shared:
            return ENV[stage]
        near = {key: LOOPBACK for key in ENV[stage] if key.endswith("_ip")}
        return {**ENV[stage], **near, f"{OWNER}_ip": ANY}  # whose port is published

    def _body(self, stage: str, port: int) -> dict[str, Any]:
        joins = self._shared and stage != OWNER
        mode = f"container:{self._key}_{OWNER}" if joins else "none" if self._late else self._key
        host: dict[str, Any] = {"NetworkMode": mode}
        body = {
            "Image": IMAGES[stage],
            "Env": [f"{key}={value}" for key, value in self._env(stage).items()],
            "Labels": {LABEL: RUN},
            "HostConfig": host,
        }
        if stage == OWNER:
            body["ExposedPorts"] = {f"{PORT}/tcp": {}}
            host["PortBindings"] = {
                f"{PORT}/tcp": [{"HostIp": self._place.host, "HostPort": str(port)}]
            }
        if not joins and not self._late:
            aliases = list(IMAGES) if self._shared else [stage]
            body["NetworkingConfig"] = {"EndpointsConfig": {self._key: {"Aliases": aliases}}}
        return body


def _all(calls: list[Future[Any]]) -> None:
    """Wait for all of them, then raise what the first of them raised, if any did."""
    wait(calls)
    for call in calls:
        call.result()
