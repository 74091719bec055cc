# SPDX-License-Identifier: MIT
"""A port of a range for an engine that takes one port only, as Podman does.

What the engine's other containers have is known from it, and what other programs have where they are on this
machine. Whoever else is quicker is met at the start.
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
    # At random, so that starts at the same time most often choose differently.
    ports = random.sample(range(first, last + 1), last + 1 - first)
    for port in ports:
        if port not in taken and _is_free(publish.host, port):
            return msgspec.structs.replace(publish, ports=(port, port))
    raise PortTaken(f"none of the host ports {first} to {last} is free")


def _is_free(host: str, port: int) -> bool:
    """Tell whether no program here has the port; an address of another machine is free as far as we know."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as exc:
            return exc.errno != errno.EADDRINUSE
    return True
