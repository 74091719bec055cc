# SPDX-License-Identifier: MIT
"""Where a connection comes from."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from .certificates import Validity

NETWORK_BITS = 64
"""Of an address of IPv6, those that tell one peer from another: whoever has one has a whole network of them
(RFC 6177)."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of a peer (unix(7), SO_PEERCRED)."""


class Origin(NamedTuple):
    """Where a connection comes from."""

    address: str
    """An IP address; of a Unix socket, the user at its other end."""
    port: int | None = None

    @property
    def network(self) -> str:
        """The key by which peers are counted: the address, or for IPv6 its network."""
        try:
            found = ipaddress.IPv6Address(self.address.partition("%")[0])
        except ValueError:
            return self.address
        return str(ipaddress.IPv6Network((found, NETWORK_BITS), strict=False))

    @property
    def is_local(self) -> bool:
        """Whether that is this machine."""
        try:
            return ipaddress.ip_address(self.address.partition("%")[0]).is_loopback
        except ValueError:
            return self.port is None

    def __str__(self) -> str:
        return self.address if self.port is None else f"{self.address} port {self.port}"


class CertifiedContext(ssl.SSLContext):
    """What a listener speaks TLS with, and where that was read from."""

    files: tuple[str, str]
    """Of the certificate and its key."""
    validity: Validity | None
    """Of the certificate; None: it cannot be told."""


class Entrance(NamedTuple):
    """Where on this machine somebody has connected."""

    address: str | None
    """The address of this machine, without what IPv6 adds to one of IPv4; None: a Unix socket."""
    tls: tuple[str, str] | None = None
    """The files of the certificate and its key that were shown, if TLS is spoken."""
    by_gateway: bool = False
    """It is the gateway for HTTP that has connected for somebody."""


def entrance_of(transport: asyncio.BaseTransport) -> Entrance:
    """Return where a peer has connected."""
    name, context = (transport.get_extra_info(each) for each in ("sockname", "sslcontext"))
    files = context.files if isinstance(context, CertifiedContext) else None
    return Entrance(unmapped(name[0]) if isinstance(name, tuple) else None, files)


def unmapped(address: str) -> str:
    """Return an address of IPv4 as such, if IPv6 has it mapped."""
    try:
        mapped = ipaddress.IPv6Address(address.partition("%")[0]).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


def origin_of(transport: asyncio.BaseTransport) -> Origin:
    """Return where a peer comes from."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return Origin(f"a Unix socket, uid {credentials_of(sock)[1]}")
    return origin_at(transport.get_extra_info("peername") or ("a peer that has gone", None))


def origin_at(address: Sequence[Any]) -> Origin:
    """Return where whoever is at a socket address of TCP comes from.

    A listener of both families has peers of IPv4 in the notation of IPv6, where all of them would be one
    network, and none of them this machine.
    """
    host, port = address[:2]
    return Origin(unmapped(host), port)


def credentials_of(sock: socket.socket) -> tuple[int, int, int]:
    """Return the process, the user and the group at the other end of a Unix socket."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(found)
    return pid, uid, gid
