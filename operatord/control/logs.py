# SPDX-License-Identifier: MIT
"""The verb for stages' log lines: once, or followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import structs

from operatord.core.pipelines import PROBE
from operatord.machine.clock import rfc3339
from operatord.session.record import SessionRecord
from operatord_protocol import errors
from operatord_protocol import messages as m
from operatord_protocol.absent import given

from .peer import Call, Services
from .sessions import owned
from .views import ADAPTER_HIDDEN, hides_adapter

LINES_AT_A_TIME = 50
"""Log lines that a follower is sent in one round: at some twenty microseconds each, a millisecond."""


async def logs(call: Call, params: m.SessionLogsParams) -> m.Logs:
    """Return what stages wrote, or with ``follow`` send it, old and new, as notifications.

    Raises `NotFound`, `Forbidden`, `TooManyRequests`, and what `Inspection.logs` raises.
    """
    record = owned(call, params.session_id)
    stages = _chosen_stages(record, params)
    if params.follow and record.phase != "ended":
        call.peer.check_kept()
        return m.Logs(lines=[], subscription=_follow(call, record, stages, params.tail))
    heard = [stage for stage in stages if not _is_hidden(call, record, stage)]
    found = await call.services.inspection.logs(record, heard, params.tail)
    if heard != stages:
        return structs.replace(found, lines=[_in_its_place(record), *found.lines])
    return found


def _is_hidden(call: Call, record: SessionRecord, stage: str) -> bool:
    return stage == PROBE and hides_adapter(record, call.peer.identity)


def _in_its_place(record: SessionRecord) -> m.StageLine:
    """Return the line that stands for all of a hidden adapter's."""
    return m.StageLine(stage=PROBE, time=rfc3339(record.created), line=ADAPTER_HIDDEN)


def _chosen_stages(record: SessionRecord, params: m.SessionLogsParams) -> list[str]:
    stages = list(record.plan.stages)
    if (stage := given(params.stage)) is None:
        return stages
    if stage not in stages:
        raise errors.NotFound(
            f"the session has no stage {stage!r}; it has {', '.join(stages)}",
            session_id=record.id,
        )
    return [stage]


class _Following:
    """A subscription to log lines, which a task sends as they come."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        """End with ``task``."""
        self._task = task

    def pump(self, until: float) -> bool:
        """Leave it to the task."""
        return False

    def end(self) -> None:
        """End the task."""
        self._task.cancel()


def _follow(call: Call, record: SessionRecord, stages: list[str], tail: int) -> int:
    """Begin to follow, and return the subscription. Raises `TooManyRequests`."""
    give_back = _take_followings(call.services, len(stages))
    number = call.services.new_subscription()
    task = call.peer.own(_follow_stages(call, record, stages, tail, number))
    task.add_done_callback(lambda _: give_back())
    call.peer.keep(number, _Following(task))
    return number


def _take_followings(services: Services, number: int) -> Callable[[], None]:
    """Count so many stages as followed, and return a function that undoes this. Raises `TooManyRequests`.

    With containers each takes a thread and two descriptors of the daemon.
    """
    most = services.config.limits.log_followers
    if services.followed + number > most:
        text = f"the logs of {services.followed} stages are followed, and {most} are the most"
        hint = "end some, name one stage, ask without follow, or raise limits.log_followers"
        raise errors.TooManyRequests(f"{text}: {hint}", retry_after=1)
    services.followed += number

    def give_back() -> None:
        services.followed -= number

    return give_back


async def _follow_stages(
    call: Call, record: SessionRecord, stages: list[str], tail: int, number: int
) -> None:
    head = {"subscription": number, "session_id": record.id}
    await record.started_stages()
    try:
        async with asyncio.TaskGroup() as group:
            for stage in (stage for stage in stages if stage in record.provisioned.containers):
                group.create_task(_follow_stage(call, record, stage, tail, head))
        while not call.notify("session.log", {**head, "end": True}):
            await call.peer.drained()
    finally:
        call.peer.drop(number)


async def _follow_stage(
    call: Call, record: SessionRecord, stage: str, tail: int, head: dict[str, Any]
) -> None:
    sent = 0

    async def send(line: m.StageLine) -> None:
        nonlocal sent
        note = {**head, "stage": line.stage, "time": line.time, "line": line.line}
        while not call.notify("session.log", note):
            await call.peer.drained()
        sent += 1
        if sent % LINES_AT_A_TIME == 0:
            await (
                call.services.followers.through()
            )  # all followers together leave others their turns

    if _is_hidden(call, record, stage):
        await send(_in_its_place(record))
    else:
        await call.services.inspection.follow(record, stage, tail, send)
