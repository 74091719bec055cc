#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Serve the pictures of an OpenIGTLink server, such as a scanner, as a stream.

Connects as a client, takes IMAGE messages (uint8, int16, uint16, or three components of uint8; one slice;
headers of version 1 and 2), and passes TRANSFORM and STATUS on with the next picture, as its part `igtl`.
Everything else is left out: counted in the reports, and told once on standard error. So are messages
whose checksum is wrong.

A stream has pictures of one size and kind: if the server's change, this stage says so and ends with 4.
Signed pixels get 32768 added, so that none is lost; the hello says so (meta.offset). The server is never
held up: pictures that nobody takes in time are dropped (a gap in seq). If it is lost, it is connected to
again, after 0.1 to 5 seconds, until it is back.

    source_url         igtl://HOST:PORT?device=NAME; the port is 18944 if it is left out. Without
                       device, the first one that sends a picture
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import parse_qs, urlsplit

import operatord_stage as stage
from igtl.messages import DEVICE_BYTES
from operatord_stage.source import Source
from operatord_stage.stage import BAD_SETTING, Fault
from scan_feed import Feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from operatord_stage.source import Extent

PORT = 18944
FIGURES: dict[str, Any] = {"connects": 0, "refused": 0, "bad_crc": 0, "skipped": 0}
"""In the reports: connections to the server, messages left out, and pictures that nobody took in time."""


def read_url(url: str) -> tuple[str, int, str]:
    """Return host, port and device of the setting; an empty device is any. Raises `Fault`."""
    wanted = "source_url must be igtl://HOST:PORT?device=NAME"
    try:
        found = urlsplit(url)
        query = parse_qs(found.query, keep_blank_values=True, strict_parsing=bool(found.query))
        host, port = found.hostname or "", PORT if found.port is None else found.port
    except ValueError as exc:
        raise Fault(BAD_SETTING, wanted) from exc
    device = query.pop("device", [""])[-1]
    if query:
        known = f"{min(query)[:20]!r} is not known in its query; did you mean 'device'?"
        raise Fault(BAD_SETTING, f"{wanted}: {known}")
    if found.scheme != "igtl" or not host or port == 0 or found.path not in ("", "/"):
        raise Fault(BAD_SETTING, wanted)
    if not device.isascii() or len(device) > DEVICE_BYTES:
        raise Fault(BAD_SETTING, f"{wanted}, and a device has up to {DEVICE_BYTES} ASCII letters")
    return host, port, device


class Fed(Source):
    """The other end of a feed's socket."""

    def __init__(self, sock: socket.socket, feed: Feed) -> None:
        """Read the feed's hello."""
        super().__init__(sock)
        sock.setblocking(False)
        self._feed = feed

    def read(self) -> list[Extent]:
        """Receive once and return the frames that are whole now. Raises `Fault`."""
        try:
            return super().read()
        except Fault as fault:
            raise (self._feed.fault or fault) from fault


def scan() -> Fed:
    """Connect to the scanner, and return its stream once there is a picture. Raises `Fault`."""
    feed = Feed(*read_url(stage.text("source_url", "")), FIGURES)
    feed.start(stage.number("connect_timeout", 30, 0, 86400))
    ours, theirs = socket.socketpair()
    threading.Thread(target=feed.write, args=(theirs,), daemon=True).start()
    return Fed(ours, feed)


if __name__ == "__main__":
    stage.serve(scan, kind="source", figures=FIGURES)
