# SPDX-License-Identifier: MIT
"""From the setting `advertise_host`, or the engine's host, to the address that ports are published on.

An engine takes numbers only: for a name, Docker publishes on all its addresses. So a name is resolved here,
and must be an address of this machine, unless the engine is on another.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import NamedTuple

from operatord.core.engine_kinds import is_local

from .config import Config, ConfigError

LOOPBACK = "127.0.0.1"


class Advertised(NamedTuple):
    """What locations have, and the address that it is."""

    host: str
    address: str


def advertised(config: Config, engine_host: str | None) -> Advertised:
    """Return the setting's address, or else the engine's host; None if that is this machine. May wait for a
    name service. Raises `ConfigError`.
    """
    host = config.advertise_host or engine_host or LOOPBACK
    return Advertised(host, _address(host, config, remote=engine_host is not None))


def is_this_machine(host: str) -> bool:
    """Tell whether a name or an address is one of this machine's; it may wait for a name service."""
    try:
        return any(_is_ours(address) for address in _addresses(host))
    except ConfigError:
        return False


def _address(host: str, config: Config, *, remote: bool) -> str:
    """Return the address for a name. Raises `ConfigError`.

    An address is used as it is: only the engine knows its host's addresses, and refuses others at a start.
    """
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    if is_local(config.engine):
        return host  # it gives each session a loopback address of its own
    found = [address for address in _addresses(host) if remote or _is_ours(address)]
    if not found:
        raise ConfigError(
            [
                f"advertise_host: {host} stands for no address of this machine; write an address that the "
                "engine's host has, or a name for one"
            ]
        )
    return found[0]


def _addresses(host: str) -> list[str]:
    """Return the addresses of a name, IPv4 first, which every engine publishes on. Raises `ConfigError`."""
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(
            [
                f"advertise_host: no address is known for the name {host}; correct it, or write an address "
                "of the engine's host"
            ]
        ) from exc
    found = dict.fromkeys(str(place[0]) for *_, place in infos)
    return sorted(found, key=lambda address: ":" in address)


def _is_ours(address: str) -> bool:
    """Tell whether this machine has an address, and one only: a wildcard is none."""
    if ipaddress.ip_address(address).is_unspecified:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.bind((address, 0))
        return True
    return False
