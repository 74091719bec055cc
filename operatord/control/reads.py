# SPDX-License-Identifier: MIT
"""The read-only verbs: the same peer gets the same answer in the same moment. So equal requests in one turn
are computed once. Each takes the daemon's parts, who asks, and typed params, and returns a typed result, or
one in JSON where that is at hand; or it raises a `WireError`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Raw

from operatord.access.identity import Identity
from operatord.core.pipelines import Stage
from operatord.core.resources import MILLI
from operatord.core.scheduling.learning import Lesson
from operatord.core.scheduling.scheduler import Preview, Refuse, Start
from operatord.lifecycle.refusals import explanation, refusal
from operatord.lifecycle.supervisor import Supervisor
from operatord.machine.clock import Clock, rfc3339
from operatord.session.registry import Mark, mark
from operatord_protocol import errors, methods
from operatord_protocol import messages as m
from operatord_protocol.absent import given, or_unset
from operatord_protocol.codec import decode, encode

from .metrics import metrics
from .paging import piece, wanted
from .peer import Services
from .sessions import owner_of, upstream_of


def ping(services: Services, who: Identity, params: m.NoParams) -> m.Pong:
    """Say that the daemon lives, and what time it is."""
    return m.Pong(pong=True, time=rfc3339(services.clock.wall()))


def describe(services: Services, who: Identity, params: m.NoParams) -> Raw:
    """Say what this daemon is and what it understands."""
    return Raw(_description(services.version, services.instance, encode(services.engine_facts())))


@functools.lru_cache(maxsize=4)
def _description(version: str, instance: str, engine: bytes) -> bytes:
    """Return a description; it is long, so it is computed once and reused until it changes."""
    description = m.Description(
        version=version,
        protocol=methods.PROTOCOL_VERSION,
        instance=instance,
        engine=decode(engine),
        methods=methods.schemas(),
        errors={cls.type: {"code": cls.code, "retryable": cls.retryable} for cls in errors.ALL},
        capabilities=[
            "events.replay",
            "logs.follow",
            "probes",
            "queue",
            "request_key",
            "leases",
            "degrade",
            "learned_reservations",
        ],
    )
    return encode(description)


def status(services: Services, who: Identity, params: m.NoParams) -> m.Status:
    """Say how the daemon and its machine are."""
    supervisor = services.supervisor
    admission = supervisor.admission
    measured = services.host.measured()
    del measured["disk_path"]  # no path of the host reaches a client
    if not services.measures_engine:
        measured = {"daemon": measured["daemon"]}
    return m.Status(
        version=services.version,
        instance=services.instance,
        engine=services.engine_facts(),
        host=services.host.facts() if services.measures_engine else {},
        capacity=admission.capacity(),
        reserved=admission.reserved(),
        free=admission.free(),
        measured=measured,
        pressure=admission.pressure,
        sessions=supervisor.registry.counts(),
        queue=_queue(supervisor),
        warm=supervisor.slots.status(),
        networks=supervisor.slots.spare_networks(),
        draining=supervisor.draining,
        connections=services.connections(),
        uptime=round(services.uptime(), 3),
        generation=services.settings.generation,
        troubles=services.troubles(),
        role=or_unset(who.role),
        warnings=[str(door) for door in services.config.open_doors] + services.more_warnings(),
    )


def _queue(supervisor: Supervisor) -> dict[str, Any]:
    state = supervisor.admission.state
    found: dict[str, Any] = {"length": state.length, "limit": state.settings.queue}
    if state.attaching:
        found["attaching"] = state.attaching
    if state.pressure:
        found["reason"] = state.pressure
    return found


def pipeline_list(services: Services, who: Identity, params: m.NoParams) -> m.Pipelines:
    """Describe the configured pipelines, with what their stages were seen to use."""
    learned = services.supervisor.admission.learned
    warm = services.supervisor.slots.status()
    described: list[dict[str, Any]] = []
    for name, pipeline in services.config.pipelines.items():
        stages = {
            stage: _stage(settings) | _lesson(learned.of(name, stage))
            for stage, settings in pipeline.stages.items()
        }
        described.append(
            {
                "name": name,
                "network": pipeline.namespaces,
                "location": pipeline.location_stage,
                "reservations": pipeline.reservations,
                "warm": warm.get(name, {"ready": 0, "target": 0}),
                "stages": stages,
            }
        )
    return m.Pipelines(pipelines=described)


def _stage(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = {
        "image": stage.image,
        "port": stage.port,
        "cpus": stage.cpus,
        "memory": int(stage.memory),
        "memory_limit": int(stage.most_memory),
        "allow_env": stage.allow_env,
    }
    if stage.cpu_limit is not None:
        found["cpu_limit"] = stage.cpu_limit
    if stage.gpus:
        found |= {"gpus": stage.gpus, "gpu_memory": int(stage.gpu_memory)}
    return found


def _lesson(lesson: Lesson | None) -> dict[str, Any]:
    if lesson is None:
        return {}
    peak, steady = lesson.start_peak, lesson.steady_p95
    return {
        "learned": {
            "samples": lesson.samples,
            "start_peak": {"cpus": peak.cpus / MILLI, "memory": peak.memory},
            "steady_p95": {"cpus": steady.cpus / MILLI, "memory": steady.memory},
        }
    }


def plan(services: Services, who: Identity, params: m.SessionStartParams) -> m.PlanResult:
    """Return what a start would do. Nothing is created and nothing is reserved."""
    supervisor = services.supervisor
    planned = supervisor.plan(params, upstream_of(services, params))
    details: dict[str, Any] = {
        "pipeline": planned.pipeline,
        "stages": {name: stage.image for name, stage in planned.stages.items()},
        "reservation": supervisor.admission.reservation(planned),
    }
    if (seconds := planned.expected_seconds) is not None:
        details["expected_seconds"] = round(seconds, 3)
    patient = params.on_shortage != "refuse"
    if (problem := supervisor.availability.refusal(patient=patient)) is not None:
        details |= {"type": "engine_unavailable", "reason": problem}
        return m.PlanResult(decision="refuse", explanation=details)
    return _decision(
        services.clock, supervisor.preview(planned, params, owner_of(who, params)), details
    )


def _decision(clock: Clock, foreseen: Preview, details: dict[str, Any]) -> m.PlanResult:
    action = foreseen.action
    if isinstance(action, Start):
        degraded = {"degraded": True} if action.degraded else {}
        return m.PlanResult(decision="start", explanation=details | degraded)
    if isinstance(action, Refuse):
        details |= {"type": action.type, "reason": refusal(action, clock).message}
        return m.PlanResult(decision="refuse", explanation=details | explanation(action.why, clock))
    standing, why = foreseen.standing, foreseen.why
    assert standing is not None
    assert why is not None
    details |= {"reason": why.text, "position": standing.position, **explanation(why, clock)}
    if standing.start is not None:
        details["estimate"] = round(max(0.0, standing.start - clock.now()), 1)
    return m.PlanResult(decision="queue", explanation=details)


def get(services: Services, who: Identity, params: m.SessionParams) -> Raw:
    """Return one session."""
    return Raw(services.views.of(params.session_id, who))


def list_(services: Services, who: Identity, params: m.SessionListParams) -> Raw:
    """Return sessions, newest first, a piece of the list at a time."""
    limit, _ = asked = wanted(params.limit, params.cursor)
    found, further = piece(
        services.supervisor.registry.find(
            given(params.phase), given(params.owner), limit + 1, asked.after(Mark)
        ),
        limit,
        mark,
    )
    listed = b",".join(filter(None, (services.views.listed(each, who) for each in found)))
    more = b"" if further is UNSET else b',"next":%b' % encode(further)
    return Raw(b'{"sessions":[%b]%b}' % (listed, more))


READS: dict[str, Callable[[Services, Identity, Any], m.Result | Raw]] = {
    "system.ping": ping,
    "system.describe": describe,
    "system.status": status,
    "system.metrics": metrics,
    "pipeline.list": pipeline_list,
    "session.plan": plan,
    "session.get": get,
    "session.list": list_,
}
"""By method."""
