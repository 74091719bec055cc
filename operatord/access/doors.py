# SPDX-License-Identifier: MIT
"""Identifies a connection before it shows a token: by its listener, its certificate, or the user of its
process."""

from __future__ import annotations

import asyncio
import functools
import pwd
import ssl
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from operatord_protocol.messages import Role

from .identity import ANONYMOUS, LOCAL, RANKS, Identity, identity
from .origin import credentials_of

Auth = Literal["none", "token", "cert", "peer"]
"""How a listener learns who connects."""
NO_NAME = "a client without a name (it must have one CN)"


class Peers(NamedTuple):
    """The users and groups of this machine that have a role, by their numbers."""

    users: Mapping[int, Identity] = {}
    """Those that have one of their own, which comes before those of all groups."""
    members: Mapping[int, Identity] = {}
    """By the groups that list them, the highest."""
    groups: Mapping[int, Role] = {}
    """By the group that a process runs in, which seldom lists whose primary group it is."""

    def who(self, uid: int, gid: int) -> Identity:
        """Return who the user at the other end of a Unix socket is."""
        if (known := self.users.get(uid)) is not None:
            return known
        found = self.members.get(uid, ANONYMOUS)
        if (role := self.groups.get(gid)) is not None and RANKS[role] > found.rank:
            return identity(_name(uid), role)
        return found


@functools.lru_cache(maxsize=1024)
def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def newcomer(
    auth: Auth, transport: asyncio.BaseTransport, subjects: Mapping[str, Role], peers: Peers
) -> Identity:
    """Return who has just connected; without a role until a token says it.

    ``subjects`` are the common names of certificates that have a role.
    """
    if auth == "none":
        return LOCAL
    if auth == "peer":
        _, uid, gid = credentials_of(transport.get_extra_info("socket"))
        return peers.who(uid, gid)
    if auth == "cert":
        name = common_name(transport.get_extra_info("peercert"))
        return identity(name or NO_NAME, subjects.get(name) if name else None)
    return ANONYMOUS


def still_verifies(
    certificate: Mapping[str, Any] | None, before: ssl.SSLContext, after: ssl.SSLContext
) -> bool:
    """Tell whether a certificate that ``before`` has verified is believed by ``after`` as well.

    Only a handshake verifies one, so this goes by who has signed it. Whoever is signed for by others on
    the way is not trusted any more once an authority has gone, and has to connect again.
    """
    if not certificate or before is after:
        return True
    old, new = _authorities(before), _authorities(after)
    if not (gone := old.keys() - new.keys()):
        return True
    issuer = certificate["issuer"]
    return issuer in (new[each] for each in old.keys() & new.keys()) and issuer not in (
        old[each] for each in gone
    )


@functools.lru_cache(maxsize=8)
def _authorities(context: ssl.SSLContext) -> Mapping[bytes, Any]:
    """Return the subjects of those that a context believes, by their certificates."""
    found = zip(context.get_ca_certs(True), context.get_ca_certs(False), strict=True)
    return {der: each["subject"] for der, each in found}


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the one CN of a certificate's subject; None where there is none, or more."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else None
