# SPDX-License-Identifier: MIT
"""Results as JSON: sessions are flattened wherever they are, all else goes out as it is.

What is asked alike in the same moment is answered with the same bytes.
"""

from __future__ import annotations

from msgspec import Raw

from operatord_protocol.codec import encode
from operatord_protocol.messages import Result, Session, Sessions, session_to_wire

from .peer import Services
from .verbs import ALIKE

Said = dict[str, Raw]
"""By method, what everybody was answered who asked in this turn."""


def encode_reply(result: Result) -> bytes:
    """Return the ``result`` member of a reply."""
    if type(result) is Session:
        return encode(session_to_wire(result))
    if type(result) is Sessions:
        return encode({"sessions": [session_to_wire(session) for session in result.sessions]})
    return encode(result)


def answer_alike(method: str, services: Services, said: Said) -> Raw | None:
    """Return the ``result`` member for whoever asks now, and note it in ``said``; None for most methods."""
    verb = ALIKE.get(method)
    if verb is None:
        return None
    said[method] = result = Raw(encode_reply(verb(services)))
    return result
