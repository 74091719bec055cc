# SPDX-License-Identifier: MIT
"""Results as JSON: sessions are flattened wherever they are, all else goes out as it is.

Equal requests in the same moment get the same bytes.
"""

from __future__ import annotations

from msgspec import UNSET, Raw

from operatord.access.identity import NEEDED, Identity, refusal
from operatord_protocol.codec import Envelope, encode
from operatord_protocol.errors import WireError
from operatord_protocol.messages import Result, Session

from .params import take_params
from .peer import Services
from .reads import READS
from .views import encode_session

Said = dict[str | bytes, Raw]
"""Answers to one peer in this turn, by request."""


def encode_reply(result: Result | Raw) -> bytes:
    """Return the ``result`` member of a reply."""
    if type(result) is Raw:
        return bytes(result)
    if type(result) is Session:
        return encode_session(result)
    return encode(result)


def asked(line: Envelope) -> str | bytes:
    """Return a line's request as a key; the method alone if there are no params."""
    return b"%b %b" % (line.method.encode(), encode(line.params)) if line.params else line.method


def answer_alike(
    line: Envelope, key: str | bytes, services: Services, who: Identity, said: Said
) -> Raw | WireError | None:
    """Return the ``result`` member for ``who``, and note it in ``said`` under ``key``. An error if that is
    the answer; None if the method is not read-only, or if it failed.
    """
    read = READS.get(line.method)
    if read is None:
        return None
    if who.rank < NEEDED[line.method]:
        return refusal(who, line.method)
    try:
        params = {} if line.params is UNSET else line.params
        typed = take_params(line.method, params, services.config.pipelines)
        result = encode_reply(read(services, who, typed))
    except WireError as exc:
        return exc
    except Exception:  # answering the line by itself raises it again, and reports it
        return None
    said[key] = raw = Raw(result)
    return raw
