# SPDX-License-Identifier: MIT
"""What the engine can do, tested once for its version and address, and remembered. The test needs an image.
If the engine has none, it runs when one comes; until then, starts use only what every engine can do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from operatord.engines import base
from operatord.store.journal import Journal

log = logging.getLogger(__name__)
T = TypeVar("T")

FACT = "capabilities"
FAREWELL = 5.0
"""Seconds that a shutdown gives the engine to remove what it was tested with."""


class Remembered(msgspec.Struct, frozen=True):
    """The journal's row: the answers, and the engine that gave them."""

    endpoint: str
    name: str
    version: str
    api_version: str
    capabilities: base.Capabilities

    def is_of(self, info: base.EngineInfo) -> bool:
        """Tell whether these are the answers of the engine that answers now."""
        asked = (self.endpoint, self.name, self.version, self.api_version)
        return asked == (info.endpoint, info.name, info.version, info.api_version)


class CapabilityMemory:
    """Asks an engine what it can do, when nobody has asked this version at this address before."""

    def __init__(self, engine: base.Engine, journal: Journal) -> None:
        """Nothing is asked before `settle`."""
        self._engine = engine
        self._journal = journal
        self._without_asking = engine.capabilities
        self._remembered = _read(journal.fact(FACT))
        self._info: base.EngineInfo | None = None
        """Whom to ask."""
        self._image_came = asyncio.Event()

    async def settle(self, info: base.EngineInfo) -> None:
        """Use the capabilities of ``info``'s engine, as remembered or as tested now."""
        remembered = self._remembered
        if remembered is None or not remembered.is_of(info):
            self._engine.assume(self._without_asking)
            await self._ask(info)
        elif self._info != info:  # or a capability that it has refused since would be assumed again
            self._engine.assume(remembered.capabilities)
        self._info = info

    async def _ask(self, info: base.EngineInfo) -> None:
        try:
            found = await _to_the_end(self._engine.find_out())
        except base.EngineError as exc:
            log.warning(
                "what the engine can do is not known, so starts take longer: %s", base.in_full(exc)
            )
            return
        if found is None:
            log.info("what the engine can do is found out when it has an image")
            return
        self._engine.assume(found)
        self._remembered = Remembered(
            info.endpoint, info.name, info.version, info.api_version, found
        )
        self._journal.note_fact(FACT, msgspec.json.encode(self._remembered))
        able = [name for name, is_able in msgspec.to_builtins(found).items() if is_able]
        log.info(
            "engine %s %s was asked what it can do: %s", info.name, info.version, ", ".join(able)
        )

    def image_came(self) -> None:
        """There may be an image to ask with."""
        self._image_came.set()

    async def run(self) -> None:
        """Run the test when an image has come, until it has succeeded."""
        while True:
            await self._image_came.wait()
            self._image_came.clear()
            if self._info is not None:
                await self.settle(self._info)


def _read(data: bytes | None) -> Remembered | None:
    """Return what was remembered; unreadable or incomplete answers count as never asked."""
    try:
        return None if data is None else msgspec.json.decode(data, type=Remembered)
    except msgspec.DecodeError as exc:
        log.warning("what the engine can do cannot be read, and is asked anew: %s", exc)
        return None


async def _to_the_end(asking: Coroutine[Any, Any, T]) -> T:
    """Await ``asking``. If it is cancelled, allow it time first: it has containers on the engine then."""
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=FAREWELL)
        task.cancel()
        raise
