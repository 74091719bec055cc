# SPDX-License-Identifier: MIT
"""What a machine has only once, handed out over all processes that run tests on it.

Two checkouts, or two workers of ``pytest -n``, share a network namespace and often an engine. Whoever needs
a subnet, a port or a name to itself claims it by binding an abstract Unix socket: the kernel lets one process
have it, takes it back when that dies however it dies, and knows it by network namespace, as it does subnets
and ports.
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

import docker

from operatord.engines.docker.bodies import subnets as subnets_of
from operatord.machine.routes import host_routes

RANGES = (IPv4Network("10.64.0.0/10"), IPv4Network("198.18.0.0/15"))
"""What blocks are cut from: private, and none of what Docker, Kubernetes or operatord take by default; and
for machines that have a route to all of 10/8 what is set aside for measurements (RFC 2544)."""
BLOCK = 19
"""Prefix of a block: room for the networks of 512 sessions, more than any test makes."""
ROW = 4
"""Ports that are claimed together, so that no two claims can overlap."""
PORTS = range(20000, 32000, ROW)
"""Where rows begin: the kernel hands out none of these by itself (net.ipv4.ip_local_port_range)."""
LOOPBACK = "127.0.0.1"

_kept = contextlib.ExitStack()
"""What this process has claimed for as long as it lives."""
atexit.register(_kept.close)


class NothingFree(Exception):
    """Everything of a kind is claimed or in use."""


def claim(name: str) -> socket.socket | None:
    """Claim a name; None when another process, or another part of this one, has it. Close to give it back."""
    claimed = socket.socket(socket.AF_UNIX)
    try:
        claimed.bind(_address(name))
    except OSError:
        claimed.close()
        return None
    claimed.listen()  # for those who wait in `alone`
    return claimed


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Wait until nobody else has a name, and have it meanwhile."""
    while (claimed := claim(name)) is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(_address(name))
            waiting.recv(1)  # nothing is ever sent: it ends with the claim
    with claimed:
        yield


@contextlib.contextmanager
def block() -> Iterator[IPv4Network]:
    """Have a block of addresses, to which no route leads and of which no network of the engine is."""
    routes = [route.network for route in host_routes()]
    claimed, found = _claim_block([*routes, *_subnets_of_the_engine()])
    with claimed:
        yield found


def own_address() -> str:
    """Return the address of this host from which others are reached; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as looking:
        looking.connect(("198.51.100.1", 9))
        return str(looking.getsockname()[0])


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody else is given while this process lives."""
    claimed, port = _claim_ports()
    _kept.enter_context(claimed)
    return port


@contextlib.contextmanager
def free_ports() -> Iterator[int]:
    """Have `ROW` ports that nobody listens on; give the first."""
    claimed, first = _claim_ports()
    with claimed:
        yield first


def _address(name: str) -> str:
    return f"\0operatord-tests/{name}"


def _claim_block(taken: Iterable[str]) -> tuple[socket.socket, IPv4Network]:
    others = [net for net in map(ipaddress.ip_network, taken) if net.version == 4 and net.prefixlen]
    for wanted in (each for whole in RANGES for each in whole.subnets(new_prefix=BLOCK)):
        if any(wanted.overlaps(other) for other in others):
            continue
        if (claimed := claim(f"subnets {wanted}")) is not None:
            return claimed, wanted
    raise NothingFree(f"no /{BLOCK} of {', '.join(map(str, RANGES))} is free")


def _subnets_of_the_engine() -> list[str]:
    if (url := os.environ.get("DOCKER_HOST")) is None:
        return []
    with contextlib.closing(docker.APIClient(base_url=url, version="auto")) as client:
        return subnets_of(client.networks())


def _claim_ports() -> tuple[socket.socket, int]:
    for first in PORTS:
        if (claimed := claim(f"ports {first}")) is None:
            continue
        if all(_is_free(port) for port in range(first, first + ROW)):
            return claimed, first
        claimed.close()
    raise NothingFree(f"no {ROW} ports in a row are free")


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server((LOOPBACK, port)):
        return True
    return False
