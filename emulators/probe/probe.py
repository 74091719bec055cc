#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Emulate an imaging probe: serve a synthetic B-mode-like stream over TCP.

Every connection gets a sequence of its own: `hello`, frames 0 … count-1 paced at fps, `end`.
A check that connects and leaves therefore costs nothing. The process exits with 0 once a
consumer has received everything and no other consumer is being served.

Settings, all from the environment:

    probe_ip         name or address to listen on            (0.0.0.0)
    probe_port       port to listen on, 0 for any free one   (12345)
    count            frames in a sequence, 1 … 2^31-1        (1000)
    fps              frames a second, 0 as fast as taken     (30)
    width, height    pixels, 1 … 1920                        (256)
    seed             of the speckle                          (0)
    connect_timeout  seconds for probe_ip to resolve         (30)
    checked          True: nobody is sent a frame before the first check   (False)
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time

from operatord_stage.sockets import listen, receive_now, resolve, unconfirmed_bytes
from operatord_stage.stage import CHECK, LINGER, SPACES, encode, number, run, say, switch, text
from pictures import cycles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REPORT_EVERY = 1
"""Seconds between reports."""
STALE_BYTES = 128 * 1024
"""Unsent bytes that a paced stream may queue in the kernel."""


class Settings:
    """What the environment says."""

    def __init__(self) -> None:
        """Read and check the environment. Raises `Fault`."""
        self.host = text("probe_ip", "0.0.0.0")  # noqa: S104 (a container serves its network)
        self.port = number("probe_port", 12345, 0, 65535)
        self.frames = number("count", 1000, 1, 2**31 - 1)
        self.fps = number("fps", 30, 0, 1000)
        self.width = number("width", 256, 1, 1920)
        self.height = number("height", 256, 1, 1920)
        self.seed = number("seed", 0, 0, 2**31 - 1)
        self.connect_timeout = number("connect_timeout", 30, 0, 86400)
        # Nobody is sent a frame before the daemon's check.
        self.checked = switch("checked", "false")


class Probe:
    """Serve sequences to whoever connects, a thread each, until one was received whole."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cycle = cycles(settings.width, settings.height, settings.seed)
        self.frames = 0  # sent on the connection that has got furthest
        self._changed = threading.Condition()
        self._active = 0
        self._complete = False
        self._sending: set[socket.socket] = set()  # sockets that are being given a frame
        self._reported: tuple[int, int, int] | None = None
        self._gate, self._latch = socket.socketpair()  # the gate reads an end once it is open
        if not settings.checked:
            self._latch.close()

    def run(self, listener: socket.socket) -> None:
        """Serve until a sequence is complete and nobody else is being served."""
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        with self._changed:
            while not self._changed.wait_for(self._finished, REPORT_EVERY):
                # While somebody consumes, silence would mean that it hangs.
                if self._active or self._figures() != self._reported:
                    self.report()

    def report(self) -> None:
        """Print the counters for the daemon."""
        self._reported = frames, consumers, blocked = self._figures()
        counters = {"frames": frames, "dropped": 0, "consumers": consumers, "blocked": blocked}
        say(type="report", stage="probe", **counters, every=REPORT_EVERY)

    def _figures(self) -> tuple[int, int, int]:
        return self.frames, self._active, len(self._sending)

    def _finished(self) -> bool:
        return self._complete and self._active == 0

    def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = listener.accept()
            with self._changed:
                self._active += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        complete = False
        with sock, contextlib.suppress(OSError):  # a peer that leaves is no fault of ours
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.settings.fps:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, STALE_BYTES)
            complete = self._play(sock)
        with self._changed:
            self._sending.discard(sock)
            self._active -= 1
            self._complete = self._complete or complete
            self._changed.notify()

    def _play(self, sock: socket.socket) -> bool:
        """Send the whole sequence; return False when the peer says that it is only a check."""
        sock.sendall(self._hello())
        visitor = Visitor(sock)
        while not select.select([self._gate], [], [], 0)[0]:
            watched = [self._gate] if visitor.mute else [self._gate, sock]
            select.select(watched, [], [])
            if visitor.is_check():
                break
        due = time.monotonic()
        for seq in range(self.settings.frames):
            if visitor.is_check():
                self._latch.close()
                return False
            if self.settings.fps:
                due = wait_until(due) + 1 / self.settings.fps
            self._send(sock, seq)
            self.frames = max(self.frames, seq + 1)
        sock.sendall(encode({"type": "end", "frames": self.settings.frames, "dropped": 0}))
        return self._received(sock, visitor)

    def _hello(self) -> bytes:
        said = self.settings
        size = {"width": said.width, "height": said.height, "format": "gray8"}
        pace = {"fps": said.fps, "count": said.frames}
        return encode({"type": "hello", "stream": "probe", **size, **pace})

    def _send(self, sock: socket.socket, seq: int) -> None:
        truth, picture = self.cycle.frame(seq)
        pts = round(seq / (self.settings.fps or 30), 6)
        header = (
            b'{"type":"frame","seq":%d,"pts":%a,"parts":[{"name":"image","bytes":%d}],"truth":%b}\n'
            % (seq, pts, len(picture), truth)
        )
        self._sending.add(sock)
        sent = sock.sendmsg((header, picture))
        if sent < len(header) + len(picture):
            sock.sendall((header + picture)[sent:])
        self._sending.discard(sock)

    def _received(self, sock: socket.socket, visitor: Visitor) -> bool:
        """Return whether the peer took everything, and was no check whose line came late.

        Its kernel must have confirmed all of it, however long that takes: what is still in our
        kernel is lost when the container's network goes. Then it may close; a reset says that
        it left with bytes unread.
        """
        sock.shutdown(socket.SHUT_WR)
        while unconfirmed_bytes(sock):
            visitor.is_check()  # raises once the peer has reset the connection
            time.sleep(0.01)
        deadline = time.monotonic() + LINGER
        while not (visitor.mute or visitor.is_check()):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([sock], [], [], left)[0]:
                break
        return not visitor.is_check()


class Visitor:
    """Whoever has connected, as far as its first words tell who that is."""

    def __init__(self, sock: socket.socket) -> None:
        self.mute = False  # it sends no more
        self._sock = sock
        self._heard = b""

    def is_check(self) -> bool:
        """Listen, and tell whether it has said that it is only a check; raise OSError when it is gone."""
        data = None if self.mute else receive_now(self._sock)
        self.mute = self.mute or data == b""
        words = (data or b"").translate(None, SPACES)
        self._heard += words[: len(CHECK) - len(self._heard)]
        return self._heard == CHECK


def wait_until(due: float) -> float:
    """Sleep until a time of the monotonic clock; return it, or now if that is later.

    Time lost to back-pressure is not caught up: a probe has a pace, not a backlog.
    """
    delay = due - time.monotonic()
    if delay <= 0:
        return due - delay
    time.sleep(delay)
    return due


def rehearse() -> None:
    """Look a name up, and render the default's first picture, which is kept and likely to be asked for."""
    resolve("localhost", 0)
    cycles(256, 256, 0).frame(0)


def serve(last_words: list[Callable[[], None]]) -> None:
    """Serve sequences until a consumer has got a whole one."""
    settings = Settings()
    listener = listen("probe", settings.host, settings.port, settings.connect_timeout)
    probe = Probe(settings)
    last_words.append(probe.report)
    probe.run(listener)
    probe.report()


if __name__ == "__main__":
    sys.exit(run("probe", __doc__, serve, rehearse))
