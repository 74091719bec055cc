# SPDX-License-Identifier: MIT
"""Trials of what a stage passes on, of how players are served, and of attaching."""

from __future__ import annotations

import asyncio

from operatord.conformance import pictures
from operatord.conformance.consumer import SILENT
from operatord.conformance.trial import Trial
from operatord.conformance.upstream import Script

from .streams import QUIET, READ, over

FEW = 8
"""Frames."""


async def passing(trial: Trial) -> None:
    """A hello with more members than a stage must know, and frames with one more part."""
    await trial.prepare(Script(count=FEW, frames=FEW, extra=True))
    await trial.start(trial.environment(count=FEW))
    consumer = await trial.meet("consumer", trial.consume)
    await consumer.take(READ, over)


async def played(trial: Trial) -> None:
    """A player, which only reads."""
    await trial.prepare(Script(count=FEW, frames=FEW))
    await trial.start(trial.environment(count=FEW, format="y4m"))
    player = await trial.meet("player", SILENT)
    await player.take(READ, over)


async def attached(trial: Trial) -> None:
    """A stage that joins a stream that others read, and has no consumer at first."""
    await trial.prepare(Script(), pours=False)
    await trial.start(trial.environment(count=pictures.FRAMES, attached=True, policy="live"))
    try:
        async with asyncio.timeout(trial.patience):
            await trial.fed.connected.wait()
    except TimeoutError:
        return
    await asyncio.sleep(QUIET)
    trial.measured["attached"] = ATTACH in trial.fed.seen().heard
    consumer = await trial.meet_reader("consumer", trial.consume)
    await consumer.take(READ, over)


ATTACH = '{"type":"attach"}'
