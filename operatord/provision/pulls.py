# SPDX-License-Identifier: MIT
"""Pulls of images that stages allow: one for all who wait for the same image, given up when nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from operatord.engines import base

log = logging.getLogger(__name__)

FIRST_WORD = 30.0
"""Seconds that a registry may be silent at first: an engine needs as long to give up a dead address …"""
STALL = 60.0
"""… and between two words, while the engine unpacks, or the link pauses."""
LONGEST = 3600.0
"""Seconds for a whole pull: 10 GB at 25 Mbit/s."""
TOLD_EVERY = 1.0
"""Seconds between two sentences to those who wait."""
_MIB = 1024**2

Tell = Callable[[str], None]


class Wanted(NamedTuple):
    """What is pulled."""

    image: str
    platform: str | None = None


class Pulls:
    """The pulls that are under way on one engine."""

    def __init__(self, engine: base.Engine) -> None:
        """Nothing is pulled yet."""
        self._engine = engine
        self._under_way: dict[Wanted, _Pull] = {}

    async def pull(self, wanted: Wanted, tell: Tell) -> None:
        """Return when the image has been pulled; ``tell`` gets sentences on the way.

        Cancelled, it ends the pull if nobody else waits for it. Raises `base.PullFailed`, `base.EngineError`.
        """
        pull = self._under_way.get(wanted)
        if pull is None:
            pull = self._under_way[wanted] = _Pull(self._engine, wanted)
        pull.listeners.append(tell)
        tell(pull.said)
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(tell)
            if pull.task.done() or not pull.listeners:
                pull.task.cancel()
                if self._under_way.get(wanted) is pull:
                    del self._under_way[wanted]


class _Pull:
    def __init__(self, engine: base.Engine, wanted: Wanted) -> None:
        self._engine = engine
        self._wanted = wanted
        self.said = f"pulling {wanted.image}"
        self.listeners: list[Tell] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        image = self._wanted.image
        log.info("pulling %s", image)
        try:
            async with asyncio.timeout(LONGEST):
                await self._follow()
        except TimeoutError:
            raise base.PullFailed(
                image, f"{image} has not been pulled within an hour: load it by hand"
            ) from None
        log.info("%s has been pulled", image)

    async def _follow(self) -> None:
        patience, told_at = FIRST_WORD, 0.0
        now = asyncio.get_running_loop().time
        async with contextlib.aclosing(self._engine.pull(*self._wanted)) as words:
            while (word := await self._next(words, patience)) is not None:
                patience = STALL
                if word.total and now() - told_at >= TOLD_EVERY:
                    told_at = now()
                    self._tell(word)

    async def _next(self, words: base.PullWords, patience: float) -> base.Pulled | None:
        try:
            async with asyncio.timeout(patience):
                return await anext(words, None)
        except TimeoutError:
            image = self._wanted.image
            raise base.PullFailed(
                image,
                f"the registry of {image} has said nothing for {patience:.0f} s: see whether it is reached "
                "from the engine's machine, or load the image by hand",
            ) from None

    def _tell(self, word: base.Pulled) -> None:
        done, total = word.done / _MIB, word.total / _MIB
        self.said = f"pulling {self._wanted.image}: {done:.1f} of {total:.1f} MiB"
        for listener in tuple(self.listeners):
            listener(self.said)
