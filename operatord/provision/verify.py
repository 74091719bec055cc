# SPDX-License-Identifier: MIT
"""Proof that a session delivers: a stream header read at the end of its chain."""

from __future__ import annotations

import asyncio

from operatord.engines import base
from operatord.session.record import SessionRecord
from operatord.streams.hello import NoHello, await_hello
from operatord_protocol import errors
from operatord_protocol.hosts import location_url
from operatord_protocol.messages import Location
from operatord_protocol.stream import Forbidden

from .blueprint import StartSettings
from .doubt import PublishedStage, unless_refused
from .steps import StepFailed, unless


async def prove(
    engine: base.Engine, record: SessionRecord, name: str, settings: StartSettings
) -> Location | None:
    """Return where the stage called ``name`` is proven to deliver; None when it has ended.

    Raises `StepFailed` after ``settings.timeout`` seconds at the latest, `Interrupted`, `base.EngineError`.
    """
    timeout = settings.timeout
    try:
        async with asyncio.timeout(timeout):
            return await unless(record.ending, _find_stream(engine, record, name, settings))
    except TimeoutError as exc:
        if (paused := await _paused(engine, record)) is not None:
            reason = (
                f"the stage {paused!r} was paused from outside, and no stream comes through it: leave the "
                "containers of sessions to operatord, and start it again"
            )
            raise StepFailed(errors.StartFailed, "start_failed", reason, paused) from exc
        reason = f"no stream came through the chain to the stage {name!r} within {timeout:g} s"
        raise StepFailed(errors.StartFailed, "start_timeout", reason, name) from exc
    except NoHello as exc:
        is_stream = record.plan.stages[name].serves == "stream"
        spoken = "the stream format" if is_stream else "OpenIGTLink, with a STATUS message first"
        reason = f"the stage {name!r} does not speak {spoken}{_fault(exc)}"
        raise StepFailed(errors.StartFailed, "start_failed", reason, name) from exc


def _fault(exc: NoHello) -> str:
    """Return what is wrong with a hello, where it was one; else nothing."""
    return f": {exc.__cause__}" if isinstance(exc.__cause__, Forbidden) else ""


async def _paused(engine: base.Engine, record: SessionRecord) -> str | None:
    """Return the first stage that somebody has paused, if any. Raises `base.EngineError`."""
    for name in record.stages:
        if (await engine.inspect(record.provisioned.containers[name])).paused:
            return name
    return None


async def _find_stream(
    engine: base.Engine, record: SessionRecord, name: str, settings: StartSettings
) -> Location | None:
    published = record.provisioned.published
    if published is None:
        published = (await engine.inspect(record.provisioned.containers[name])).where_published()
    if published is None:
        if record.phase == "running":
            reason = f"the stage {name!r} ended before there was a stream"
            raise StepFailed(errors.StartFailed, "exit", reason, name)
        # It ended before it could be inspected: its exit, which is about to be reported, says why.
        await asyncio.shield(record.ending)
        return None
    host, port = published.host, published.port
    held = record.provisioned.inputs.get(name)
    serves = record.plan.stages[name].serves
    greeting = await_hello(host, port, None if held is None else held.stirred, serves)
    place = PublishedStage(
        host=host, port=port, container_id=record.provisioned.containers[name], stage=name
    )
    hello, served = await unless_refused(engine, place, settings.timeout, greeting)
    if served:
        reason = (
            f"the stage {name!r} took the daemon's check for a consumer, because this machine was too busy "
            "to send it in time, and frames were lost; start the session again"
        )
        raise StepFailed(errors.StartFailed, "start_failed", reason, name)
    if hello is not None:
        record.fps = hello.fps
        if hello.count is not None and hello.fps > 0:
            record.expected_seconds = hello.count / hello.fps
    host = settings.shown(host)
    url = location_url(host, port, record.plan.format)
    return Location(host=host, port=port, url=url, format=record.plan.format)
