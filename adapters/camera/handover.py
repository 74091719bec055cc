# SPDX-License-Identifier: MIT
"""Pictures on their way from the thread that reads the decoder to the one that serves consumers.

No picture is copied here: each has a buffer of its own with room for the line before it, which is used again
when nobody has a view of it any more.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from typing import NamedTuple

HEADROOM = 128
"""Bytes before a picture, for its header line."""
DEPTH = 3
"""Pictures that wait at the most."""
SPARE = 2 * DEPTH
"""Buffers that are kept to be used again."""


class Picture(NamedTuple):
    """A picture in a buffer, behind HEADROOM bytes."""

    buffer: bytearray
    arrival: int
    """Its number among those that have come."""
    time: float
    """In seconds on the source's clock."""


class Handover:
    """A short queue between two threads, with a socket for who waits in a selector.

    If it drops, the oldest picture gives way to the newest, so the decoder is always read; else it is not
    read while the queue is full.
    """

    def __init__(self, figures: dict[str, object], *, drops: bool) -> None:
        """Begin with nothing. The figures are those of the stage's reports."""
        self.ready, self._bell = socket.socketpair()  # ready to be read while there is something
        self._figures = figures
        self.dropped = 0  # since the first picture was taken
        self.count(reconnects=0, source_dropped=0)
        self._drops = drops
        self._queue: deque[Picture] = deque()
        self._spare: deque[bytearray] = deque(maxlen=SPARE)
        self._changed = threading.Condition()
        self._over = self._taken = False

    def count(self, **figures: int) -> None:
        """Note what reports are to say."""
        self._figures.update(figures)

    def buffer(self, size: int) -> bytearray:
        """Return a buffer for a picture of so many bytes, which nobody has a view of."""
        for _ in range(len(self._spare)):
            buffer = self._spare.popleft()
            if is_unused(buffer):
                if len(buffer) == HEADROOM + size:
                    return buffer
            else:
                self._spare.append(buffer)
        return bytearray(HEADROOM + size)

    def give_back(self, buffer: bytearray) -> None:
        """Take a buffer back, of which somebody may still have a view."""
        self._spare.append(buffer)

    def put(self, picture: Picture) -> None:
        """Queue a picture. If none are dropped, wait for a place."""
        with self._changed:
            while len(self._queue) >= DEPTH and not (self._drops or self._over):
                self._changed.wait()
            if len(self._queue) >= DEPTH:
                self._spare.append(self._queue.popleft().buffer)
                self.dropped += self._taken
                self.count(source_dropped=self.dropped)
            self._queue.append(picture)
            if len(self._queue) == 1:
                self._ring()

    def take(self) -> Picture | None:
        """Return the oldest picture; None if there is none."""
        with self._changed:
            if not self._queue:
                return None
            picture = self._queue.popleft()
            self._taken = True
            if not (self._queue or self._over):
                self.ready.recv(1)
            self._changed.notify()
        return picture

    def finish(self) -> None:
        """Say that no more will come, and let nobody wait."""
        with self._changed:
            self._ring()
            self._over = True
            self._changed.notify()

    def _ring(self) -> None:
        """Make the socket ready; it stays so once there is no more to come."""
        with contextlib.suppress(OSError):  # who takes the pictures wants no more
            if not self._over:
                self._bell.send(b"\0")

    @property
    def is_over(self) -> bool:
        """Whether nothing is left and no more will come."""
        with self._changed:
            return self._over and not self._queue


def is_unused(buffer: bytearray) -> bool:
    """Tell whether nobody has a view of a buffer: while there is one, its size cannot be changed."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
