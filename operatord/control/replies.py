# SPDX-License-Identifier: MIT
"""Results as JSON: sessions are flattened wherever they are, all else goes out as it is.

What is asked alike in the same moment is answered with the same bytes.
"""

from __future__ import annotations

from msgspec import Raw

from operatord_protocol.codec import Envelope, Line, encode
from operatord_protocol.messages import Result, Session

from .peer import Services
from .verbs import ALIKE, READS
from .views import encode_session

Said = dict[str | bytes, Raw]
"""By what was asked, what everybody was answered who asked that in this turn."""


def encode_reply(result: Result | Raw) -> bytes:
    """Return the ``result`` member of a reply."""
    if type(result) is Raw:
        return bytes(result)
    if type(result) is Session:
        return encode_session(result)
    return encode(result)


def answer_alike(method: str, services: Services, said: Said) -> Raw | None:
    """Return the ``result`` member for whoever asks now, and note it in ``said``; None for most methods."""
    verb = ALIKE.get(method)
    if verb is None:
        return None
    said[method] = result = Raw(encode_reply(verb(services)))
    return result


def asked(line: Envelope) -> str | bytes:
    """Return what a line asks, whoever does; its method alone where there are no params."""
    return b"%b %b" % (line.method.encode(), encode(line.params)) if line.params else line.method


def note(said: Said, line: Line, result: bytes | None) -> None:
    """Note in ``said`` what a line was answered, for those who ask that next, or forget what was said.

    A method that only reads is answered alike until another one may have changed something.
    """
    if not isinstance(line, Envelope) or line.method not in READS:
        said.clear()
    elif result is not None:
        said[asked(line)] = Raw(result)
