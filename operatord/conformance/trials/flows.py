# SPDX-License-Identifier: MIT
"""Trials with consumers that do not read: who waits, what is kept, and what is dropped."""

from __future__ import annotations

import asyncio
import contextlib

from operatord.conformance.consumer import LIVE, NARROW, Consumer
from operatord.conformance.trial import Trial
from operatord.conformance.upstream import Script

from .rest import STILL, comes_to_rest
from .streams import READ, first_frame, over

OFFERED = 640
"""Frames that a paused consumer's stage could take, if it did: 40 MiB."""
PROBED = 256
"""Frames of a probe, which are made for the trial."""
SHORTEST_PAUSE = 2.5
"""Seconds of a pause: in some of them it is held up, and a report comes each second."""
LEFT = 5.0
"""Seconds in which a stage notices that its last consumer has left."""
PASSED = 160
"""Frames for a stage that waits for nobody: 10 MiB."""
LONG = 40.0
"""Seconds for them, of a stage that takes its time over each frame."""
SURELY_STILL = READ / 8
"""Seconds without a byte after which even a slow stage, beside others on a busy machine, has stopped."""


async def paused(trial: Trial) -> None:
    """A lossless consumer that pauses, and then wants everything."""
    # Who has not read fast has small buffers in the kernel, which are not the stage's fault.
    await trial.prepare(Script(count=None, frames=OFFERED), pours=False)
    more = {} if trial.subject.has_upstream else {"count": PROBED, "fps": 0}
    await trial.start(trial.environment(policy="lossless", **more))
    consumer = await trial.meet_reader("consumer", trial.consume, NARROW)
    await consumer.take(READ, lambda now: now.served >= 3 or now.closed)
    await _note_memory(trial, "memory before")
    before = 0 if trial.upstream is None else trial.upstream.taken
    trial.measured["still reading"] = not await comes_to_rest(trial, shortest=SHORTEST_PAUSE)
    trial.measured["held"] = 0 if trial.upstream is None else trial.upstream.taken - before
    await _note_memory(trial, "memory after")
    if trial.upstream is not None:
        trial.upstream.enough = True
    consumer.widen()
    await consumer.take(READ, over)
    consumer.leave()
    await trial.ends()


async def _note_memory(trial: Trial, name: str) -> None:
    if (memory := await trial.stage.memory()) is not None:
        trial.measured[name] = memory


async def live(trial: Trial) -> None:
    """A consumer that does not read, of a stage that is to wait for nobody."""
    await trial.prepare(Script(count=PASSED, frames=PASSED))
    await trial.start(trial.environment(policy="live", count=PASSED))
    consumer = await trial.meet_reader("consumer", trial.consume, NARROW)
    await consumer.take(READ, first_frame)
    rests = await comes_to_rest(
        trial, still=SURELY_STILL, longest=LONG, enough=lambda: trial.fed.ended
    )
    trial.measured["passed"] = trial.fed.ended
    trial.measured["still reading"] = not rests
    consumer.widen()
    await consumer.take(READ, over)


async def live_consumer(trial: Trial) -> None:
    """A consumer that has said that it is live, and does not read, beside one that reads all."""
    await trial.prepare(Script(count=PASSED, frames=PASSED), greets=False)
    await trial.start(trial.environment(policy="lossless", count=PASSED))
    meeting = asyncio.gather(
        trial.meet("live", LIVE, NARROW), trial.meet_reader("reader", trial.consume)
    )
    trial.fed.go.set()
    _, reader = await meeting
    await _read_while_it_moves(reader)


async def _read_while_it_moves(reader: Consumer) -> None:
    """Read to the end, or until nothing has come for a while, but not for ever."""
    before = -1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONG):
            while not reader.closed and reader.bytes != before:
                before = reader.bytes
                await reader.take(SURELY_STILL, lambda now, before=before: now.bytes > before)  # type: ignore[misc]


async def leaving(trial: Trial) -> None:
    """The only consumer leaves when the stage has the whole stream, and it has not."""
    few = 4
    await trial.prepare(Script(count=few, frames=few))
    await trial.start(trial.environment(policy="lossless", count=few))
    consumer = await trial.meet_reader("consumer", trial.consume, NARROW)
    await consumer.take(READ, first_frame)
    await comes_to_rest(trial, shortest=STILL)
    await trial.ends(0)
    consumer.vanish()
    await trial.ends(LEFT)


async def terminated(trial: Trial) -> None:
    """SIGTERM in the middle of a stream that a consumer holds up."""
    await trial.prepare(Script(count=OFFERED, frames=OFFERED))
    await trial.start(trial.environment(policy="lossless", count=OFFERED))
    consumer = await trial.meet_reader("consumer", trial.consume, NARROW)
    await consumer.take(READ, first_frame)
    await comes_to_rest(trial, shortest=STILL)
    await trial.stop(trial.grace)
