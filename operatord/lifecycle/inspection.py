# SPDX-License-Identifier: MIT
"""Answers questions about the stages of sessions: what they wrote, and what they use now."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from operatord.engine_link.availability import EngineAvailability
from operatord.engines.base import (
    Engine,
    EngineError,
    EngineFailed,
    EngineUnavailable,
    LogLine,
    NoDescriptors,
)
from operatord.session.record import SessionRecord
from operatord.streams.reports import newest_report
from operatord_protocol import errors
from operatord_protocol import messages as m

LOGS_BYTES = 256 * 1024
"""Size of the lines that one answer has, in characters and with `LINE_OVERHEAD` for each: encoding it takes
some ten milliseconds at most, in which nobody else is served."""
LINE_OVERHEAD = 100
"""What a line takes beside its text: its stage, its time, and their names, in characters."""
REPORT_LINES = 20
"""Log lines among which the newest report of a stage is looked for."""


class Inspection:
    """Asks the engine about containers of sessions, as long as it answers."""

    def __init__(self, engine: Engine, availability: EngineAvailability) -> None:
        """``availability`` knows whether the engine answers."""
        self._engine = engine
        self._availability = availability

    async def logs(self, record: SessionRecord, stages: Sequence[str], tail: int) -> m.Logs:
        """Return the last ``tail`` lines of each stage, in the order of their times.

        Raises `EngineUnavailable`, `Conflict` if a stage goes meanwhile.
        """
        found = await asyncio.gather(*(self._lines(record, stage, tail) for stage in stages))
        return newest_lines(dict(zip(stages, found, strict=True)))

    async def _lines(self, record: SessionRecord, stage: str, tail: int) -> Sequence[LogLine]:
        found = record.observed.log_tails.get(stage)
        if found is None and stage in record.provisioned.containers:
            with _engine_errors():
                asked = self._engine.logs(record.provisioned.containers[stage], tail)
                found = await self._availability.answer(asked)
        return (found or [])[-tail:] if tail else []

    async def follow(
        self,
        record: SessionRecord,
        stage: str,
        tail: int,
        send: Callable[[m.StageLine], Awaitable[None]],
    ) -> None:
        """Send the last ``tail`` lines of a stage and all later ones, until it ends or the engine is lost."""
        with contextlib.suppress(EngineError):
            async for line in self._engine.follow_logs(record.provisioned.containers[stage], tail):
                await send(m.StageLine(stage=stage, time=line.time, line=line.line))

    async def stats(self, record: SessionRecord) -> m.Stats:
        """Return what each stage uses now, with the frames that it has reported.

        Raises `EngineUnavailable`, `Conflict` if a stage goes meanwhile.
        """
        stages = list(record.provisioned.containers)
        found = await asyncio.gather(
            *(self._used(record.provisioned.containers[stage]) for stage in stages)
        )
        return m.Stats(session_id=record.id, stages=dict(zip(stages, found, strict=True)))

    async def _used(self, container_id: str) -> dict[str, Any]:
        engine = self._engine
        with _engine_errors():
            asked = asyncio.gather(
                engine.stats(container_id),
                engine.logs(container_id, REPORT_LINES),
                return_exceptions=True,
            )
            used, lines = await self._availability.answer(asked)
            if isinstance(used, EngineUnavailable):
                raise used
        found: dict[str, Any] = {} if isinstance(used, BaseException) else msgspec.to_builtins(used)
        report = None if isinstance(lines, BaseException) else newest_report(lines)
        reported = {} if report is None else report.figures()
        return {key: value for key, value in found.items() if value is not None} | reported


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except EngineUnavailable as exc:
        is_told = isinstance(exc, (EngineFailed, NoDescriptors))
        happened = str(exc) if is_told else "the container engine does not answer"
        raise errors.EngineUnavailable(happened, retry_after=1) from exc
    except EngineError as exc:
        raise errors.Conflict("the stage is gone") from exc


def newest_lines(found: Mapping[str, Sequence[LogLine]]) -> m.Logs:
    """Return the lines of all stages, oldest first, and of more than `LOGS_BYTES` only the newest."""
    backwards = (_backwards(stage, lines) for stage, lines in found.items())
    lines, size = list[m.StageLine](), 0
    for line in heapq.merge(*backwards, key=lambda line: line.time, reverse=True):
        size += len(line.line) + LINE_OVERHEAD
        if size > LOGS_BYTES:
            return m.Logs(lines=lines[::-1], truncated=True)
        lines.append(line)
    return m.Logs(lines=lines[::-1])


def _backwards(stage: str, lines: Sequence[LogLine]) -> Iterator[m.StageLine]:
    return (m.StageLine(stage=stage, time=line.time, line=line.line) for line in reversed(lines))
