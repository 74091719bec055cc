# SPDX-License-Identifier: MIT
"""A source's frames, as the relay of operatord_stage takes them from an upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handover import HEADROOM, Handover, Picture
from operatord_stage.source import Extent
from operatord_stage.stage import Fault

if TYPE_CHECKING:
    from operatord_stage.source import Readable

HEADER = b'{"type":"frame","seq":%d,"pts":%.6f,"parts":[{"name":"image","bytes":%d}]}\n'
"""The line before a picture."""


class Feed:
    """Frames that another thread hands over: read() returns one, and never waits.

    Frames count, and their time begins, with the first one that is taken; `seq` has a gap where pictures were
    dropped since, because they were not taken soon enough.
    """

    def __init__(self, handover: Handover, hello: dict[str, Any]) -> None:
        self.hello = hello
        self.view = memoryview(b"")
        self.sock: Readable = handover.ready
        self.ended = False
        self.dropped = 0
        self.fault: Fault | None = None
        """Why the source ended, if that was not its end."""
        self._handover = handover
        self._first: Picture | None = None
        self._lent: bytearray | None = None  # the buffer that was read last

    def read(self) -> list[Extent]:
        """Return the next frame, in `view`. Raises `Fault` after the last one, if the source was lost."""
        if self._lent is not None:
            self.view = memoryview(b"")
            self._handover.give_back(self._lent)
            self._lent = None
        if picture := self._handover.take():
            return [self._frame(picture)]
        self.ended = self._handover.is_over
        if self.ended and self.fault:
            raise self.fault
        return []

    def ask_for_frames(self, wanted: bool) -> None:
        """Do nothing: there is no upstream to be asked."""

    def _frame(self, picture: Picture) -> Extent:
        """Write a picture's line before it."""
        self._first = first = self._first or picture
        self.dropped = self._handover.dropped
        self._lent, self.view = picture.buffer, memoryview(picture.buffer)
        stop = len(self.view)
        seconds = max(0.0, picture.time - first.time)
        header = HEADER % (picture.arrival - first.arrival, seconds, stop - HEADROOM)
        start = HEADROOM - len(header)
        self.view[start:HEADROOM] = header
        return Extent(start, HEADROOM, HEADROOM, stop, stop)
