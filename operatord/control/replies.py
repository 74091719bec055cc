# SPDX-License-Identifier: MIT
"""Results as JSON: sessions are flattened wherever they are, all else goes out as it is."""

from __future__ import annotations

from operatord_protocol.codec import encode
from operatord_protocol.messages import Result, Session, Sessions, session_to_wire


def encode_reply(result: Result) -> bytes:
    """Return the ``result`` member of a reply."""
    if type(result) is Session:
        return encode(session_to_wire(result))
    if type(result) is Sessions:
        return encode({"sessions": [session_to_wire(session) for session in result.sessions]})
    return encode(result)
