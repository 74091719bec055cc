# SPDX-License-Identifier: MIT
"""From the setting `advertise_host`, or the engine's host, to where streams are published and found.

An engine takes numbers only: for a name, Docker publishes on all its addresses. So a name is looked up here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import NamedTuple

from operatord.core.engine_kinds import is_local

from .config import Config, ConfigError
from .listeners import is_loopback

LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104  # where a token is asked for
AUTO = "auto"


class Advertised(NamedTuple):
    """Where streams are published, and where other machines find them."""

    host: str
    """What locations have for ``address``."""
    address: str
    """What published ports are bound to."""
    by_gate: bool = False
    """Other machines reach streams by the gate, and not at ``address``."""
    listen: str | None = None
    """Where all doors of the gate listen; None: where each request has come in."""
    shown: str = ""
    """What locations have for that."""


def advertised(config: Config, engine_host: str | None) -> Advertised:
    """Return the setting's address, or else the engine's host; None if that is this machine. May wait for a
    name service. Raises `ConfigError`.
    """
    host = None if config.advertise_host == AUTO else config.advertise_host
    if engine_host is not None:
        host = host or engine_host
        return Advertised(host, _remote(host))
    if host is None:
        return Advertised(LOOPBACK, LOOPBACK, by_gate=True)
    return _here(host, local=is_local(config.engine))


def _here(host: str, *, local: bool) -> Advertised:
    """Return what a name or an address means where the engine is on this machine. Raises `ConfigError`.

    An address that this machine has not is one of the engine's host, if the daemon is in a container: only
    the engine knows. A name for one belongs to what translates addresses before this machine.
    """
    if local and is_loopback(host):
        return Advertised(host, host)  # each session has a loopback address of its own
    if (address := _number(host)) is None:
        found = _addresses(host)
        address = next(filter(_is_ours, found), ANYWHERE)
    elif not local and not _is_ours(address):
        return Advertised(host, address)
    if is_loopback(address):
        return Advertised(host, address)
    return Advertised(LOOPBACK, LOOPBACK, by_gate=True, listen=address, shown=host)


def _remote(host: str) -> str:
    return _number(host) or _addresses(host)[0]


def _number(host: str) -> str | None:
    """Return an address as it is written usually; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def is_this_machine(host: str) -> bool:
    """Tell whether a name or an address is one of this machine's; it may wait for a name service."""
    try:
        return any(_is_ours(address) for address in _addresses(host))
    except ConfigError:
        return False


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
