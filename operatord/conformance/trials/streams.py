# SPDX-License-Identifier: MIT
"""Trials of a stream from its hello to its end, of which every consumer is to get all."""

from __future__ import annotations

import asyncio

from operatord.conformance import pictures
from operatord.conformance.consumer import CHECK, SILENT, WATCH, Consumer
from operatord.conformance.trial import EXIT, Trial
from operatord.conformance.upstream import Script
from operatord.engines import base

from .rest import comes_to_rest

QUIET = 0.4
"""Seconds in which something that must not come would have come: a silent guest has 0.2 s."""
PACE = QUIET / 2 / pictures.FRAMES
"""Seconds between frames: a line that is a little late costs some of them, and not all."""
READ = 20.0
"""Seconds for reading a short stream, of a stage that takes its time."""
PAUSE = 0.5
WAITS = 1.0
"""Seconds in which a stage that does not wait for its line would have connected somewhere."""
SECOND = 5.0
"""Seconds for a connection that is not the first one."""


def first_frame(consumer: Consumer) -> bool:
    return consumer.served > 0


def over(consumer: Consumer) -> bool:
    """Read on until the stage closes, which is what comes last."""
    return consumer.closed


async def plain(trial: Trial) -> None:
    """A check, a spectator, a silent consumer: a stream as a client without a word sees it."""
    await trial.prepare(Script(pace=PACE))
    await trial.start(trial.environment(count=pictures.FRAMES))
    check = await trial.meet("check", CHECK)
    if not check.seen().is_greeted:
        await trial.ends(0)
        return
    await asyncio.gather(check.take(QUIET, over), comes_to_rest(trial, still=QUIET))
    check.leave()
    readers, spectators = [], []
    if check.hello.get("watch") is True:
        watcher = await trial.meet("spectator", WATCH, seconds=SECOND)
        await watcher.take(QUIET, first_frame)
        trial.measured["watched before a consumer"] = watcher.served
        spectators.append(watcher)
        readers.append(watcher.take(READ, over))
    if trial.upstream is not None:
        trial.measured["taken before a consumer"] = trial.upstream.taken
    silent = await trial.meet_reader("silent", SILENT, seconds=SECOND)
    await asyncio.gather(silent.take(READ, over), *readers)
    for consumer in (silent, *spectators):
        consumer.leave()
    await trial.ends()


async def checked(trial: Trial) -> None:
    """Two consumers that come before the daemon's check, and before the upstream says anything."""
    await trial.prepare(Script(pace=PACE), greets=False)
    await trial.start(trial.environment(count=pictures.FRAMES, checked=True, policy="lossless"))
    first, second = await _meet_before_hello(trial)
    if first.hello_after and trial.upstream is not None and trial.upstream.greeted_at is not None:
        trial.measured["hello after the upstream's"] = first.greeted_at - trial.upstream.greeted_at
    await first.take(QUIET, first_frame)
    trial.measured["frames before the check"] = first.served
    check = await trial.meet_reader("check", CHECK, seconds=SECOND)
    await asyncio.gather(check.take(QUIET, over), first.take(READ, over), _read_slowly(second))
    for consumer in (first, second, check):
        consumer.leave()
    await trial.ends()


async def _meet_before_hello(trial: Trial) -> tuple[Consumer, Consumer]:
    """Return two consumers that have come before the upstream's hello."""
    meeting = asyncio.gather(
        trial.meet("first", trial.consume), trial.meet("second", trial.consume)
    )
    try:
        if trial.upstream is not None:
            await _let_greet(trial)
        first, second = await meeting
    finally:
        meeting.cancel()
        await asyncio.gather(meeting, return_exceptions=True)
    return first, second


async def _let_greet(trial: Trial) -> None:
    """Have the upstream say its hello a moment after the stage has connected to it."""
    try:
        async with asyncio.timeout(trial.patience):
            await trial.fed.connected.wait()
    except TimeoutError:
        return
    await asyncio.sleep(QUIET)
    early = (trial.consumer_bytes("first"), trial.consumer_bytes("second"))
    trial.measured["bytes before the upstream's hello"] = sum(early)
    trial.fed.go.set()


async def _read_slowly(consumer: Consumer) -> None:
    """Pause in the middle of a stream."""
    await consumer.take(READ, lambda now: now.served >= 3 or now.closed)
    await asyncio.sleep(PAUSE)
    await consumer.take(READ, over)


async def late_upstream(trial: Trial) -> None:
    """An upstream whose port is refused first, and then closed twice without a word."""
    await trial.prepare(Script(closes=2), listens=False)
    await trial.start(trial.environment(count=pictures.FRAMES))
    await asyncio.sleep(PAUSE)
    await trial.fed.listen()
    consumer = await trial.meet_reader("consumer", trial.consume)
    await consumer.take(READ, over)


async def late_bound(trial: Trial) -> None:
    """The environment comes in a line, and overrides one that leads nowhere."""
    await _bind_late(trial, shim=False)


async def shim(trial: Trial) -> None:
    """The environment comes to a shell, which becomes the image's command then."""
    await _bind_late(trial, shim=True)


async def _bind_late(trial: Trial, *, shim: bool) -> None:
    await trial.prepare(Script())
    env = trial.environment(count=pictures.FRAMES)
    await trial.start({} if shim else await trial.stale(env), stdin=True, shim=shim)
    try:
        held = await trial.stage.input()
    except base.NotThere:  # it has ended at once
        await trial.ends(0)
        return
    try:
        await asyncio.sleep(0.0 if shim else WAITS)
        trial.measured["connections before the line"] = trial.decoy_connections()
        trial.bind(held, env, shim=shim)
        consumer = await trial.meet_reader(
            "consumer", trial.consume, seconds=min(trial.patience, 8.0)
        )
        await consumer.take(READ, over)
        consumer.leave()
        await trial.ends(EXIT if consumer.hello_after else 0)
    finally:
        held.close()


async def unneeded(trial: Trial) -> None:
    """A stage that waits for its line, and whose input ends instead."""
    await trial.prepare(Script())
    await trial.start(trial.environment(count=pictures.FRAMES, OPERATORD_LATE_BIND=1))
    await trial.ends(trial.patience)
