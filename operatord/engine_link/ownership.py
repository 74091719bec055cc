# SPDX-License-Identifier: MIT
"""Whether this daemon's instance is its own on the engine, or another state directory's with the same name.

The mark is made with the first answer of the engine, and looked at again whenever the engine was away. It
stays as long as the instance has anything there, whether its daemon runs or not: a copy that is started while
the original is stopped would take its sessions just so. It goes with the last of them. A daemon whose mark
has become another's ends at once, and leaves everything as it is.
"""

from __future__ import annotations

import asyncio
import contextlib

from operatord.engines import base

PATIENCE = 2.0
"""Seconds that the end of the daemon waits for an engine to remove the mark. One that stays harms nobody."""


class Ownership:
    """The mark of one instance on one engine."""

    def __init__(self, engine: base.Engine, instance: str, holder: str) -> None:
        """``holder`` is what the state directory is known by."""
        self._engine = engine
        self._instance = instance
        self._holder = holder
        self.problem: str | None = None
        """Why nothing may be done on the engine."""

    def require(self) -> None:
        """Raise `base.NotOurs` if it was found out that the instance is another's."""
        if self.problem is not None:
            raise base.NotOurs(self.problem)

    async def assure(self) -> None:
        """Make sure that the instance is ours. Raises `base.NotOurs`, `base.EngineUnavailable`."""
        self._judge(await self._engine.claim(self._holder))

    async def check(self) -> None:
        """Make sure that the instance is nobody else's, and mark nothing. Raises as `assure` does."""
        self._judge(await self._engine.holder())

    def _judge(self, holder: str | None) -> None:
        self.problem = None
        if holder not in (None, self._holder):
            self.problem = (
                f"the instance {self._instance} belongs to another state directory than this one, which is "
                "a copy, or was moved or put back: make it an instance of its own with `operatord identity "
                "--new`, or, if the other one is gone for good, run `operatord identity --take-over`"
            )
        self.require()

    async def end(self) -> None:
        """Take the mark away if nothing of the instance is left; an engine that does not answer keeps it."""
        with contextlib.suppress(base.EngineError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                if self.problem is None and not await self._engine.list_objects(self._instance):
                    await self._engine.release()
