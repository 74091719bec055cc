# SPDX-License-Identifier: MIT
"""Who is not talking to us: told by the first byte, before anything of a connection is looked at.

A web page can have a browser send nearly anything to a port of this machine, but not before its own first
line, and no request line, no handshake and no greeting of another protocol begins as an object of JSON does.
"""

from __future__ import annotations

from operatord_protocol.codec import BATCH, EXAMPLE, Refusal
from operatord_protocol.encodings import foreign_encoding, what_to_send
from operatord_protocol.errors import InvalidRequest, ParseError

BLANKS = b" \t\r\n"
"""What may come before the first line, and means nothing."""
STRANGE = (
    "this is operatord's control port: a connection begins with a JSON object on a line of its own, "
    f"such as {EXAMPLE}"
)


def stranger(begin: bytes) -> Refusal | None:
    """Return how a connection that begins so is turned away, or None. ``begin`` has more than blanks."""
    begin = begin.lstrip(BLANKS)
    if begin.startswith(b"{"):
        return None
    if begin.startswith(b"["):  # only a client of JSON-RPC sends batches
        return Refusal("rpc", None, InvalidRequest(f"{BATCH}; the connection is closed"))
    name = foreign_encoding(begin)
    text = STRANGE if name is None else what_to_send(name)
    return Refusal("plain", None, ParseError(f"{text}; the connection is closed"))
