# SPDX-License-Identifier: MIT
"""What can be a host's name or address, wherever one is given."""

from __future__ import annotations

import ipaddress
import re

from .stream import OPENIGTLINK

LONGEST_NAME = 253
"""Characters of a whole name (RFC 1035, section 2.3.4, less the two octets that only the wire needs)."""
LONGEST_LABEL = 63
"""Characters between two dots of a name (the same)."""

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
"""With the underscore that DNS has for services, and engines for containers."""
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
"""An interface's name or number (IFNAMSIZ less its end)."""
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
"""What makes a name's last label a number, and the name a way of writing an address (WHATWG URL, 3.5)."""


def location_url(host: str, port: int, format: str, *, tls: bool = False) -> str:
    """Return the URL of a location with this format; an IPv6 address gets its brackets."""
    scheme = "tls" if tls else "igtl" if format == OPENIGTLINK else "tcp"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def host_problem(host: str) -> str | None:
    """Return why ``host`` is no possible host, as the end of a sentence; None if it is one.

    Names may have a dot at the end. IPv6 addresses have no brackets; a link-local one may name its zone, as
    in ``fe80::1%eth0``. IPv4 addresses must have four decimal numbers, since programs read other notations
    differently.
    """
    if not host:
        return "expected the name or the address of a host, got nothing"
    if "[" in host or "]" in host:
        return "an IPv6 address has no brackets here"
    if ":" in host:
        return _colon_problem(host)
    labels = host.removesuffix(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return _ipv4_problem(host)
    if len(host.removesuffix(".")) > LONGEST_NAME:
        return f"a host's name has at most {LONGEST_NAME} characters"
    return next((problem for label in labels if (problem := _label_problem(label))), None)


def _label_problem(label: str) -> str | None:
    if not label:
        return "a host's name has no empty part before, after or between its dots"
    if len(label) > LONGEST_LABEL:
        return f"a host's name has at most {LONGEST_LABEL} characters between two dots"
    if not _LABEL.fullmatch(label):
        return "a host's name has letters, digits, - and _ between its dots, and no - at either end"
    return None


def _ipv4_problem(host: str) -> str | None:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return "this is not an IPv4 address, which has four numbers up to 255, such as 192.0.2.7"
    return _address_problem(address)


def _colon_problem(host: str) -> str | None:
    if "://" in host:
        return "this is a URL; expected the name or the address of a host alone"
    number, percent, zone = host.partition("%")
    try:
        address = ipaddress.IPv6Address(number)
    except ValueError:
        return "this is not an IPv6 address; a port does not belong to the host"
    if percent and not (address.is_link_local and _ZONE.fullmatch(zone)):
        return "only a link-local IPv6 address has a zone, such as fe80::1%eth0"
    return _address_problem(address)


def _address_problem(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if address.is_unspecified:
        return f"{address} stands for every address of a machine; expected the one to connect to"
    if address.is_multicast or address == ipaddress.IPv4Address(2**32 - 1):
        return f"{address} stands for many machines; expected the address of one"
    return None
