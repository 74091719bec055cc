# SPDX-License-Identifier: MIT
"""The verbs about sessions."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from operatord.core.plans import Upstream
from operatord.engines.base import (
    EngineError,
    EngineFailed,
    EngineUnavailable,
    LogLine,
    NoDescriptors,
)
from operatord.runtime.journal_file import JournalFailed
from operatord.runtime.lifetimes import CONNECTION_GONE
from operatord.runtime.record import Ending, SessionRecord
from operatord.runtime.refusals import not_written
from operatord.runtime.reports import newest_report
from operatord.runtime.standing import standing_of
from operatord.runtime.supervisor import Supervisor
from operatord_protocol import errors
from operatord_protocol import messages as m
from operatord_protocol.codec import Request

from .peer import Call, Services

LOGS_BYTES = 256 * 1024
"""Size of the lines that one answer has, in characters and with `LINE_OVERHEAD` for each: it takes some ten
milliseconds at most, in which everybody else waits."""
LINE_OVERHEAD = 100
"""What a line takes beside its text: its stage, its time, and their names."""
LINES_AT_A_TIME = 50
"""Log lines that a follower is sent in one round: at some twenty microseconds each, a millisecond."""
OWNER = "local"
"""Who owns the sessions of a caller that does not say."""


async def start(call: Call, params: m.SessionStartParams) -> m.Session:
    """Start a session and answer when its stream is verified, or at once when that is wanted.

    Raises what `Supervisor.submit` raises, and `StartFailed`, `ImageMissing`, `ProbeUnreachable`,
    `EngineUnavailable`, `Cancelled`, after everything has been rolled back.
    """
    supervisor = call.services.supervisor
    upstream = upstream_of(call.services, params)
    record = supervisor.submit(params, owner_of(params), upstream, _patience(call, params))
    if params.lease == "connection":
        _hold(call, record)
    if params.wait == "ready":
        with _progress(call, record), _awaited(call, record):
            await record.ready()
        if record.location is None or record.given_up:
            raise _failure(record)
    else:
        with _awaited(call, record):
            await supervisor.written()  # whoever was told of it must find it again
    return supervisor.view(record)


def _patience(call: Call, params: m.SessionStartParams) -> float | None:
    """Return how long a request waits that does not say; None for who is told, or does not wait here."""
    if _is_told(call.request) or params.wait != "ready":
        return None
    return call.services.config.queue.deadline


def _is_told(request: Request) -> bool:
    """Tell whether a requester hears how its start gets on; the other dialects get one line only."""
    return request.dialect == "rpc" and request.id is not None


def _hold(call: Call, record: SessionRecord) -> None:
    """Let a session end with the last of the connections that have asked for it."""
    record.holders += 1

    def let_go() -> None:
        record.holders -= 1
        if record.holders == 0:
            call.services.supervisor.end(record, CONNECTION_GONE)

    undo = call.peer.on_close(let_go)
    record.ending.add_done_callback(lambda _: undo())


@contextlib.contextmanager
def _awaited(call: Call, record: SessionRecord) -> Iterator[None]:
    """Count who waits for the answer to a start; undo one that is cancelled before it has come.

    A requester that went away leaves the queue, if it waited there; a start under way belongs to its lease.
    With a request_key several may have asked for it: others that wait, or were told of it, still want it.
    """
    record.waiters += 1
    try:
        yield
    except asyncio.CancelledError:
        left = record.phase == "queued" and record.params.wait == "ready"
        is_wanted = record.waiters > 1 or record.was_answered or record.restored
        if not is_wanted and (call.cancelled or left):
            reason = "cancelled" if call.cancelled else "the requester went away while it waited"
            call.services.supervisor.end(record, Ending("stopped", "client", reason))
        raise
    else:
        record.was_answered = True
    finally:
        record.waiters -= 1


def _failure(record: SessionRecord) -> errors.WireError:
    result = record.result or record.ending.result()
    return result.error or errors.Cancelled(
        f"the session ended before its stream was there: {result.reason}", session_id=record.id
    )


@contextlib.contextmanager
def _progress(call: Call, record: SessionRecord) -> Iterator[None]:
    """Tell a requester how its start gets on, if it is to be told."""
    request, peer = call.request, call.peer
    if not _is_told(request):
        yield
        return

    def tell(fields: dict[str, Any]) -> None:
        peer.notify("rpc", "session.progress", {"id": request.id, **fields})

    record.listeners.append(tell)
    tell({"session_id": record.id, **_standing(call, record)})
    try:
        yield
    finally:
        record.listeners.remove(tell)


def _standing(call: Call, record: SessionRecord) -> dict[str, Any]:
    if record.phase != "queued":
        return {"stage": record.step}
    call.services.supervisor.view(record)
    return standing_of(record)


async def stop(call: Call, params: m.SessionStopParams) -> m.Session:
    """Stop a session and answer when everything of it is gone. One that has ended is returned."""
    supervisor = call.services.supervisor
    record = supervisor.book.get(params.session_id)
    grace = params.grace if isinstance(params.grace, float) else None
    supervisor.end(record, Ending("stopped", "client", "stopped on request", grace=grace))
    await record.reach("ended")
    return call.services.views.whole(record)


async def wait(call: Call, params: m.SessionWaitParams) -> m.Session:
    """Answer when a session has reached a phase, or can no longer. Raises `DeadlineExceeded`."""
    record = call.services.supervisor.book.get(params.session_id)
    timeout = params.timeout if isinstance(params.timeout, float) else None
    try:
        async with asyncio.timeout(timeout):
            await record.reach(params.phase)
    except TimeoutError:
        raise errors.DeadlineExceeded(
            f"the session is {record.phase}, not {params.phase}, after {timeout:g} s",
            session_id=record.id,
            phase=record.phase,
        ) from None
    return call.services.views.whole(record)


async def extend(call: Call, params: m.SessionExtendParams) -> m.Session:
    """Let a lease end later.

    Raises `Conflict` for a session that has ended or has no such lease, and `NoCapacity` when it could not be
    written down: the lease is longer then, but the next daemon would not know.
    """
    supervisor = call.services.supervisor
    record = supervisor.book.get(params.session_id)
    if record.ttl is None:
        raise errors.Conflict(
            'this session has no lease to extend; start it with a lease such as {"ttl": 60}',
            session_id=record.id,
        )
    supervisor.extend(record, params.ttl)
    try:
        await supervisor.settled()
    except JournalFailed as exc:
        what = "the lease is extended only for as long as this daemon lives"
        raise not_written(exc, what, session_id=record.id) from exc
    return call.services.supervisor.view(record)


async def logs(call: Call, params: m.SessionLogsParams) -> m.Logs:
    """Return what stages wrote, or with ``follow`` send it, old and new, as notifications."""
    record = call.services.supervisor.book.get(params.session_id)
    stages = _chosen_stages(record, params)
    if params.follow and record.phase != "ended":
        call.peer.check_kept()
        return m.Logs(lines=[], subscription=_follow(call, record, stages, params.tail))
    found = await asyncio.gather(*(_lines(call, record, s, params.tail) for s in stages))
    return newest_lines(dict(zip(stages, found, strict=True)))


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


def _chosen_stages(record: SessionRecord, params: m.SessionLogsParams) -> list[str]:
    stages = list(record.plan.stages)
    if not isinstance(params.stage, str):
        return stages
    if params.stage not in stages:
        raise errors.NotFound(
            f"the session has no stage {params.stage!r}; it has {', '.join(stages)}",
            session_id=record.id,
        )
    return [params.stage]


async def _lines(call: Call, record: SessionRecord, stage: str, tail: int) -> Sequence[LogLine]:
    found = record.log_tails.get(stage)
    if found is None and stage in record.containers:
        with _engine_errors():
            asked = call.services.engine.logs(record.containers[stage], tail)
            found = await call.services.supervisor.reach.answer(asked)
    return (found or [])[-tail:] if tail else []


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
    """Count so many stages as followed, and return what counts them no more. Raises `TooManyRequests`.

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
    dialect = call.request.dialect
    await record.started_stages()
    try:
        async with asyncio.TaskGroup() as group:
            for stage in (stage for stage in stages if stage in record.containers):
                group.create_task(_follow_stage(call, record, stage, tail, head))
        while not call.peer.notify(dialect, "session.log", {**head, "end": True}):
            await call.peer.room()
    finally:
        call.peer.drop(number)


