# SPDX-License-Identifier: MIT
"""The verbs about sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from operatord.access.identity import Identity
from operatord.core.pipelines import PROBE
from operatord.core.plans import Adapted, Upstream
from operatord.lifecycle.supervisor import Supervisor
from operatord.scheduling.expiry import CONNECTION_GONE
from operatord.scheduling.queue_progress import standing_of
from operatord.session.record import Ending, SessionRecord
from operatord.store.journal_file import JournalFailed, not_written
from operatord_protocol import errors
from operatord_protocol import messages as m
from operatord_protocol.absent import given
from operatord_protocol.codec import Request

from .peer import Call, Services
from .views import ADAPTER_HIDDEN, hides_adapter, quiet


async def start(call: Call, params: m.SessionStartParams) -> m.Session:
    """Start a session and answer when its stream is verified, or at once when that is wanted.

    Raises what `Supervisor.submit` raises, and `StartFailed`, `ImageMissing`, `ProbeUnreachable`,
    `EngineUnavailable`, `Cancelled`, after everything has been rolled back.
    """
    supervisor = call.services.supervisor
    upstream = upstream_of(call.services, params)
    owner = owner_of(call.peer.identity, params)
    joined = supervisor.earlier(params, owner) is not None
    if not joined:
        _count(call.services, owner)
    reach = call.services.reach(call.peer.origin, call.peer.entrance)
    record = supervisor.submit(params, owner, upstream, _patience(call, params), reach)
    call.audit("start", session_id=record.id, owner=owner)
    had_ended = record.phase == "ended"
    if params.lease == "connection" and not had_ended:
        _hold(call, record)
    if params.wait == "ready":
        await _until_ready(call, record)
    else:
        with _awaited(call, record):
            await supervisor.written()  # a client that was told of it must find it again
    found = replace(supervisor.view(record), joined=joined or UNSET)
    if params.wait != "ready" or had_ended:
        return found
    # Also if it has ended meanwhile: it is what whoever waited for this has been promised.
    return replace(found, location=record.location or UNSET)


async def _until_ready(call: Call, record: SessionRecord) -> None:
    """Wait for the stream. Raises why it does not come."""
    with _progress(call, record), _awaited(call, record):
        await record.ready()
    if record.location is None or record.given_up:
        raise _failure(record, call.peer.identity)


def _count(services: Services, owner: str) -> None:
    """Count a start. Raises `TooManyRequests`, and nothing is begun."""
    if (most := services.config.limits.starts_per_minute) is not None:
        services.start_rates.take(owner, most, services.clock.now())


def _patience(call: Call, params: m.SessionStartParams) -> float | None:
    """Return how long a request without a deadline waits; None if its requester gets notifications, or does
    not wait on this connection."""
    if _is_told(call.request) or params.wait != "ready":
        return None
    return call.services.config.queue.deadline


def _is_told(request: Request) -> bool:
    """Tell whether a requester gets progress notifications; the other dialects get only one line."""
    return request.dialect == "rpc" and request.id is not None


def _hold(call: Call, record: SessionRecord) -> None:
    """Make a session end with the last of the connections that have asked for it."""
    record.holders += 1

    def let_go() -> None:
        record.holders -= 1
        if record.holders == 0:
            call.services.supervisor.end(record, CONNECTION_GONE)

    # Not once it is to end: without its slot it may go on, and this goes on to hold.
    record.at_end.append(call.peer.on_close(let_go))


@contextlib.contextmanager
def _awaited(call: Call, record: SessionRecord) -> Iterator[None]:
    """Count requests that wait for a start; end the session if the last one is cancelled.

    A requester that went away leaves the queue, if it waited there; a start under way belongs to its lease.
    With a request_key there may be several requests for it: others that wait, or were answered, still want
    it.
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


def _failure(record: SessionRecord, who: Identity) -> errors.WireError:
    result = record.result or record.ending.result()
    if record.for_operators and who.is_operator and result.error is not None:
        return type(result.error)(record.for_operators, **result.error.data)
    if result.error is not None and result.stage == PROBE and hides_adapter(record, who):
        return type(result.error)(
            result.error.message, **result.error.data | {"log": [ADAPTER_HIDDEN]}
        )
    return result.error or errors.Cancelled(
        f"the session ended before its stream was there: {result.reason}", session_id=record.id
    )


