# SPDX-License-Identifier: MIT
"""Chooses a port of a range for an engine that takes only a single port, as Podman does. Ports of the
engine's containers are known from the engine; ports of other programs are known if they run on this machine.
A port that is taken in the meantime fails the start.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket

import msgspec

from operatord.engines.base import PortTaken, Publish

from .client import APIClient


def choose(publish: Publish, client: APIClient) -> Publish:
    """Return ``publish`` with one port of its range that seems free. Blocking.

    A range of one is left to the engine. Raises `PortTaken`.
    """
    assert publish.ports is not None
    first, last = publish.ports
    if first == last:
        return publish
    taken = {
        port.get("PublicPort")
        for container in client.containers(all=True)
        for port in container.get("Ports") or ()
    }
    # At random, so that concurrent starts mostly choose different ports.
    ports = random.sample(range(first, last + 1), last + 1 - first)
    for port in ports:
        if port not in taken and _is_free(publish.host, port):
            return msgspec.structs.replace(publish, ports=(port, port))
    raise PortTaken(f"none of the host ports {first} to {last} is free")


def _is_free(host: str, port: int) -> bool:
    """Tell whether no program here has the port; on another machine's address it counts as free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as exc:
            return exc.errno != errno.EADDRINUSE
    return True
