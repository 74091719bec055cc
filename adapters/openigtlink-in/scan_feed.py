# SPDX-License-Identifier: MIT
"""From a scanner's messages to frames of the stream format."""

from __future__ import annotations

import threading
import time
from collections import deque

from igtl.messages import Header, Image, content
from operatord_stage.stage import BROKEN_STREAM, NO_NEIGHBOUR, Fault, encode
from pixels import CannotShow, describe, pixels, place
from scanner import Scanner, shut

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from operatord_stage.source import Buffer

DEPTH = 4
"""Pictures that wait to be taken; beyond that, the oldest is dropped."""
MOST_PASSED_ON = 64 * 1024
"""Bytes of TRANSFORM and STATUS messages between two pictures; beyond that, the oldest are dropped."""
PASSED_ON = ("TRANSFORM", "STATUS")


class Feed:
    """Makes frames of a scanner's messages, and writes them, as the stream format has them, to a socket.

    One thread reads and never waits for the other, which writes.
    """

    def __init__(self, host: str, port: int, device: str, figures: dict[str, Any]) -> None:
        """`device` is whose pictures are wanted, "" for any one's; `figures` are for the reports."""
        self.scanner = Scanner(host, port, self._objection, figures)
        self._figures = figures
        self.fault: Fault | None = None  # why there are no more frames
        self.hello: dict[str, Any] = {}  # once there is a frame
        self._device = device
        self._kind: dict[str, Any] = {}  # of the hello, what no later picture may change
        self._begun = (0.0, 0.0)  # the first picture's time stamp, and when it came
        self._passed_on: deque[bytes] = deque()
        self._seq = 0
        self._frames: deque[list[Buffer]] = deque()
        self._changed = threading.Condition()

    def start(self, seconds: float) -> None:
        """Begin to read, and return once there is a hello. Raises `Fault` after so many seconds."""
        threading.Thread(target=self._read, daemon=True).start()
        with self._changed:
            if not self._changed.wait_for(lambda: self.hello, seconds):
                what = f"device {self._device!r}" if self._device else "any device"
                why = f"{self.scanner.place}: {self.scanner.problem}"
                raise Fault(NO_NEIGHBOUR, f"no picture of {what} came within {seconds} s: {why}")

    def write(self, sock: socket.socket) -> None:
        """Write hello and frames, until there are no more or nobody reads them."""
        try:
            sock.sendall(encode(self.hello))
            while frame := self._next():
                for piece in frame:
                    sock.sendall(piece)
        except OSError:
            return  # the stage is about to end
        shut(sock)

    def _next(self) -> list[Buffer]:
        """Return the oldest frame that waits; nothing once there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self.fault)
            return self._frames.popleft() if self._frames else []

    def _read(self) -> None:
        """Read messages until the pictures change."""
        try:
            for header, whole, body in self.scanner.messages():
                if header.type in PASSED_ON:
                    self._pass_on(bytes(whole))
                else:
                    self._show(header, body)
        except Fault as fault:
            with self._changed:
                self.fault = fault
                self._changed.notify_all()

    def _objection(self, header: Header) -> str:
        """Return why a message is left out; nothing for one that is wanted."""
        if header.type in PASSED_ON and header.body_bytes <= MOST_PASSED_ON:
            return ""
        if header.type != "IMAGE":
            return f"{header.type} messages are left out: pictures must come as IMAGE"
        if self._device and header.device != self._device:
            return f"pictures of {header.device!r} are left out: only {self._device!r} is wanted"
        return ""

    def _pass_on(self, whole: bytes) -> None:
        """Keep a message for the next picture."""
        self._passed_on.append(whole)
        while sum(map(len, self._passed_on)) > MOST_PASSED_ON:
            self._passed_on.popleft()

    def _show(self, header: Header, body: memoryview) -> None:
        """Make a frame of an IMAGE message. Raises `Fault` if it is of another kind than the first."""
        try:
            image = Image(content(header, body))
            kind, where = describe(image), place(image)
        except CannotShow as exc:
            self.scanner.refuse(str(exc))
            return
        except ValueError as exc:
            self.scanner.refuse(f"IMAGE messages are left out that are malformed: {exc}")
            return
        if not self.hello:
            self._begin(header, kind, where)
        if kind != self._kind:
            self._complain(kind)
        self._queue(self._frame(header, image, where))

    def _begin(self, header: Header, kind: dict[str, Any], where: dict[str, Any]) -> None:
        """Take the first picture's kind as that of the stream."""
        self._kind, self._device = kind, header.device
        self._begun = header.time, time.monotonic()
        with self._changed:
            self.hello = {"type": "hello", "stream": "igtl", **kind, **where, "fps": 0}
            self._changed.notify_all()

    def _complain(self, kind: dict[str, Any]) -> None:
        """Raise `Fault` for pictures of another kind."""
        was, now = (
            f"{each['width']}×{each['height']} {each['format']}" for each in (self._kind, kind)
        )
        if was == now:
            was, now = "signed or unsigned", "the other"
        raise Fault(
            BROKEN_STREAM,
            f"{self.scanner.place}: the pictures were {was} and now are {now}; a stream has one kind: "
            "start another session",
        )

    def _frame(self, header: Header, image: Image, where: dict[str, Any]) -> list[Buffer]:
        """Return a frame: its header line, and its parts."""
        parts: list[Buffer] = [pixels(image)]
        sizes = [{"name": "image", "bytes": len(parts[0])}]
        if self._passed_on:
            parts.append(b"".join(self._passed_on))
            sizes.append({"name": "igtl", "bytes": len(parts[1])})
            self._passed_on.clear()
        line = {"type": "frame", "seq": self._seq, "pts": self._pts(header), "parts": sizes}
        if header.time:
            line["time"] = round(header.time, 6)
        if any(where[name] != self.hello.get(name) for name in where):
            line |= where  # it has moved
        self._seq += 1
        return [encode(line), *parts]

    def _pts(self, header: Header) -> float:
        """Return the seconds since the first picture: by the scanner's clock, if it has one."""
        stamp, came = self._begun
        return round(max(0.0, header.time - stamp if stamp else time.monotonic() - came), 6)

    def _queue(self, frame: list[Buffer]) -> None:
        """Have a frame written, in place of the oldest that waits if there are too many."""
        with self._changed:
            if len(self._frames) >= DEPTH:
                self._frames.popleft()
                self._figures["skipped"] += 1
            self._frames.append(frame)
            self._changed.notify_all()
