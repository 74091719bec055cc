# SPDX-License-Identifier: MIT
"""Who may pass a door: what the daemon has said of it, and what a consumer has."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from typing import Any, NamedTuple

LINE = 4096
"""Bytes that a first line may have."""
FIRST_LINE = 2.0
"""Seconds that a consumer has for its first line, and for the handshake of TLS before it."""
EXAMPLE = 'the first line must be {"type":"open","token":"…"}'
WRONG = f"this is not the token of the stream's location; {EXAMPLE}, with location.token"
STRANGE = (
    "only the address that has asked for this stream may read it (streams.allow: requester); read it there, "
    "or start a session from here"
)
LATE = f"no first line came within {FIRST_LINE:g} s; {EXAMPLE}, with location.token"
LONG = f"the first line has more than {LINE} bytes; {EXAMPLE}, with location.token"
PLAIN = "this stream comes over TLS only: connect with TLS (location.tls) and trust the daemon's authority"
FULL = "this stream has as many readers as the gate allows; close one of the connections"
GONE = "the stream does not answer any more: its session has ended, or its stage has"


class Terms(NamedTuple):
    """What the daemon has said of a door."""

    name: str
    """Which door it is, for the daemon."""
    listen: str
    port: int
    target: tuple[str, int]
    allow: str
    """``token``, ``requester`` or ``any``."""
    token: str | None
    """The SHA-256 of the token, in hex."""
    requesters: tuple[str, ...]
    """Addresses."""
    tls: tuple[str, str] | None
    """The files of the certificate and of its key."""
    most: int
    """Consumers at once."""
    ports: tuple[int, int] | None = None
    """Where port 0 is looked for; None: the system chooses."""

    @classmethod
    def read(cls, said: dict[str, Any]) -> Terms:
        """Return what a line of the daemon says. Raises `TypeError`, `KeyError`, `ValueError`."""
        host, port = said["target"]
        tls, ports = said.get("tls"), said.get("ports")
        return cls(
            said["door"], said["listen"], int(said["port"]), (host, int(port)), said["allow"],
            said.get("token"), tuple(said["requesters"]),
            None if tls is None else (tls[0], tls[1]),
            int(said["most"]),
            None if ports is None else (int(ports[0]), int(ports[1])),
        )  # fmt: skip

    def objection(self, peer: str) -> str | None:
        """Return why a peer may not connect at all, if it may not."""
        if self.allow != "requester" or plain_address(peer) in self.requesters:
            return None
        return STRANGE

    def refusal(self, line: bytes) -> str | None:
        """Return why a first line does not open the door, if it does not."""
        try:
            said = json.loads(line, object_pairs_hook=_each_once)
            given = said["token"] if said["type"] == "open" else None
        except (ValueError, TypeError, KeyError, RecursionError):
            given = None
        if not isinstance(given, str):
            return f"this stream needs a token; {EXAMPLE}, with location.token"
        found = hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()
        return None if hmac.compare_digest(found, self.token or "") else WRONG


def _each_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose names are all different: of twins, nobody knows which is meant."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a name is there twice")
    return found


def plain_address(address: str) -> str:
    """Return an address without what IPv6 adds to it: a scope, or the mapping of one of IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def error_line(message: str) -> bytes:
    """Return the one line that whoever is refused gets."""
    text = json.dumps({"type": "error", "message": message}, ensure_ascii=False)
    return text.encode() + b"\n"
