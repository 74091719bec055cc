# SPDX-License-Identifier: MIT
"""Settings about who may connect: the addresses, their rules, and the roles of users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from operatord.core import engine_address
from operatord.core.destinations import number
from operatord_protocol.messages import Role


class ListenerTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PEM files for a listener with TLS 1.2 or later."""

    cert: str
    key: str
    client_ca: str | None = None
    """Authorities that must have signed the clients' certificates; None: clients need none."""


class ListenerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One address, and how clients there authenticate."""

    address: str
    """``HOST:PORT``, or the path of a Unix socket."""
    auth: Literal["none", "token", "cert", "peer"]
    tls: ListenerTls | None = None

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return "/" in self.address

    @property
    def tcp(self) -> tuple[str, int]:
        """Host and port; of a TCP address."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


class PeerRoles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Roles of this machine's users and groups, by name; a user's own comes first."""

    users: dict[str, Role] = {}
    groups: dict[str, Role] = {}


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who has which role."""

    tokens: str | None = None
    """The file of tokens, written by ``operatord token``; None: there are none."""
    certificates: dict[str, Role] = {}
    """By the common name (CN) of a client certificate's subject."""
    peers: PeerRoles = PeerRoles()


class OpenDoor(NamedTuple):
    """A listener that asks for no login."""

    address: str

    def __str__(self) -> str:
        return f"every local user is an operator: no login is asked for at {self.address}"


def listener_problems(listeners: Sequence[ListenerSettings], auth: Auth) -> list[str]:
    """Return what is wrong, as sentences."""
    found = (
        [] if auth.tokens != "" else ["auth.tokens: is empty; name a file, or null for no logins"]
    )
    for place, each in enumerate(listeners):
        problem = _unix_problem(each) if each.is_unix else _tcp_problem(each)
        if problem := problem or _login_problem(each, auth):
            found.append(f"listeners[{place}]: {problem}")
    addresses = [each.address for each in listeners]
    twice = sorted(
        {each for each in addresses if addresses.count(each) > 1 and not each.endswith(":0")}
    )
    return found + [f"listeners: {each} is listed more than once" for each in twice]


def _unix_problem(each: ListenerSettings) -> str | None:
    if not each.address.isprintable():
        return f"a path has no control characters, and {each.address!r} has one"
    if (length := len(os.fsencode(each.address))) > engine_address.LONGEST_PATH:
        most = engine_address.LONGEST_PATH
        return f"the path of a socket has {most} bytes at most, and this one has {length}"
    if each.tls is not None or each.auth == "cert":
        return "a Unix socket has no TLS and no certificates; its auth is peer, token or none"
    return None


def _tcp_problem(each: ListenerSettings) -> str | None:
    host, colon, port = each.address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        return f"expected HOST:PORT such as 127.0.0.1:7733, or a path, got {each.address!r}"
    if each.auth == "peer":
        return "auth: peer works on Unix sockets only; set auth: token, or cert"
    if each.auth == "none" and not is_loopback(host.strip("[]")):
        return (
            f"{host or 'every address'} can be reached from other machines: set auth: token, with "
            "auth.tokens, or auth: cert, with tls.client_ca; or listen on 127.0.0.1"
        )
    return None


def _login_problem(each: ListenerSettings, auth: Auth) -> str | None:
    if each.auth == "token" and auth.tokens is None:
        return "auth: token needs a file of tokens; name it in auth.tokens"
    if each.auth == "cert" and (each.tls is None or each.tls.client_ca is None):
        return "auth: cert needs tls.client_ca, the authorities whose certificates are trusted"
    if each.auth == "cert" and not auth.certificates:
        return "auth: cert needs auth.certificates, which gives each common name its role"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine alone."""
    if host == "localhost":
        return True
    try:
        return number(host).is_loopback
    except ValueError:
        return False
