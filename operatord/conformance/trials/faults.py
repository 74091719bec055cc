# SPDX-License-Identifier: MIT
"""Trials in which something is wrong, which a stage is to say with its exit code."""

from __future__ import annotations

from operatord.conformance import pictures
from operatord.conformance.trial import Trial
from operatord.conformance.upstream import Script

from .streams import READ, over

SOON = 6.0
"""Seconds in which a stage ends that cannot go on."""
UNKNOWN_FORMAT = "check-stage-unknown"
"""A format of pictures that no stage knows."""


async def bad_setting(trial: Trial) -> None:
    """A port that is no number."""
    await trial.prepare(Script())
    port = {f"{trial.subject.name}_port": "nonsense"}
    await trial.start(trial.environment(count=pictures.FRAMES) | port)
    await trial.ends(trial.patience)


async def no_upstream(trial: Trial) -> None:
    """Nobody listens where the upstream should be."""
    await trial.prepare(Script(), listens=False)
    await trial.start(trial.environment(count=pictures.FRAMES, connect_timeout=1))
    await trial.ends(trial.patience)


async def nonsense(trial: Trial) -> None:
    """What answers upstream speaks another protocol."""
    said = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nwhat?\n"
    await trial.prepare(Script(nonsense=said))
    await trial.start(trial.environment(count=pictures.FRAMES, connect_timeout=5))
    await trial.ends(trial.patience)


async def unknown_format(trial: Trial) -> None:
    """The upstream's pictures are of a format that nobody knows."""
    await trial.prepare(Script(format=UNKNOWN_FORMAT))
    await trial.start(trial.environment(count=pictures.FRAMES, connect_timeout=5))
    consumer = await trial.meet_reader("consumer", trial.consume)
    if consumer.hello_after:
        await consumer.take(SOON, over)
    consumer.leave()
    await trial.ends(SOON if consumer.hello_after else trial.patience)


async def broken_upstream(trial: Trial) -> None:
    """The upstream breaks off in the middle of a frame."""
    few = 6
    await trial.prepare(Script(frames=few, cut=True))
    await trial.start(trial.environment(count=pictures.FRAMES))
    consumer = await trial.meet_reader("consumer", trial.consume)
    await consumer.take(READ / 2, over)
    consumer.leave()
    await trial.ends(SOON)
