# SPDX-License-Identifier: MIT
"""Whether an address can be a container engine's: what ``DOCKER_HOST`` may be, as far as that shows."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, urlsplit

EXAMPLE = "write it as unix:///run/docker.sock or tcp://127.0.0.1:2375"
_WITH_PORT = ("tcp", "http", "https")
_SCHEMES = ("unix", "http+unix", "ssh", *_WITH_PORT)
LONGEST_PATH = 107
"""Bytes that the path of a Unix socket has at most, see unix(7)."""
_BARE = re.compile(r"\d[\d.]*:\d+")
"""The one form without a scheme that the engine's library takes for TCP."""


def problem(address: str) -> str | None:
    """Return what is wrong with ``address`` in a sentence that does not quote it, or None."""
    wrong = _wrong(address)
    return None if wrong is None else f"{wrong}; {EXAMPLE}"


def _wrong(address: str) -> str | None:
    if not address.isprintable() or " " in address:
        return "the address has white space or control characters in it"
    if "://" not in address:
        return None if _BARE.fullmatch(address) else "the address does not say how to connect"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "the address has no host and port that can be understood"
    if parts.scheme not in _SCHEMES:
        return "the address does not begin with unix://, tcp://, http://, https:// or ssh://"
    if parts.query or parts.fragment:
        return "the address has something behind a ? or #"
    return _wrong_place(parts, port)


def _wrong_place(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme in ("unix", "http+unix"):
        named = (parts.netloc + parts.path).strip("/")
        if len(os.fsencode(f"/{named}")) > LONGEST_PATH:
            return f"the path of the socket has more than {LONGEST_PATH} bytes, the most that are possible"
        return None if named else "the address names no socket"
    if parts.scheme == "ssh":
        return None if parts.hostname else "the address names no host"
    return None if port else "the address names no port"
