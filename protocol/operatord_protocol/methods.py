# SPDX-License-Identifier: MIT
"""The methods, as one literal table: name, params, result and a sentence each.

The daemon's verbs, the client's methods, the schemas and the documentation are all held against it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import msgspec

from . import messages as m


class Method(NamedTuple):
    """What a method takes and gives."""

    params: type[m.Params]
    result: type[m.Result]
    summary: str


METHODS: dict[str, Method] = {
    "system.ping": Method(m.NoParams, m.Pong, "Answer at once: the daemon is alive."),
    "system.describe": Method(m.NoParams, m.Description, "Versions, methods, schemas and errors."),
    "system.status": Method(m.NoParams, m.Status, "Engine, host, room, sessions, queue, uptime."),
    "system.drain": Method(m.DrainParams, m.Drained, "Admit no more; running sessions finish."),
    "system.undrain": Method(m.NoParams, m.Drained, "Admit again."),
    "system.reload": Method(m.NoParams, m.Reloaded, "Reread the configuration, all or nothing."),
    "auth.login": Method(m.LoginParams, m.Login, "Say who this connection is."),
    "pipeline.list": Method(m.NoParams, m.Pipelines, "The configured pipelines and their stages."),
    "probe.register": Method(m.ProbeRegisterParams, m.Probe, "Make a probe known by name."),
    "probe.list": Method(m.ProbeListParams, m.Probes, "The registered probes, each checked now."),
    "probe.get": Method(m.ProbeParams, m.Probe, "One probe, checked by connecting to it now."),
    "probe.remove": Method(m.ProbeParams, m.Probe, "Forget a probe that no session uses."),
    "session.start": Method(m.SessionStartParams, m.Session, "Start a session; see its location."),
    "session.plan": Method(m.SessionStartParams, m.PlanResult, "What a start would do, undone."),
    "session.get": Method(m.SessionParams, m.Session, "One session, living or ended."),
    "session.list": Method(m.SessionListParams, m.Sessions, "Sessions, newest first."),
    "session.stop": Method(m.SessionStopParams, m.Session, "Stop it; answers when all is gone."),
    "session.wait": Method(m.SessionWaitParams, m.Session, "Answer when it reaches a phase."),
    "session.extend": Method(m.SessionExtendParams, m.Session, "Renew a lease that expires."),
    "session.logs": Method(
        m.SessionLogsParams, m.Logs, "What the stages wrote, and go on writing."
    ),
    "session.stats": Method(m.SessionParams, m.Stats, "What each stage uses now."),
    "events.subscribe": Method(m.SubscribeParams, m.Subscribed, "Be told what happens."),
    "events.unsubscribe": Method(m.UnsubscribeParams, m.Unsubscribed, "Be told no more."),
    "request.cancel": Method(m.CancelParams, m.CancelResult, "Cancel a pending request."),
}

PROTOCOL_VERSION = 1


@functools.cache
def schemas() -> dict[str, Any]:
    """Return for each method its summary and the JSON Schemas of params and result, self-contained.

    They are worked out once, which takes some thirty milliseconds, and are the same object ever after.
    """
    return {name: _describe(method) for name, method in METHODS.items()}


def _describe(method: Method) -> dict[str, Any]:
    return {
        "summary": method.summary,
        "params": msgspec.json.schema(method.params),
        "result": _wire_schema(msgspec.json.schema(method.result)),
    }


def _wire_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Say of a session that its stages are members of its own, as `session_to_wire` writes them."""
    session = schema.get("$defs", {}).get("Session")
    if session:
        session["properties"].pop("stages", None)
        session["additionalProperties"] = {
            "type": "string",
            "description": "a stage's container id",
        }
    return schema
