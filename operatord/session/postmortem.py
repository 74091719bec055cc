# SPDX-License-Identifier: MIT
"""The last words of a session's stages: exit codes, reports and log lines, read before removal.

And what is made of them for a person who asks, long after, why the session ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import accumulate

from operatord.core.resources import MILLI
from operatord.engines.base import Engine, EngineError, LogLine, StageState
from operatord.machine.clock import rfc3339
from operatord.streams.reports import is_for_people, newest_report, report_in
from operatord_protocol.absent import or_unset
from operatord_protocol.messages import PHASES, Peak, PostMortem, Ttl

from .advice import Case, advise
from .record import SessionRecord

KEPT_LINES = 100
"""Log lines of each stage that stay readable after the session has ended …"""
KEPT_SIZE = 64 * 1024
"""… as long as they have no more characters than that. The last one stays in any case."""
SHOWN_LINES = 10
"""How many of them, without its reports, are shown with the session …"""
SHOWN_AT_FAULT = 20
"""… and how many of the stage at fault."""


async def collect(engine: Engine, record: SessionRecord, grace: float) -> None:
    """Stop what still runs, giving it ``grace`` seconds, and note how each stage ended.

    If the engine does not answer, the facts are lost, but the removal goes on.
    """
    await asyncio.gather(
        *(_collect_stage(engine, record, stage, grace) for stage in record.provisioned.containers),
        return_exceptions=True,
    )


async def _collect_stage(engine: Engine, record: SessionRecord, stage: str, grace: float) -> None:
    container_id = record.provisioned.containers[stage]
    with contextlib.suppress(EngineError):
        if stage not in record.observed.exits:
            record.observed.exits[stage] = await _stopped(engine, container_id, grace)
        lines = _kept(await engine.logs(container_id, KEPT_LINES))
        record.observed.log_tails[stage] = lines
        if (report := newest_report(lines)) is not None:
            record.observed.reports[stage] = report


def _kept(lines: Sequence[LogLine]) -> list[LogLine]:
    sizes = accumulate(len(line.line) + 1 for line in reversed(lines))
    count = sum(1 for size in sizes if size <= KEPT_SIZE)
    return list(lines)[-max(count, 1) :]


async def _stopped(engine: Engine, container_id: str, grace: float) -> StageState:
    state = await engine.inspect(container_id)
    if state.status == "running":
        await engine.stop(container_id, grace)
        state = await engine.inspect(container_id)
    return state


def post_mortem(record: SessionRecord) -> PostMortem:
    """Return what there is to know about a session that has ended."""
    assert record.result is not None
    stage = record.result.stage if record.result.outcome == "failed" else None
    advice = advise(_case(record, stage))
    return PostMortem(
        phases={phase: rfc3339(record.phases[phase]) for phase in PHASES if phase in record.phases},
        stage=or_unset(stage),
        advice=or_unset(advice),
        usage={
            name: Peak(cpus=use.peak.cpus / MILLI, memory=use.peak.memory)
            for name in record.plan.stages
            if (use := record.observed.usage.get(name)) is not None
        },
        log=_shown_logs(record, stage),
    )


def _case(record: SessionRecord, stage: str | None) -> Case:
    plan = record.plan
    assert record.result is not None
    return Case(
        cause=record.result.cause,
        pipeline=plan.pipeline,
        stage=stage,
        code=record.observed.exits[stage].exit_code if stage in record.observed.exits else None,
        by_others=record.provisioned.containers.get(stage or "") in record.observed.by_others,
        memory_limit=int(plan.stages[stage].most_memory) if stage in plan.stages else 0,
        probe=plan.registered,
        scheme=None if plan.source is None else plan.source.scheme,
        reads_probe=plan.upstream is not None and stage == next(iter(plan.stages)),
        ran=record.started is not None,
        leased_by="ttl" if isinstance(record.params.lease, Ttl) else "connection",
    )


def _shown_logs(record: SessionRecord, at_fault: str | None) -> dict[str, list[str]]:
    """Return the last lines of each stage, the one at fault first; of its reports, only the last."""
    shown: dict[str, list[str]] = {}
    for name in sorted(record.plan.stages, key=lambda name: name != at_fault):
        count = SHOWN_AT_FAULT if name == at_fault else SHOWN_LINES
        if lines := _words_and_last_report(record.observed.log_tails.get(name, ()))[-count:]:
            shown[name] = lines
    return shown


def _words_and_last_report(lines: Sequence[LogLine]) -> list[str]:
    """Return what a stage wrote. Its reports come once a second and would hide its own words."""
    reports = [place for place, line in enumerate(lines) if report_in(line) is not None]
    last = reports[-1] if reports else None
    return [line.line for place, line in enumerate(lines) if place == last or is_for_people(line)]
