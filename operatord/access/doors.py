# SPDX-License-Identifier: MIT
"""Who a connection is before it shows a token: by its listener, its certificate, or the user at its end."""

from __future__ import annotations

import asyncio
import functools
import pwd
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from operatord_protocol.messages import Role

from .identity import ANONYMOUS, LOCAL, Identity, identity
from .origin import credentials_of

Auth = Literal["none", "token", "cert", "peer"]
"""How a listener learns who connects."""


class Peers(NamedTuple):
    """The users and groups of this machine that have a role, by their numbers."""

    users: Mapping[int, Identity] = {}
    groups: Mapping[int, Role] = {}
    """By the group that a process runs in; its user's other groups are among the users."""

    def who(self, uid: int, gid: int) -> Identity:
        """Return who the user at the other end of a Unix socket is."""
        if (known := self.users.get(uid)) is not None:
            return known
        role = self.groups.get(gid)
        return ANONYMOUS if role is None else identity(_name(uid), role)


@functools.lru_cache(maxsize=1024)
def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def newcomer(
    auth: Auth, transport: asyncio.BaseTransport, subjects: Mapping[str, Role], peers: Peers
) -> Identity:
    """Return who has just connected; `ANONYMOUS` until a token says it.

    ``subjects`` are the common names of certificates that have a role.
    """
    if auth == "none":
        return LOCAL
    if auth == "peer":
        _, uid, gid = credentials_of(transport.get_extra_info("socket"))
        return peers.who(uid, gid)
    if auth == "cert":
        name = common_name(transport.get_extra_info("peercert"))
        if name is not None and (role := subjects.get(name)) is not None:
            return identity(name, role)
    return ANONYMOUS


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the one CN of a certificate's subject; None where there is none, or more."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else None
