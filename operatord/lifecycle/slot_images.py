# SPDX-License-Identifier: MIT
"""Whether slots were made from the images that their names refer to now. A name may refer to another image at
any moment (``docker build``), and a waiting slot has the old one. An event says so at once, and until the
engine has been asked again no slot can be claimed: a start takes longer then, but runs what it should. Not
every build causes an event, so the engine is also asked now and then. A claim itself asks nothing, since that
would take a third of its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from operatord.engines import base
from operatord.session.record import SessionRecord

EVERY = 2.0
"""Seconds between looks while there are slots, as between pings; three images take an engine 5 ms."""
SOON = 0.2
"""Seconds until the next look after the engine could not say."""


class SlotImages:
    """Compares; it gives nothing up itself."""

    def __init__(self, engine: base.Engine) -> None:
        """Nothing is in doubt yet."""
        self._engine = engine
        self._doubts = self._settled = 0
        self._stirred = asyncio.Event()

    @property
    def doubts(self) -> int:
        """How often something has happened to an image, or may have."""
        return self._doubts

    @property
    def in_doubt(self) -> bool:
        """Whether a name may refer to another image than when the engine was last asked."""
        return self._settled < self._doubts

    def doubt(self) -> None:
        """Something has happened to an image, or may have, unheard."""
        self._doubts += 1
        self._stirred.set()

    async def note(self, slot: SessionRecord) -> None:
        """Note what the images of a slot are before it is made. Raises `base.EngineError`."""
        names = sorted({stage.image for stage in slot.plan.stages.values()})
        slot.provisioned.image_ids = await self._ids(names)

    async def are_current(self, slot: SessionRecord) -> bool:
        """Ask whether a slot is of the images that are there now. Raises `base.EngineError`."""
        return is_of(slot, await self._ids(sorted(slot.provisioned.image_ids)))

    async def _ids(self, names: Sequence[str]) -> dict[str, str]:
        return await self._engine.image_ids(names) if names else {}

    async def watch(
        self,
        slots: Callable[[], Iterable[SessionRecord]],
        give_up: Callable[[SessionRecord], None],
    ) -> None:
        """Give up those ``slots`` whose image is outdated; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._stirred.wait()
            self._stirred.clear()
            doubts, known = self._doubts, list(slots())
            names = sorted({name for slot in known for name in slot.provisioned.image_ids})
            try:
                current = await self._ids(names)
            except base.EngineError:
                await asyncio.sleep(SOON)
                self._stirred.set()
                continue
            for slot in known:
                if not is_of(slot, current):
                    give_up(slot)
            self._settled = doubts


def is_of(slot: SessionRecord, current: Mapping[str, str]) -> bool:
    """Tell whether a slot is of the images that their names mean now."""
    return all(current.get(name) == known for name, known in slot.provisioned.image_ids.items())
