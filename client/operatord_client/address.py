# SPDX-License-Identifier: MIT
"""Where a daemon is: what a person writes, made into a TCP address or a Unix socket's path."""

from __future__ import annotations

import os
from typing import NamedTuple

DEFAULT = "127.0.0.1:7733"
DEFAULT_PORT = 7733
VARIABLE = "OPERATORD_ADDRESS"
"""Environment variable that is asked when no address is given."""


class Tcp(NamedTuple):
    """A host (name or number) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unix(NamedTuple):
    """A Unix socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = Tcp | Unix
AddressLike = str | tuple[str, int] | Tcp | Unix


def parse_address(address: AddressLike | None = None) -> Address:
    """Return ``address``, else what ``$OPERATORD_ADDRESS`` says, else 127.0.0.1:7733.

    Text is ``host:port``, ``host``, ``[ipv6]:port``, ``tcp://host:port``, ``unix:/path`` or a path.
    Raises `ValueError` with a sentence.
    """
    if address is None:
        address = os.environ.get(VARIABLE) or DEFAULT
    if isinstance(address, Tcp | Unix):
        return address
    if isinstance(address, tuple):
        return Tcp(*address)
    return _parse_text(address)


def _parse_text(text: str) -> Address:
    if text.startswith("unix:"):
        return Unix(text.removeprefix("unix:").removeprefix("//"))
    if "/" in text and not text.startswith("tcp://"):
        return Unix(text)
    return _parse_tcp(text.removeprefix("tcp://"))


def _parse_tcp(text: str) -> Tcp:
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} is no address: expected host:port or unix:/path")
    return Tcp(host or "127.0.0.1", int(port))
