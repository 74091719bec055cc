# SPDX-License-Identifier: MIT
"""Doors of the gate as the daemon has them, and in the journal."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from operatord_protocol.messages import Location

Allow = Literal["token", "requester", "any"]
"""Who may read a stream by its door: who has its token, the address that has asked for it, everybody."""
MOST = 64
"""Consumers of one door at once."""


class Reach(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a requester that is not on this machine is to find a session's stream."""

    listen: str
    """The address that doors listen on."""
    shown: str
    """What locations have for it: that, or a name."""
    allow: Allow
    requesters: tuple[str, ...]
    """Addresses that the request may have come from, as a door sees them."""
    tls: tuple[str, str] | None = None
    """The files of certificate and key, if the request came by TLS."""


class Door(msgspec.Struct, frozen=True):
    """One that is open, for one stage of a session."""

    reach: Reach
    port: int
    target: tuple[str, int]
    """Where the stage is published."""


def token_hash(token: str) -> str:
    """Return what the gate knows of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def name_of(session_id: str, stage: str) -> str:
    """Return the name by which the gate knows a door."""
    return f"{session_id}/{stage}"


def without_token(location: Location | None) -> Location | None:
    """Return a location as it may be written down, or told to all who hear of its session."""
    return None if location is None else msgspec.structs.replace(location, token=msgspec.UNSET)


def wish(name: str, door: Door, token: str, ports: tuple[int, int] | None) -> dict[str, Any]:
    """Return what the gate is told to open: at port 0 one of ``ports``, or whichever is free."""
    reach = door.reach
    return {
        "do": "open",
        "door": name,
        "listen": reach.listen,
        "port": door.port,
        "ports": ports,
        "target": door.target,
        "allow": reach.allow,
        "token": token_hash(token) if reach.allow == "token" else None,
        "requesters": reach.requesters,
        "tls": reach.tls,
        "most": MOST,
    }
