# SPDX-License-Identifier: MIT
"""Results as JSON: sessions are flattened wherever they are, all else goes out as it is.

What is asked alike in the same moment is answered with the same bytes.
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
"""By what was asked, what one peer was answered who asked that in this turn."""


def encode_reply(result: Result | Raw) -> bytes:
    """Return the ``result`` member of a reply."""
    if type(result) is Raw:
        return bytes(result)
    if type(result) is Session:
        return encode_session(result)
    return encode(result)


def asked(line: Envelope) -> str | bytes:
    """Return what a line asks, whoever does; its method alone where there are no params."""
    return b"%b %b" % (line.method.encode(), encode(line.params)) if line.params else line.method


def answer_alike(
    line: Envelope, key: str | bytes, services: Services, who: Identity, said: Said
) -> Raw | WireError | None:
    """Return the ``result`` member for ``who``, if he asks this now, and note it in ``said`` under ``key``.

    An error if that is the answer; None if the method is not one that only looks, or if looking failed.
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
    except Exception:  # whoever answers the line by itself finds it again, and says what it is
        return None
    said[key] = raw = Raw(result)
    return raw
