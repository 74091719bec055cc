# SPDX-License-Identifier: MIT
"""A session's stream, read once for all who look at it: each takes the newest frame when it can take one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from operatord.gateway.pictures.cutter import Picture
from operatord_protocol.messages import Location
from operatord_protocol.stream import End, Hello, StreamError

from .reading import LIVE, WATCH, Opener, Reading

FRAMES_A_SECOND = 60
"""Frames that are passed on in a second at the most: what a screen shows. The rest counts as dropped."""
NO_SPECTATORS = (
    "the stage does not support spectators: reading it begins the frames; "
    'leave "watch" out to do so'
)


class Source:
    """One live connection to a location, while somebody looks.

    There is one slot, for the newest frame. A viewer remembers the number of what it had last, so a slow one
    costs nothing but itself.
    """

    def __init__(self, location: Location, opener: Opener) -> None:
        self.location = location
        self.newest: Picture | None = None
        self.number = 0
        """How many frames there were: the number of the newest one."""
        self.end: End | None = None
        self.fault: StreamError | None = None
        """Why it is over without an end."""
        self._opener = opener
        self._readers = self._spectators = 0
        self._reading: Reading | None = None
        self._said = b""
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def viewers(self) -> int:
        """How many look."""
        return self._readers + self._spectators

    @property
    def over(self) -> bool:
        """Whether no more frames come."""
        return self.end is not None or self.fault is not None

    def join(self, *, watch: bool) -> None:
        """Count one more viewer. One that only watches neither begins the frames nor keeps them going."""
        self._readers += not watch
        self._spectators += watch
        self._introduce()

    def leave(self, *, watch: bool) -> None:
        """Count one viewer less, which had joined."""
        self._readers -= not watch
        self._spectators -= watch
        self._introduce()

    @property
    def shown(self) -> tuple[Hello, Picture] | None:
        """The newest frame with the hello, while there is one."""
        if self.over or self._reading is None or self.newest is None:
            return None
        return self._reading.hello, self.newest

    async def ready(self) -> bytes:
        """Return the hello as a line. Raises `StreamError`."""
        while self._reading is None:
            if self.fault is not None:
                raise self.fault
            await self._changed.wait()
        return self._reading.hello_line

    async def after(self, number: int) -> Picture | None:
        """Return the newest frame once it is another than ``number``; None once there will be none."""
        while self.number <= number:
            if self.over:
                return None
            await self._changed.wait()
        return self.newest

    async def close(self, why: str = "") -> None:
        """Disconnect; those who still look are told why."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if not self.over:
            self._finish(fault=StreamError(why or "nobody looks any more"))

    async def _run(self) -> None:
        try:
            async with self._opener.opened(self.location) as reading:
                await self._follow(reading)
        except StreamError as exc:
            self._finish(fault=exc)

    async def _follow(self, reading: Reading) -> None:
        reading.keep_little()
        self._reading = reading
        self._introduce()
        self._wake()
        while self.end is None:
            found = await reading.more()
            if pictures := [each for each in found if isinstance(each, Picture)]:
                self.newest = pictures[-1]
                self.number += len(pictures)
                self._wake()
            if found and isinstance(found[-1], End):
                self._finish(end=found[-1])
            elif pictures and reading.knows_watch:
                # A stage that knows spectators drops frames meanwhile. At another, somebody may wait for us.
                await asyncio.sleep(1 / FRAMES_A_SECOND)

    def _introduce(self) -> None:
        """Say at the location what this is, if that is something else than before."""
        if self._reading is None or self.over or not self.viewers:
            return
        line = LIVE if self._readers else WATCH
        if line is WATCH and not self._reading.knows_watch:
            self._task.cancel()
            self._finish(fault=StreamError(NO_SPECTATORS))
        elif line is not self._said:
            self._said = line
            self._reading.say(line)

    def _finish(self, end: End | None = None, fault: StreamError | None = None) -> None:
        self.end, self.fault = end, fault
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
