# SPDX-License-Identifier: MIT
"""A session as the wire has it."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from operatord.machine.clock import Clock, rfc3339
from operatord_protocol.absent import or_unset
from operatord_protocol.messages import ImageUsed, Session

from .record import SessionRecord


def to_session(record: SessionRecord, clock: Clock) -> Session:
    """Return the session as the wire has it now.

    Once it has ended it has no location: the address delivers nothing, or soon another session's stream.
    """
    record.put_right(clock)
    result, ended = record.result, record.phase == "ended"
    shown = result if record.phase in ("stopping", "ended") else None
    codes = {
        name: record.observed.exits[name].exit_code
        for name in record.plan.stages
        if name in record.observed.exits
    }
    return Session(
        session_id=record.id,
        pipeline=record.plan.pipeline,
        phase=record.phase,
        network=record.network_name,
        location=UNSET if ended else record.location or UNSET,
        outcome=shown.outcome if shown and ended else UNSET,
        reason=shown.reason if shown else or_unset(record.place.reason),
        cause=shown.cause if shown else UNSET,
        owner=record.owner,
        created=rfc3339(record.created),
        started=_stamp(record.started),
        ended=_stamp(record.ended),
        expires=_stamp(record.expires) if not ended else UNSET,
        unread_since=_stamp(record.unread_since(clock)),
        position=or_unset(record.place.position),
        registered_probe=or_unset(record.plan.registered),
        timings=record.timings or UNSET,
        estimate=or_unset(record.place.estimate),
        plain_location=UNSET if ended else record.plain_location or UNSET,
        warm=record.warm,
        degraded=bool(record.missing),
        exit_codes=codes or UNSET,
        count=or_unset(record.plan.count),
        frames=or_unset(record.frames),
        stages={
            n: record.provisioned.containers[n]
            for n in record.plan.stages
            if n in record.provisioned.containers
        },
    )


def images_of(record: SessionRecord) -> dict[str, ImageUsed] | UnsetType:
    """Return what the stages that it has are made of; nothing before its start has begun."""
    names, ids = record.plan.stages, record.provisioned.image_ids
    found = {
        stage: ImageUsed(name=names[stage].image, id=ids[names[stage].image])
        for stage in record.stages
        if names[stage].image in ids
    }
    return found or UNSET


def shown_by(record: SessionRecord, clock: Clock) -> tuple[object, ...]:
    """Return all that `to_session` depends on while the session runs: while it is equal, the result is. A
    running session adds members or removes them, but replaces none.
    """
    record.put_right(clock)
    return (
        record.plan,
        record.owner,
        record.expires,
        record.unread_since(clock),
        record.location,
        record.plain_location,
        record.warm,
        record.missing,
        record.attached,
        len(record.observed.reports),
        len(record.timings),
        len(record.provisioned.containers),
        len(record.observed.exits),
    )


def _stamp(wall: float | None) -> str | UnsetType:
    return UNSET if wall is None else rfc3339(wall)
