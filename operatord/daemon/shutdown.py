# SPDX-License-Identifier: MIT
"""The order of a shutdown, each step safe to repeat: stop listening; end the sessions and answer those who
wait for them, or settle what has been begun and leave the others running; end the connections and the
gateway; end the watches; close the engine; close the journal; give up the state directory.
"""

from __future__ import annotations

import asyncio
import logging

from .assembly import Assembly

log = logging.getLogger(__name__)

MARGIN = 30.0
"""Seconds that a start or an end may take besides what the settings allow for the engine or the sessions."""


async def shut_down(parts: Assembly) -> None:
    """Shut down in the order that this file begins with."""
    parts.manager.stopping(parts.config.shutdown_timeout + MARGIN)
    parts.server.stop_listening()
    if parts.gateway is not None:
        parts.gateway.stop_listening()
    if parts.link.ownership.problem is None:
        await _settle(parts)
    else:
        parts.supervisor.transitions.abort()  # what is on the engine is another's
    await parts.server.close()
    if parts.gateway is not None:
        await parts.gateway.close()
    parts.reloading.close()
    await parts.probes.close()
    await parts.keeper.close()
    await parts.doors.shut()
    await parts.link.close()
    await parts.engine.close()
    parts.learned.write()
    parts.events.close()
    await parts.journal.close()
    parts.state.close()
    parts.manager.close()
    log.info("stopped")


async def _settle(parts: Assembly) -> None:
    try:
        async with asyncio.timeout(parts.config.shutdown_timeout):
            if _keeps(parts):
                await parts.supervisor.shutdown.leave()
            else:
                await parts.supervisor.shutdown.close(min(parts.config.stop_grace, 1.0))
    except TimeoutError:
        left = [
            r.id for r in parts.supervisor.registry.living() if r.phase in ("starting", "stopping")
        ]
        log.error("not settled in time, left to the next start: %s", ", ".join(left))
        parts.supervisor.transitions.abort()


def _keeps(parts: Assembly) -> bool:
    """Whether sessions go on without the daemon."""
    return parts.config.on_shutdown == "keep" and parts.engine.capabilities.adopts
