# SPDX-License-Identifier: MIT
"""Recognises clients of other protocols by the first byte, before anything of a connection is parsed.

A web page can have a browser send nearly anything to a port of this machine, but not before its own first
line, and no handshake and no greeting of another protocol begins as an object of JSON does. A request line of
HTTP can: its method may be a brace. But it ends as no object does.
"""

from __future__ import annotations

import re

from operatord_protocol.codec import BATCH, EXAMPLE, Refusal
from operatord_protocol.encodings import foreign_encoding, what_to_send
from operatord_protocol.errors import InvalidRequest, ParseError
from operatord_protocol.slips import CONTROL_CHARACTER, is_control_character

VERSION = re.compile(rb" HTTP/\d(\.\d)?\r?\n\Z")
"""How the first line of HTTP ends (RFC 9112, section 3), whatever its method."""
LONGEST_VERSION = len(b" HTTP/1.1\r\n")
BLANKS = b" \t\r\n"
"""What may come before the first line, and means nothing."""
STRANGE = (
    "this is operatord's control port: a connection begins with a JSON object on a line of its own, "
    f"such as {EXAMPLE}"
)
UNSEEN = f"{STRANGE}; this one begins with {CONTROL_CHARACTER}"

HTTP = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT|PRI) ")
TLS = b"\x16\x03"
"""The beginning of a handshake's record (RFC 8446, section 5.1)."""
LINES = f"send JSON, a line each, such as {EXAMPLE}"
NOT_HTTP = f"this is operatord's control port, which does not speak HTTP: {LINES}"
NOT_TLS = (
    f"this is operatord's control port, and is not encrypted: connect without TLS, and {LINES}"
)


def stranger(begin: bytes) -> Refusal | None:
    """Return how a connection that begins so is turned away, or None. ``begin`` has no blanks before it."""
    if begin.startswith(b"{") and not _is_request_line(begin):
        return None
    if begin.startswith(b"["):  # only a client of JSON-RPC sends batches
        return Refusal("rpc", None, InvalidRequest(f"{BATCH}; the connection is closed"))
    return Refusal("plain", None, ParseError(f"{_what_to_do(begin)}; the connection is closed"))


def _is_request_line(begin: bytes) -> bool:
    """Tell whether the first line, if it has ended, is one of HTTP. It may be long: only its end counts."""
    end = begin.find(b"\n") + 1
    return VERSION.search(begin[max(0, end - LONGEST_VERSION) : end]) is not None


def _what_to_do(begin: bytes) -> str:
    if HTTP.match(begin) or _is_request_line(begin):
        return NOT_HTTP
    if begin.startswith(TLS):
        return NOT_TLS
    name = foreign_encoding(begin)
    if name is not None:
        return what_to_send(name)
    return UNSEEN if is_control_character(begin[:1]) else STRANGE
