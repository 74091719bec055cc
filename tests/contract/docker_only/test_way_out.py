# SPDX-License-Identifier: MIT
"""What leaves a session's network: nothing, replies, or everything; and what goes on in any case."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import docker
import msgspec
import pytest
import shared_host
from engine_lab import Lab
from outside import PORT as THEIR_PORT
from outside import Outside, outside

from operatord.engines.base import Publish, WayOut
from operatord.engines.options import Options

pytestmark = pytest.mark.engine

LOOKS = """
import json, os, socket
def tried(host, port):
    try:
        socket.create_connection((host, int(port)), 2).close()
        return True
    except OSError:
        return False
def found(name):
    try:
        return bool(socket.gethostbyname(name))
    except OSError:
        return False
server = socket.create_server(("0.0.0.0", int(os.environ["PORT"])))
targets = json.loads(os.environ["TARGETS"])
said = json.dumps({"reached": [tried(*each) for each in targets], "found": found("neighbour")})
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(said.encode())
    connection.close()
"""
REACHED = {"open": [True, True, True], "replies": [False, True, True], "none": [False, False, True]}
"""Of what is outside, this machine's address towards it, and its address in the session's network."""


@pytest.fixture(scope="module")
def lan() -> Iterator[Outside]:
    with shared_host.block() as block, outside(str(block)) as found:
        yield found


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")
    yield found
    found.close()


def is_podman(client: docker.APIClient) -> bool:
    return any(each["Name"] == "Podman Engine" for each in client.version()["Components"])


@pytest.mark.parametrize("way_out", ["open", "replies", "none"])
async def test_network_lets_out_what_it_is_to_let_out(
    docker_lab: Lab, client: docker.APIClient, lan: Outside, way_out: WayOut
) -> None:
    """Published stages, names of stages and the host's address are reached whatever it is."""
    plan = msgspec.structs.replace(docker_lab.network_plan(), way_out=way_out)
    network = await docker_lab.engine.create_network(plan)
    assert network.way_out == way_out
    await docker_lab.run_until_ready(network, "idle", stage="neighbour")
    published_on = lan.here if way_out == "replies" else "127.0.0.1"
    with socket.create_server(("0.0.0.0", 0)) as service:
        port = service.getsockname()[1]
        targets = [[lan.there, THEIR_PORT], [lan.here, port], [network.gateway, port]]
        stage = await docker_lab.run_until_ready(
            network, "shows", stage="looks", env={"TARGETS": json.dumps(targets)},
            command=("python3", "-I", "-S", "-c", LOOKS), publish=Publish(published_on),
        )  # fmt: skip
    where = (await docker_lab.engine.inspect(stage)).published
    assert where is not None
    if way_out == "replies":
        said = lan.call(where.port)
    else:
        with socket.create_connection((where.host, where.port), 5) as connection:
            said = connection.recv(1000).decode()
    # Podman cannot let out replies alone.
    expected = "open" if way_out == "replies" and is_podman(client) else way_out
    assert json.loads(said) == {"reached": REACHED[expected], "found": True}


async def test_closed_network_asks_no_name_server_of_the_machine(
    docker_lab: Lab, client: docker.APIClient
) -> None:
    plan = msgspec.structs.replace(docker_lab.network_plan(), way_out="none")
    network = await docker_lab.engine.create_network(plan)
    made = await docker_lab.run_until_ready(network, "idle", stage="one")
    options = Options(dns=("192.0.2.53",))
    own = await docker_lab.run_until_ready(network, "idle", stage="two", options=options)
    asked: list[Any] = [client.inspect_container(each)["HostConfig"]["Dns"] for each in (made, own)]
    assert asked == [[] if is_podman(client) else ["127.0.0.1"], ["192.0.2.53"]]
