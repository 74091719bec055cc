# SPDX-License-Identifier: MIT
"""The URL of a probe, taken apart. It may hold credentials, so no error repeats it, and what people see is
`SourceUrl.shown`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import unquote

from operatord_protocol.checking import suggestion
from operatord_protocol.hosts import host_problem

from .masking import masked

TCP = "tcp"
"""The stream format itself, which needs no adapter."""
LOCAL = ("file", "v4l2")
"""Schemes of what is on the engine's machine: they have a path and no host."""
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "igtl": 18944}
"""Ports of URLs that name none."""
TLS = ("rtsps", "https")
NAMES_MATTER = ("http", "https", "rtsps")
"""Schemes whose servers want to hear, or prove, the name that they are asked by."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)\Z", re.DOTALL)
_AUTHORITY = re.compile(r"//([^/?]*)(.*)\Z", re.DOTALL)
_HOST = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::(.*))?\Z")


class SourceUrl(NamedTuple):
    """A URL that can be read by an adapter."""

    scheme: str
    userinfo: str
    """``user:password`` as it is written, or empty."""
    host: str
    """Without brackets; empty for what is on the engine's machine."""
    port: int
    """0 for what is on the engine's machine."""
    path: str
    """Of a file or device: absolute and decoded. Otherwise as it is written, with its query."""
    shown: str
    """The whole URL without credentials."""
    text: str
    """The whole URL as it was given."""

    @property
    def is_local(self) -> bool:
        """Whether it names something on the engine's machine."""
        return self.scheme in LOCAL

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password."""
        if not self.userinfo:
            return None
        user, _, password = self.userinfo.partition(":")
        return unquote(user), unquote(password)

    def at(self, host: str, port: int) -> str:
        """Return the whole URL, with credentials, as it leads to another address."""
        before = f"{self.userinfo}@" if self.userinfo else ""
        where = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{before}{where}:{port}{self.path}"


def parse_source(text: str, schemes: Collection[str]) -> SourceUrl:
    """Take a URL apart. Raises `ValueError` with the end of a sentence that holds nothing of the URL."""
    match = _SCHEME.match(text)
    known = sorted({TCP, *schemes})
    if match is None:
        raise ValueError(f"expected a URL such as rtsp://HOST/PATH; schemes: {', '.join(known)}")
    scheme, rest = match[1].lower(), match[2]
    if scheme not in known:
        said = suggestion(scheme, known) if len(scheme) <= 32 else ""
        listed = ", ".join(known)
        hint = f"{said[:-1]}, of {listed}?" if said.startswith("; did") else f"; schemes: {listed}"
        raise ValueError(f"`sources` has no adapter for this scheme{hint}")
    if "#" in rest:
        raise ValueError("a # in a user, a password or a path is written %23")
    return _local(scheme, rest, text) if scheme in LOCAL else _remote(scheme, rest, text)


def scheme_of(text: str) -> str:
    """Return the scheme of a URL that has one."""
    return text.partition(":")[0].lower()


def _local(scheme: str, rest: str, text: str) -> SourceUrl:
    example = f"{scheme}:{'/dev/video0' if scheme == 'v4l2' else '/srv/recordings/scan.mkv'}"
    path = unquote(rest.removeprefix("//") if rest.startswith("///") else rest)
    if "?" in rest:
        raise ValueError(f"a ? in a path is written %3F; expected a URL such as {example}")
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"expected an absolute path and no host, such as {example}")
    if posixpath.normpath(path) != path or not path.isprintable():
        raise ValueError(
            "a path is written without . and .., needless slashes and control characters"
        )
    return SourceUrl(scheme, "", "", 0, path, text, text)


def _remote(scheme: str, rest: str, text: str) -> SourceUrl:
    match = _AUTHORITY.match(rest)
    if match is None or not match[1]:
        raise ValueError(f"expected a host, as in {scheme}://HOST/PATH")
    userinfo, at, where = match[1].rpartition("@")
    path = match[2]
    if "@" in userinfo or "@" in path:
        raise ValueError("in a user, a password or a path, @ is written %40, / %2F and ? %3F")
    host, port = _host_and_port(scheme, where)
    if not path.isascii() or not userinfo.isascii():
        raise ValueError("what is not ASCII is written in percent-encoding")
    if scheme == TCP and (at or path.strip("/")):
        raise ValueError("tcp://HOST:PORT has no user and no path")
    shown = f"{scheme}://{where}{masked(path)}"
    return SourceUrl(scheme, userinfo, host, port, path, shown, text)


def _host_and_port(scheme: str, where: str) -> tuple[str, int]:
    match = _HOST.match(where)
    if match is None:
        raise ValueError(f"expected {scheme}://HOST:PORT/PATH; an IPv6 address is in brackets")
    host, port = match[1] or match[2], match[3]
    if problem := host_problem(host):
        raise ValueError(f"in its host: {problem}")
    if ":" in host and match[1] is None:
        raise ValueError("an IPv6 address is in brackets in a URL")
    if port is None and scheme not in PORTS:
        raise ValueError(f"the port is missing: {scheme}://HOST:PORT has no usual one")
    if port is not None and not (
        port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535
    ):
        raise ValueError("expected a port from 1 to 65535 after the host")
    return host, PORTS[scheme] if port is None else int(port)
