# SPDX-License-Identifier: MIT
"""Trials that tell what kind of stage an image is."""

from __future__ import annotations

import asyncio

from operatord.conformance import pictures
from operatord.conformance.consumer import CHECK
from operatord.conformance.trial import Trial
from operatord.conformance.upstream import Script


async def connects_upstream(trial: Trial) -> bool:
    """Tell whether it connects to a stage before it."""
    await trial.prepare(Script())
    await trial.start(trial.environment(count=pictures.FRAMES))
    connecting = asyncio.create_task(trial.fed.connected.wait())
    ending = asyncio.create_task(trial.stage.ends(trial.patience))
    await asyncio.wait([connecting, ending], return_when=asyncio.FIRST_COMPLETED)
    for task in (connecting, ending):
        task.cancel()
    await asyncio.gather(connecting, ending, return_exceptions=True)
    return trial.fed.connected.is_set()


async def says_hello(trial: Trial) -> bool:
    """Tell whether it says a hello without a stage before it."""
    await trial.start(trial.environment(count=pictures.FRAMES))
    return bool((await trial.meet("check", CHECK)).hello)