@contextlib.contextmanager
def _progress(call: Call, record: SessionRecord) -> Iterator[None]:
    """Send a requester progress notifications, if it gets any."""
    request = call.request
    if not _is_told(request):
        yield
        return

    def tell(fields: dict[str, Any]) -> None:
        call.notify("session.progress", {"id": request.id, **fields})

    record.listeners.append(tell)
    if record.phase != "ended":  # else there is only the answer
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
    """Stop a session and answer when everything of it is gone. One that has ended is returned.

    Raises `NotFound`, `Forbidden`.
    """
    supervisor = call.services.supervisor
    record = owned(call, params.session_id)
    call.audit("stop", session_id=record.id, owner=record.owner)
    reason = "stopped on request"
    supervisor.end(record, Ending("stopped", "client", reason, grace=given(params.grace)))
    await record.wait_for("ended")
    return call.services.views.whole(record, call.peer.identity)


async def wait(call: Call, params: m.SessionWaitParams) -> m.Session:
    """Answer when a session has reached a phase, or can no longer. Raises `DeadlineExceeded`."""
    record = call.services.supervisor.registry.get(params.session_id)
    timeout = given(params.timeout)
    try:
        async with asyncio.timeout(timeout):
            await record.wait_for(params.phase)
    except TimeoutError:
        raise errors.DeadlineExceeded(
            f"the session is {record.phase}, not {params.phase}, after {timeout:g} s",
            session_id=record.id,
            phase=record.phase,
        ) from None
    return call.services.views.whole(record, call.peer.identity)


async def extend(call: Call, params: m.SessionExtendParams) -> m.Session:
    """Make a lease end later.

    Raises `Forbidden`, `Conflict` for a session that has ended or has no such lease, and `NoCapacity` when it
    could not be written down: the lease is longer then, but a restarted daemon would not know.
    """
    supervisor = call.services.supervisor
    record = owned(call, params.session_id)
    if record.ttl is None:
        raise errors.Conflict(
            'this session has no lease to extend; start it with a lease such as {"ttl": 60}',
            session_id=record.id,
        )
    call.audit("extend", session_id=record.id, owner=record.owner, ttl=params.ttl)
    supervisor.extend(record, params.ttl)
    try:
        await supervisor.settled()
    except JournalFailed as exc:
        what = "the lease is extended only as long as this daemon runs"
        raise not_written(exc, what, session_id=record.id) from exc
    return call.services.views.whole(record, call.peer.identity)


async def stats(call: Call, params: m.SessionParams) -> m.Stats:
    """Say what each stage uses now, with the frames that it has reported."""
    record = call.services.supervisor.registry.get(params.session_id)
    if record.phase == "ended":
        raise errors.Conflict(f"the session {record.id} has ended", session_id=record.id)
    told = await call.services.inspection.stats(record)
    is_proven = record.phase == "running"
    return told if is_proven or not hides_adapter(record, call.peer.identity) else quiet(told)


async def all_ended(supervisor: Supervisor, timeout: float) -> None:
    """Return when no session lives any more, or after ``timeout`` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for record in supervisor.registry.living():
                await record.wait_for("ended")


def owner_of(who: Identity, params: m.SessionStartParams) -> str:
    """Return the owner of the session: the caller, or the user that an operator names. Raises `Forbidden`."""
    owner = given(params.owner, who.user)
    if not who.sees(owner):
        hint = f"leave `owner` out, or ask as an operator; you are {who.user}"
        raise errors.Forbidden(f"a session cannot be started for {owner}: {hint}")
    return owner


def owned(call: Call, session_id: str) -> SessionRecord:
    """Return a session that the caller may stop and see all of. Raises `NotFound`, `Forbidden`."""
    record = call.services.supervisor.registry.get(session_id)
    if not call.peer.identity.sees(record.owner):
        hint = "only its owner and operators may do that"
        raise errors.Forbidden(
            f"this session belongs to {record.owner}; {hint}", session_id=session_id
        )
    return record


def upstream_of(services: Services, params: m.SessionStartParams) -> Upstream | Adapted | None:
    """Return the registered probe that is asked for, if one is. Raises `NotFound`, `Conflict`."""
    name = given(params.probe)
    return None if name is None else services.probes.upstream(name)
