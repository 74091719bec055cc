# SPDX-License-Identifier: MIT
"""Checks, while waiting for a header, whether its address can be reached from here at all.

An engine publishes ports in its own network namespace. A daemon in another one, in a container for instance,
is refused at an address that works on the engine's host; waiting longer does not help then.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable
from typing import NoReturn, TypeVar

from operatord.engines import base
from operatord.streams.reports import is_listening
from operatord.streams.visit import connect
from operatord_protocol import errors

from .steps import Interrupted, StepFailed, unless

T = TypeVar("T")

SOON = 1.5
"""Seconds until the first look: most stages listen by then, and a hopeless start fails early."""
EVERY = 4.0
"""Seconds between further looks: each is a visit to a stage that may be busy with its start."""
CONNECTS = 1.0
"""Seconds that an address has to take or to refuse a connection."""
LINES = 100
"""Log lines that are searched for a stage's report that it listens, which is among its first."""
_NO_WAY = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)


class PublishedStage(base.Address, frozen=True):
    """Where a stage is published."""

    container_id: str
    stage: str


async def unless_refused(
    engine: base.Engine, place: PublishedStage, timeout: float, work: Awaitable[T]
) -> T:
    """Return the result of ``work``. Raises `StepFailed` once it is certain to fail.

    That is when the address refuses connections though the stage says that it listens, or when ``timeout``
    seconds are nearly over.
    """
    doubt = asyncio.ensure_future(_doubt(engine, place, timeout))
    try:
        return await unless(doubt, work)
    except Interrupted:
        doubt.result()  # raises what it has found out
        raise
    finally:
        doubt.cancel()
        await asyncio.gather(doubt, return_exceptions=True)


async def _doubt(engine: base.Engine, place: PublishedStage, timeout: float) -> NoReturn:
    """Look now and then. Raises `StepFailed`, and never returns."""
    now = asyncio.get_running_loop().time
    last, pause = now() + timeout - 2 * CONNECTS, SOON
    while True:
        await asyncio.sleep(max(min(pause, last - now()), CONNECTS))
        pause = EVERY
        if await _refuses(place) and (now() >= last or await _in_vain(engine, place)):
            raise StepFailed(
                errors.StartFailed,
                "start_failed",
                f"the stage {place.stage!r} runs and is published, but its address {place.host}:{place.port} "
                "refuses connections from the daemon: the two are in different networks, as when one of "
                "them is in a container or on another machine; set `advertise_host` to an address of the "
                "engine's host that the daemon reaches, too",
                place.stage,
            )


async def _in_vain(engine: base.Engine, place: PublishedStage) -> bool:
    """Tell whether the address refuses connections although the stage listens, checked in that order."""
    return await _listens(engine, place.container_id) and await _refuses(place)


async def _refuses(place: PublishedStage) -> bool:
    """Tell whether a connection is refused, and not merely unanswered."""
    try:
        async with asyncio.timeout(CONNECTS):
            (await connect(place.host, place.port)).close()
    except TimeoutError:
        return False
    except OSError as exc:
        return exc.errno in _NO_WAY
    return False


async def _listens(engine: base.Engine, container_id: str) -> bool:
    """Tell whether a stage runs and has said that it listens."""
    with contextlib.suppress(base.EngineError):
        if (await engine.inspect(container_id)).status == "running":
            return any(map(is_listening, await engine.logs(container_id, LINES)))
    return False
