# SPDX-License-Identifier: MIT
"""The daemon's address: text of a person, parsed into a TCP address or a Unix socket's path."""

from __future__ import annotations

import os
from typing import NamedTuple

from operatord_protocol.hosts import host_problem

DEFAULT = "127.0.0.1:7733"
DEFAULT_PORT = 7733
VARIABLE = "OPERATORD_ADDRESS"
"""Environment variable that is asked when no address is given."""
NOT_HTTP = (
    "its HTTP port is for other programs, and here the control port is wanted, which is "
    f"{DEFAULT_PORT} unless the setting listen says another"
)

TLS_VARIABLES = ("OPERATORD_CA", "OPERATORD_CERT", "OPERATORD_KEY")
"""Environment variables with the files that an address ``tls://…`` takes."""


class Tcp(NamedTuple):
    """A host (name or number) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Tls(NamedTuple):
    """A host and a port where TLS is spoken, and the files in PEM that this takes."""

    host: str
    port: int
    ca: str | None = None
    """Authorities that may have signed the daemon's certificate; None for the system's."""
    cert: str | None = None
    """The client's certificate; None where the daemon wants none."""
    key: str | None = None
    name: str | None = None
    """What the certificate is for; None: for the host."""

    def __str__(self) -> str:
        return f"tls://{Tcp(self.host, self.port)}"


class Unix(NamedTuple):
    """A Unix socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = Tcp | Tls | Unix
AddressLike = str | tuple[str, int] | Tcp | Tls | Unix


def parse_address(address: AddressLike | None = None) -> Address:
    """Return ``address``, else what ``$OPERATORD_ADDRESS`` says, else 127.0.0.1:7733.

    Text is ``host:port``, ``host``, ``:port``, ``[ipv6]:port``, ``tcp://host:port``, ``unix:/path`` or a path
    with a ``/``; or ``tls://host:port``, for which `from_environment` has the files.
    Raises `ValueError` with a sentence.
    """
    if address is None and (text := os.environ.get(VARIABLE)):
        try:
            return _parse_text(text)
        except ValueError as exc:
            raise ValueError(f"{VARIABLE}: {exc}") from exc
    if isinstance(address, Tcp | Tls | Unix):
        return address
    if isinstance(address, tuple):
        return Tcp(*address)
    return _parse_text(DEFAULT if address is None else address)


def _parse_text(text: str) -> Address:
    scheme, colon, rest = text.partition("://")
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:").removeprefix("//"))
    if colon and scheme == "tls":
        return from_environment(_parse_tcp(text, rest.rstrip("/")))
    if colon and scheme in ("http", "https"):
        raise _NoAddress(text, NOT_HTTP, _without_port(rest))
    if colon and scheme != "tcp":
        raise _NoAddress(text, f"{scheme}:// is not supported", _example(rest.rstrip("/")))
    if "/" in text and not colon:
        return _unix(text)
    return _parse_tcp(text, rest.rstrip("/") if colon else text)


def from_environment(place: Tcp) -> Tls:
    """Return ``place`` with TLS, and the files that `TLS_VARIABLES` name."""
    ca, cert, key = (os.environ.get(name) or None for name in TLS_VARIABLES)
    return Tls(place.host, place.port, ca, cert, key)


def _unix(path: str) -> Unix:
    if not path or "\0" in path:
        raise _NoAddress(
            f"unix:{path}", "a socket's path is missing", "unix:/run/operatord/operatord.sock"
        )
    return Unix(path)


def _parse_tcp(text: str, place: str) -> Tcp:
    if not place:
        raise _NoAddress(text, "it has no host and no port")
    if place.isascii() and place.isdigit():
        raise _NoAddress(text, "a port needs a host before it", f"127.0.0.1:{place}")
    if place.endswith(".sock"):
        raise _NoAddress(text, "a socket's path begins with unix: or has a /", f"unix:{place}")
    if place.startswith("[") != ("]" in place) or (place.count(":") > 1 and place[0] != "["):
        raise _NoAddress(text, "an IPv6 address is in brackets", "[::1]:7733")
    host, colon, port = place.rpartition(":")
    if place.endswith("]") or not colon:
        host, port = place, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise _NoAddress(text, "a port is a number from 1 to 65535", f"{host}:7733")
    if problem := host_problem(host):
        raise _NoAddress(text, problem)
    return Tcp(host, int(port))


def _without_port(place: str) -> str:
    """Return the control port where somebody has named the one of HTTP."""
    try:
        return str(_parse_tcp(place, place.partition("/")[0])._replace(port=DEFAULT_PORT))
    except ValueError:
        return DEFAULT


def _example(place: str) -> str:
    """Return what was probably meant by what follows another scheme."""
    try:
        return str(_parse_tcp(place, place))
    except ValueError:
        return DEFAULT


class _NoAddress(ValueError):
    """The text is no address; the sentence says why, and shows one that is."""

    def __init__(self, text: str, problem: str, example: str = DEFAULT) -> None:
        super().__init__(
            f"{text!r} is not the address of a daemon: {problem}; write one such as {example}"
        )
