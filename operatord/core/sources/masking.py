# SPDX-License-Identifier: MIT
"""What people see of a URL's path and query: without values that cameras take for credentials."""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"

_QUERY = re.compile(r"(?=&)")
"""Where another field begins. A ``;`` begins none: it may belong to a password."""
_PATH = re.compile(
    r"(?=[/&]|_(?:user|username|pass|password|passwd|pwd|channel|stream|subtype)(?:=|%3D))",
    re.IGNORECASE,
)
"""The same in a path, where recorders have ``user=NAME_password=WORD_channel=1``. Of what stands after a
``_``, only these names begin a field, since a password may have a ``_`` as well."""
_EQUALS = re.compile(r"(=|%3D)", re.IGNORECASE)
_BEFORE_NAME = re.compile(r"[?;]")
_SECRET_PART = re.compile(
    r"pass|pwd|pw|token|key|secret|auth|sig|user|usr|login|account|cred|jwt|session", re.IGNORECASE
)
"""What the name of a credential may have anywhere …"""
_SECRET_WORD = re.compile(r"(?<![^\W_])(?:pin|sid|otp|code|hash|u|p)(?![^\W_])", re.IGNORECASE)
"""… and what it may have as a word, since these are also parts of other words."""


def masked(path: str) -> str:
    """Return a path and its query with `MASK` for values whose names look like credentials.

    The time that it takes grows as the text does: anybody may register a URL.
    """
    path, mark, query = path.partition("?")
    fields = [*_PATH.split(path), mark, *_QUERY.split(query)]
    return "".join(map(_masked_field, fields))


def _masked_field(field: str) -> str:
    """A value begins after the first name that is secret: what looks like more names may belong to it."""
    parts = _EQUALS.split(field)
    for place in range(0, len(parts) - 1, 2):
        if _is_secret(parts[place]):
            return "".join([*parts[: place + 2], MASK])
    return field


def _is_secret(text: str) -> bool:
    """Whether what stands before a ``=`` ends with the name of a credential, in percent-encoding or not."""
    name = unquote(_BEFORE_NAME.split(text)[-1])
    return bool(_SECRET_PART.search(name) or _SECRET_WORD.search(name))
