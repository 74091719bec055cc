# SPDX-License-Identifier: MIT
"""The doors of sessions: opened when a stream is proven, kept open whatever happens to the gate, closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from operatord.gate.door import Door, name_of, wish
from operatord.gate.keys import StreamKey
from operatord.gate.link import Gate, GateFailed, GateGone
from operatord.session.record import SessionRecord
from operatord_protocol import errors
from operatord_protocol.hosts import location_url
from operatord_protocol.messages import Location

from .steps import StepFailed

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds until doors that could not be opened are tried again; each time in a row twice as many."""

LASTS = 5
"""Tries in vain, within some three seconds, after which `system.status` says so."""
MOST_TOLD = 3
"""Doors that are named in one sentence."""
LOOK_EVERY = 15.0
"""Seconds after which the gate is asked what is open though nothing is known to be amiss."""


class DoorParts(NamedTuple):
    """What doors are made with."""

    gate: Gate
    key: StreamKey
    ports: Callable[[], tuple[int, int] | None]
    """Returns the range of ports for doors; None lets the system choose."""
    living: Callable[[], Iterable[SessionRecord]]
    """Returns the sessions that have not ended."""
    show: Callable[[str], None] = lambda problem: None
    """Told, for `system.status`, why streams cannot be reached, if that lasts."""


