# SPDX-License-Identifier: MIT
"""A source's URL: what ffmpeg is given, and what people may see of it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

NETWORK = ("rtsp", "rtsps", "http", "https")
"""Schemes of sources that a network brings."""
SCHEMES = (*NETWORK, "file", "v4l2")
"""All schemes that are understood."""
RECORDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm")
"""Endings of a path at a web server that is a file, and no camera."""
LONGEST = 4096
"""Characters of a URL."""
_VALUE = re.compile(r"(?:=|%3D)([^/]*)", re.IGNORECASE)
"""In a path: what follows the first name of a segment, as in ``user=NAME_password=WORD_channel=1``."""


class CameraUrl(NamedTuple):
    """Where a source is."""

    scheme: str
    target: str
    """What ffmpeg opens: the URL, or the path of a file or device. It may hold credentials."""
    shown: str
    """What people see: the URL without user, password, values in its path, query and fragment."""
    secrets: tuple[str, ...]
    """What must not be seen, the longest first: as it is written in the URL, and decoded."""

    @property
    def hidden_place(self) -> tuple[str, str]:
        """A relay's host and port, which mean nothing to people, and what they know it as; else empty."""
        relay = urlsplit(self.target).netloc.rpartition("@")[2]
        known = self.shown.partition("://")[2].partition("/")[0].partition("?")[0]
        return (relay, known) if relay != known and ":" in relay and known else ("", "")

    @property
    def is_network(self) -> bool:
        """Whether a network brings it: it may drop, and come again."""
        return self.scheme in NETWORK

    @property
    def is_live(self) -> bool:
        """Whether it goes on while nobody reads: a camera or a device, and no recording."""
        if self.scheme in ("http", "https"):
            return not urlsplit(self.target).path.lower().endswith(RECORDINGS)
        return self.scheme != "file"


def parse_url(text: str, shown: str = "") -> CameraUrl:
    """Take a URL apart. `shown`, if anything, is what people know a network's source as.

    Raises:
        ValueError: it is none that can be opened; the sentence does not repeat it.
    """
    if not text.isprintable() or len(text) > LONGEST:
        raise ValueError(f"source_url must have up to {LONGEST} printable characters")
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError("source_url has a host or port that is none") from exc
    if parts.scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise ValueError(f"source_url must begin with one of {known}, and a colon")
    if parts.scheme not in NETWORK:
        return _local(parts, host)
    found = _of_network(text, parts, host)
    return found._replace(shown=shown) if shown else found


def _of_network(text: str, parts: SplitResult, host: str | None) -> CameraUrl:
    if not text.isascii() or " " in text:
        raise ValueError("source_url has spaces or letters beyond ASCII, which are written as %XX")
    if not host:
        raise ValueError(f"source_url must name a host: {parts.scheme}://HOST/…")
    place = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{place}{_VALUE.sub('=***', parts.path)}"
    return CameraUrl(parts.scheme, text, shown, _secrets(parts))


def _local(parts: SplitResult, host: str | None) -> CameraUrl:
    """Return a file's or device's place: file:/PATH, file:///PATH, v4l2:/dev/video0."""
    path = unquote(parts.path)
    if host not in (None, "", "localhost") or not path.startswith("/") or "\0" in path:
        raise ValueError(f"source_url must name a whole path on this machine: {parts.scheme}:/PATH")
    target = f"file:{path}" if parts.scheme == "file" else path
    return CameraUrl(parts.scheme, target, f"{parts.scheme}:{path}", ())


def _secrets(parts: SplitResult) -> tuple[str, ...]:
    """Return user, password and the query, with its values, and values in the path: some cameras are told a
    password there."""
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    values = [value for _, value in parse_qsl(parts.query)]
    inside = _VALUE.findall(parts.path)
    found = {user, password, unquote(user), unquote(password), parts.query, *values, *inside}
    found |= {unquote(value) for value in inside}
    # Of two letters or fewer, a secret would be found in every other word.
    return tuple(sorted((one for one in found if len(one) > 2), key=len, reverse=True))
