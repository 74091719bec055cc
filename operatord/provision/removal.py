# SPDX-License-Identifier: MIT
"""Removing for good: an engine that refuses, or is away, is asked again until nothing is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from operatord.engines import base
from operatord.session.record import SessionRecord

log = logging.getLogger(__name__)

FIRST_RETRY = 0.2
"""Seconds until the second attempt; from one to the next twice as many."""
LONGEST_RETRY = 5.0


async def persist(record: SessionRecord, remove: Callable[[], Awaitable[None]]) -> None:
    """Call ``remove``, which removes something of ``record``, until it raises nothing."""
    pause = FIRST_RETRY
    while True:
        try:
            await remove()
            return
        except base.EngineError as exc:
            log.warning("session %s: removal will be tried again: %s", record.id, base.in_full(exc))
        except Exception:  # a defect: left alone, the session would never end
            log.exception("session %s: removal broke and will be tried again", record.id)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_RETRY)