class Doors:
    """The one that says to the gate what is to be open."""

    def __init__(self, parts: DoorParts) -> None:
        """Nothing is opened yet, and no gate is there."""
        self._gate, self._key, self._ports, self._living, self._show = parts
        self._amiss = asyncio.Event()
        """What is open may not be what is to be open."""
        self._stale = False
        """The certificates may be others now."""

    async def open(self, record: SessionRecord, stage: str, location: Location) -> Location:
        """Return where the requester finds what is proven to deliver at ``location``. Raises `StepFailed`.

        For one on this machine that is there.
        """
        reach = record.reach
        if reach is None:
            return location
        try:
            door = Door(reach, 0, (location.host, location.port))
            door = await self._opened(record, stage, door)
            record.provisioned.doors[stage] = door
            return self._location(record, door, location.format)
        except (GateFailed, OSError) as exc:
            reason = f"no door for the stream could be opened at {reach.listen}: {exc}"
            raise StepFailed(errors.StartFailed, "start_failed", reason, stage) from exc

    async def _opened(self, record: SessionRecord, stage: str, door: Door) -> Door:
        name = name_of(record.id, stage)
        line = wish(name, door, self._key.token(record.id), self._ports())
        try:
            said = await self._gate.ask(line)
        except GateGone:  # it may have died just now
            said = await self._gate.ask(line)
        return replace(door, port=said["port"])

    def _location(self, record: SessionRecord, door: Door, format: str) -> Location:
        reach, host = door.reach, door.reach.shown
        url = location_url(host, door.port, format, tls=reach.tls is not None)
        found = Location(host=host, port=door.port, url=url, format=format)
        if reach.tls is not None:
            found = replace(found, tls=True)
        if reach.allow == "token":
            found = replace(found, token=self._key.token(record.id))
        return found

    async def close(self, record: SessionRecord, stage: str | None = None) -> None:
        """Close what is open for a session, or for one stage of it. Idempotent.

        A door that cannot be closed now is closed when the gate is there again.
        """
        doors = record.provisioned.doors
        for name in [each for each in doors if stage in (None, each)]:
            del doors[name]
            try:
                await self._gate.ask({"do": "close", "door": name_of(record.id, name)})
            except GateFailed as exc:
                log.warning("session %s: its door is not closed yet: %s", record.id, exc)
                self.look_again()

    def recall(self, records: Sequence[SessionRecord]) -> None:
        """Take on the doors of sessions of an earlier daemon: their locations get their tokens again.

        The certificates may have been renewed since it told the gate to read them.
        """
        for record in records:
            if record.provisioned.doors:
                record.location = self._with_token(record, record.location)
                record.plain_location = self._with_token(record, record.plain_location)
        if self._gate.was_left():
            self.reread_later()
        elif any(record.provisioned.doors for record in records):
            self.look_again()

    def _with_token(self, record: SessionRecord, location: Location | None) -> Location | None:
        tokens = {
            door.port for door in record.provisioned.doors.values() if door.reach.allow == "token"
        }
        if location is None or location.port not in tokens:
            return location
        return replace(location, token=self._key.token(record.id))

    def look_again(self) -> None:
        """Note that what is open may not be what is to be open."""
        self._amiss.set()

    async def keep(self) -> None:
        """Have open what is to be open, and nothing else, for ever.

        A door that cannot be opened is tried again at its own port: that address has been told, and another
        one would reach nobody who has it.
        """
        tries = 0
        while True:
            await self._look_due()
            self._amiss.clear()
            try:
                await self._compare()
                if tries:
                    log.info("all streams can be reached by the gate again")
                tries = 0
            except (GateFailed, OSError) as exc:
                tries += 1
                self._tell(str(exc), tries)
                self._amiss.set()
                await asyncio.sleep(min(FIRST_PAUSE * 2 ** min(tries - 1, 16), LONGEST_PAUSE))

    def _tell(self, problem: str, tries: int) -> None:
        """Tell what cannot be opened: in the log at once, and once more with `system.status` if it lasts."""
        if tries in (1, LASTS):
            log.error("not all streams can be reached by the gate, tried again: %s", problem)
        if tries == LASTS:
            self._show(problem)

    async def _look_due(self) -> None:
        """Return when something may be amiss, or a gate that hangs is to be found before it is needed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._amiss.wait()
                return
            if self._gate.is_connected:
                return

    async def _compare(self) -> None:
        """Close what nobody needs, and open what is missing. Raises `GateFailed`, `OSError`."""
        wanted = {
            name_of(record.id, stage): (record, stage)
            for record in self._living()
            for stage in record.provisioned.doors
        }
        if not wanted and not self._gate.is_there:
            return
        if self._stale:
            await self._reread()
        there = (await self._gate.ask({"do": "list"}))["doors"]
        for name in there.keys() - wanted.keys():
            if self._is_nobodys(name):
                await self._gate.ask({"do": "close", "door": name})
        failed = [
            problem
            for name in sorted(wanted.keys() - there.keys())
            if (problem := await self._open_again(*wanted[name]))
        ]
        if failed:
            raise GateFailed("; ".join(failed[:MOST_TOLD]))

    async def _open_again(self, record: SessionRecord, stage: str) -> str | None:
        """Open a door that is missing, at its port; return why it cannot be opened. Raises `OSError`."""
        if (door := record.provisioned.doors.get(stage)) is None:
            return None
        try:
            await self._opened(record, stage, door)
        except GateFailed as exc:
            where = f"port {door.port} of {door.reach.listen}"
            return (
                f"{where}, where session {record.id} was found: {exc}; free it, or stop the session"
            )
        log.info("session %s: its door is open again at port %d", record.id, door.port)
        return None

    def _is_nobodys(self, name: str) -> bool:
        """Tell whether no session has a door, or may be opening it just now."""
        session_id = name.partition("/")[0]
        found = [record for record in self._living() if record.id == session_id]
        return not any(r.phase in ("starting", "running") and r.reach is not None for r in found)

    def reread_later(self) -> None:
        """Have the certificates read anew, if there is a gate. Nothing changes if one cannot be used."""
        self._stale = True
        self.look_again()

    async def _reread(self) -> None:
        self._stale = False
        try:
            await self._gate.ask({"do": "certificates"})
        except GateGone:
            raise
        except GateFailed as exc:
            log.error("the gate goes on with the certificates that it has: %s", exc)

    async def shut(self) -> None:
        """Let go of the gate; it ends unless streams go on through it."""
        goes_on = any(record.provisioned.doors for record in self._living())
        await self._gate.close(leave=goes_on)
