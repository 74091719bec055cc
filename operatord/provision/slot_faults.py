# SPDX-License-Identifier: MIT
"""Detects that a claimed slot is broken, so that its session is started without it. A stage of a slot can
have died, hang, or be off its network, and nothing shows it before the slot is used. So a claim that does not
deliver in time is checked: after `LATE` seconds, whether its location is still there; and once it takes
several times as long as others did, whether each stage has written anything since it got its settings. A
stage that has is working, however slow the machine. One that has not counts as hanging; if it is merely slow
or silent, the start without the slot costs some time, but succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Literal

from operatord.engines import base
from operatord.session.record import SessionRecord
from operatord_protocol import errors

from .steps import StepFailed

LATE = 1.0
"""Seconds after which a claimed slot that does not deliver is checked: most deliver within a hundredth of a
second."""
SILENT = 2.0
"""Least seconds that a stage of a slot has to write something: most do within a hundredth of one …"""
TIMES = 3.0
"""… and so many times as long as it took until the stream was there, the last times."""
NO_UPSTREAM = 3
"""Exit code of a stage that waited in vain for the one before it, which may hang."""
BY_WHAT_IT_WAS_TOLD = (2, 4, 5)
"""Exit codes of a stage that could not carry out its settings (PROTOCOL.md, section 7). Any other code means
that the stage broke, or that somebody ended it."""
SHORT = -1
"""Stands for the exit code of a stage that ran out of memory."""

Fault = Literal["died", "hangs", "disconnected"]


class SlotBroken(StepFailed):
    """A claim fails because of a ``fault`` of the slot."""

    def __init__(self, fault: Fault, reason: str) -> None:
        self.fault = fault
        super().__init__(errors.StartFailed, "start_failed", reason)


class SlotFaults:
    """Looks after slots that have just been claimed, and knows how long stages take to deliver."""

    def __init__(self, engine: base.Engine) -> None:
        self._engine = engine
        self._took: dict[str, float] = {}
        """By pipeline, seconds from what the stages were told to the stream."""

    def note(self, record: SessionRecord) -> None:
        """Learn how long the stages of a session took; what was long ago counts less each time."""
        pipeline, took = record.plan.pipeline, record.timings["verify"] / 1000
        self._took[pipeline] = max(took, self._took.get(pipeline, 0.0) / 2)

    def patience(self, pipeline: str) -> float:
        """Return for how many seconds the stages of a slot may be silent."""
        return max(SILENT, TIMES * self._took.get(pipeline, 0.0))

    async def watch(self, record: SessionRecord, verify: Coroutine[Any, Any, None]) -> None:
        """Await ``verify``, the proof that a claimed slot delivers.

        Raises what that does, or `SlotBroken` once the slot is found broken.
        """
        verifying = asyncio.create_task(verify)
        try:
            patience = self.patience(record.plan.pipeline)
            for seconds in (LATE, patience - LATE):
                await asyncio.wait((verifying,), timeout=seconds)
                if not verifying.done() and not await self._may_be_published(record):
                    reason = "the slot was disconnected from its network from outside"
                    raise SlotBroken("disconnected", reason)
            # The engine has just answered, so it has had the chance to pass on output of stages.
            if not verifying.done() and (silent := _silent(record)):
                reason = (
                    f"its stage {silent[0]!r} printed nothing for {patience:.1f} s after its line"
                )
                raise SlotBroken("hangs", reason)
            await verifying
        finally:
            verifying.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await verifying

    async def fault(self, record: SessionRecord, failed: Exception) -> Fault | None:
        """Return the slot's fault for which a claim ``failed``; None if the request or the engine is to
        blame.
        """
        if isinstance(failed, SlotBroken):
            return failed.fault
        if record.step == "bind" and isinstance(failed, StepFailed) and failed.stage is not None:
            return "died"  # a stage can no longer receive its settings
        if record.step == "probe":
            return None
        with contextlib.suppress(base.EngineError):
            if found := await self._fault_of_stages(record):
                return found
        return None if await self._may_be_published(record) else "disconnected"

    async def _fault_of_stages(self, record: SessionRecord) -> Fault | None:
        """Look at all stages. Raises `base.EngineError`."""
        silent, hangs, codes = _silent(record), False, set[int | None]()
        for name, container_id in record.provisioned.containers.items():
            state = await self._engine.inspect(container_id)
            if state.status in ("exited", "gone"):
                is_short = state.oom_killed or name in record.observed.oom
                codes.add(SHORT if is_short else state.exit_code)
            elif name in silent:
                hangs = True
        if codes - {SHORT, NO_UPSTREAM, *BY_WHAT_IT_WAS_TOLD}:
            return "died"
        return "hangs" if hangs and codes <= {NO_UPSTREAM} else None

    async def is_published(self, slot: SessionRecord) -> bool:
        """Tell whether a slot that runs is published where it was when made. Raises `base.EngineError`."""
        expected = slot.provisioned.published
        if expected is None:
            return True  # a network alone, or claimed already
        state = await self._engine.inspect(slot.provisioned.containers[slot.stages[-1]])
        return state.status != "running" or state.published == expected

    async def _may_be_published(self, record: SessionRecord) -> bool:
        try:
            return await self.is_published(record)
        except base.EngineError:  # the verification finds out what that means
            return True


def _silent(record: SessionRecord) -> list[str]:
    """Return the stages that have said nothing since they were told what to do."""
    return [
        name for name, told in record.provisioned.told.items() if told.held.spoken == told.spoken
    ]
