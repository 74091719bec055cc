# SPDX-License-Identifier: MIT
"""Whether this daemon's instance is its own on the engine, or another state directory's with the same name.

The mark is made at the engine's first answer, and checked again whenever the engine was away. It stays as
long as the instance has any object there, even while its daemon is stopped: otherwise a copy started
meanwhile would take over its sessions. It is removed with the last object. A daemon that finds another's mark
exits at once, and leaves everything as it is.
"""

from __future__ import annotations

import asyncio
import contextlib

from operatord.engines import base

PATIENCE = 2.0
"""Seconds that a shutdown waits for the engine to remove the mark. A mark that stays does no harm."""


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
        """Remove the mark if no object of the instance is left; if the engine does not answer, the mark
        stays."""
        with contextlib.suppress(base.EngineError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                if self.problem is None and not await self._engine.list_objects(self._instance):
                    await self._engine.release()