async def _follow_stage(
    call: Call, record: SessionRecord, stage: str, tail: int, head: dict[str, Any]
) -> None:
    peer, dialect = call.peer, call.request.dialect
    with contextlib.suppress(EngineError):
        lines = call.services.engine.follow_logs(record.containers[stage], tail)
        sent = 0
        async for line in lines:
            note = {**head, "stage": stage, "time": line.time, "line": line.line}
            while not peer.notify(dialect, "session.log", note):
                await peer.room()
            sent += 1
            if sent % LINES_AT_A_TIME == 0:
                await (
                    call.services.followers.through()
                )  # all floods together give others their turns


async def stats(call: Call, params: m.SessionParams) -> m.Stats:
    """Say what each stage uses now, with the frames that it has reported."""
    record = call.services.supervisor.book.get(params.session_id)
    if record.phase == "ended":
        raise errors.Conflict(f"the session {record.id} has ended", session_id=record.id)
    stages = list(record.containers)
    found = await asyncio.gather(*(_stage_stats(call, record, stage) for stage in stages))
    return m.Stats(session_id=record.id, stages=dict(zip(stages, found, strict=True)))


async def _stage_stats(call: Call, record: SessionRecord, stage: str) -> dict[str, Any]:
    engine, container_id = call.services.engine, record.containers[stage]
    with _engine_errors():
        asked = asyncio.gather(
            engine.stats(container_id), engine.logs(container_id, 20), return_exceptions=True
        )
        used, lines = await call.services.supervisor.reach.answer(asked)
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


async def all_ended(supervisor: Supervisor, timeout: float) -> None:
    """Return when no session lives any more, or after ``timeout`` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for record in supervisor.book.living():
                await record.reach("ended")


def owner_of(params: m.SessionStartParams) -> str:
    """Return who is to own the session."""
    return params.owner if isinstance(params.owner, str) else OWNER


def upstream_of(services: Services, params: m.SessionStartParams) -> Upstream | None:
    """Return the registered probe that is asked for, if one is. Raises `NotFound`."""
    return services.probes.upstream(params.probe) if isinstance(params.probe, str) else None
