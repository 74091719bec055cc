# SPDX-License-Identifier: MIT
"""The last words of a session's stages: exit codes, reports and log lines, read before removal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from operatord.engines.base import Engine, EngineError, LogLine, StageState

from .record import SessionRecord

KEPT_LINES = 100
"""Log lines of each stage that stay readable after the session has ended."""


async def collect(engine: Engine, record: SessionRecord, grace: float) -> None:
    """Stop what still runs, giving it ``grace`` seconds, and note how each stage ended.

    An engine that does not answer costs the facts, never the removal that follows.
    """
    await asyncio.gather(
        *(_collect_stage(engine, record, stage, grace) for stage in record.containers),
        return_exceptions=True,
    )


async def _collect_stage(engine: Engine, record: SessionRecord, stage: str, grace: float) -> None:
    container_id = record.containers[stage]
    with contextlib.suppress(EngineError):
        if stage not in record.exits:
            record.exits[stage] = await _stopped(engine, container_id, grace)
        lines = await engine.logs(container_id, KEPT_LINES)
        record.log_tails[stage] = lines
        if (report := last_report(lines)) is not None:
            record.reports[stage] = report


async def _stopped(engine: Engine, container_id: str, grace: float) -> StageState:
    state = await engine.inspect(container_id)
    if state.status == "running":
        await engine.stop(container_id, grace)
        state = await engine.inspect(container_id)
    return state


def last_report(lines: list[LogLine]) -> dict[str, Any] | None:
    """Return the newest report among ``lines``: a JSON object of type ``report`` on standard output."""
    for line in reversed(lines):
        if line.stream == "stdout" and line.line.startswith('{"type":"report"'):
            with contextlib.suppress(ValueError):
                report = json.loads(line.line)
                return report if isinstance(report, dict) else None
    return None
