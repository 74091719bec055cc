# SPDX-License-Identifier: MIT
"""Where registered probes may be: networks with ports, and what is never among them.

A name is nothing here: what it stands for is looked up, checked and connected to as a number, so that nobody
can have it stand for something else in between.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PRIVATE = (
    "127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
)  # fmt: skip
"""Loopback, and what is private by RFC 1918 and RFC 4193."""
NEVER: tuple[tuple[str, Network], ...] = (
    ("is not the address of a machine", IPv4Network("0.0.0.0/8")),
    ("is link-local", IPv4Network("169.254.0.0/16")),
    ("is not a single machine", IPv4Network("224.0.0.0/3")),
    ("is not the address of a machine", IPv6Network("::")),
    ("is link-local", IPv6Network("fe80::/10")),
    ("is site-local, which no network has any more (RFC 3879)", IPv6Network("fec0::/10")),
    ("is not a single machine", IPv6Network("ff00::/8")),
    ("is where clouds keep credentials", IPv6Network("fd00:ec2::254")),
    ("is where clouds keep credentials", IPv6Network("fd20:ce::254")),
)
"""What nobody connects to, whatever is configured: with 169.254.169.254, the last two are where machines of
Amazon and Google find their credentials."""
_LAST_32_BITS = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
)
"""Networks whose addresses end with one of IPv4: compatible and mapped (RFC 4291), translated (RFC 2765), and
behind which a gateway has the whole of IPv4 (RFC 6052)."""
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""The same for the gateways of one's own network (RFC 8215); each has the address where it likes."""
_NAT64_BYTES = (
    (6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15),
)  # fmt: skip
"""Where that may be: the bytes of the address for prefixes of 48, 56, 64 and 96 bits (RFC 6052, 2.2)."""
_ISATAP = (0x00005EFE, 0x02005EFE)
"""In the third quarter of any address, they say that the last one is an address of IPv4 (RFC 5214, 6.1)."""
PORTS = (1, 65535)


class Allowed(NamedTuple):
    """One entry: a network, and the first and the last of its ports."""

    network: Network
    first: int
    last: int


class Destinations:
    """The addresses and ports that may be connected to."""

    def __init__(self, entries: Sequence[Allowed]) -> None:
        """Allow these, less what is never allowed."""
        self._entries = entries

    def allows(self, address: Address, port: int) -> bool:
        """Tell whether a number from `number` may be connected to."""
        if never(address) is not None:
            return False
        return any(
            each.first <= port <= each.last
            and each.network.version == address.version
            and address in each.network
            for each in self._entries
        )


def number(text: str) -> Address:
    """Return an address as what is connected to: IPv4 in its IPv6 notation is IPv4. Raises `ValueError`."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def never(address: Address) -> str | None:
    """Return why nobody connects to an address, as the end of a sentence; None if somebody may."""
    within = [address, *_embedded(address)]
    return next((why for why, net in NEVER if any(each in net for each in within)), None)


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the addresses of IPv4 that packets to one of IPv6 may end at."""
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return []
    if address in _LOCAL_NAT64:
        return _behind_own_gateway(address)
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    ends = any(address in each for each in _LAST_32_BITS)
    found = [last] if ends or int(address) >> 32 & 0xFFFFFFFF in _ISATAP else []
    return [*found, *filter(None, (address.sixtofour, *(address.teredo or ())))]


def _behind_own_gateway(address: IPv6Address) -> list[IPv4Address]:
    """Return what is meant wherever the gateway has it; nowhere is it an address that begins with 0."""
    found = [IPv4Address(bytes(address.packed[at] for at in each)) for each in _NAT64_BYTES]
    return [each for each in found if each.packed[0]]


def parse(text: str) -> Allowed:
    """Return what an entry such as ``10.0.0.0/8:12345-12399`` allows. Raises `ValueError` with a sentence."""
    where, ports = _parted(text)
    network = _network(where, text)
    if (as_ipv4 := _as_ipv4(network)) is not None:
        _check_possible(as_ipv4, where)
        raise ValueError(f"{where} is IPv4 in the notation of IPv6; write it as IPv4: {as_ipv4}")
    _check_possible(network, str(network))
    return Allowed(network, *_ports(ports, text))


def _parted(text: str) -> tuple[str, str | None]:
    """Return the network and the ports of an entry, which are None where none are named."""
    if text.startswith("["):
        where, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{_expected()}, got {text!r}")
        return where, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    where, colon, ports = text.partition(":")
    return where, ports if colon else None


def _expected() -> str:
    return "expected a network, with ports or without, such as 10.0.0.0/8:12345-12399 or [fd00::/8]:12345"


def _network(where: str, entry: str) -> Network:
    try:
        network = ipaddress.ip_network(where, strict=False)
    except ValueError:
        raise ValueError(f"{_expected()}, got {entry!r}") from None
    if (address := ipaddress.ip_interface(where).ip) != network.network_address:
        raise ValueError(
            f"{where} is an address within {network}; write {address}, or {network} for all of them"
        )
    return network


def _as_ipv4(network: Network) -> IPv4Network | None:
    """Return a network of IPv4 that is written in the notation of IPv6."""
    first = network.network_address
    mapped = first.ipv4_mapped if isinstance(first, IPv6Address) else None
    return None if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def _check_possible(network: Network, written: str) -> None:
    """Raise `ValueError` for a network that is never connected to."""
    why = next((why for why, each in NEVER if _is_within(network, each)), None)
    if why is not None:
        raise ValueError(f"{written} {why}, where no probe is allowed; leave it out")


def _is_within(network: Network, other: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def _ports(text: str | None, entry: str) -> tuple[int, int]:
    if text is None:
        return PORTS
    first, dash, last = text.partition("-")
    if not (_is_port(first) and _is_port(last if dash else first)):
        raise ValueError(
            "expected a port from 1 to 65535, or a range such as 12345-12399, after the network, "
            f"got {entry!r}"
        )
    found = int(first), int(last if dash else first)
    if found[0] > found[1]:
        raise ValueError(f"the range of ports in {entry!r} ends before it begins")
    return found


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= PORTS[1]
