# SPDX-License-Identifier: MIT
"""The methods, as one literal table: name, params, result, who may ask, and a sentence each.

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
    role: m.Role | None
    """The least role that may ask; None before login, too. Besides this, only its owner and operators may
    stop or extend a session, read its logs or post-mortem, or see its location."""
    summary: str


METHODS: dict[str, Method] = {
    "system.ping": Method(m.NoParams, m.Pong, None, "Answer at once: the daemon is alive."),
    "system.describe": Method(
        m.NoParams, m.Description, "viewer", "Versions, methods, schemas and errors."
    ),
    "system.status": Method(
        m.NoParams, m.Status, "viewer", "Engine, host, room, sessions, queue, uptime."
    ),
    "system.metrics": Method(
        m.NoParams, m.Metrics, "viewer", "All that is counted and measured, as Prometheus names it."
    ),
    "system.drain": Method(
        m.DrainParams, m.Drained, "operator", "Start no more; running sessions finish."
    ),
    "system.undrain": Method(m.NoParams, m.Drained, "operator", "Admit again."),
    "system.reload": Method(
        m.NoParams, m.Reloaded, "operator", "Reread the configuration, all or nothing."
    ),
    "auth.login": Method(m.LoginParams, m.Login, None, "Log this connection in."),
    "pipeline.list": Method(
        m.NoParams, m.Pipelines, "viewer", "The configured pipelines and their stages."
    ),
    "probe.register": Method(m.ProbeRegisterParams, m.Probe, "user", "Register a probe by name."),
    "probe.list": Method(
        m.ProbeListParams, m.Probes, "viewer", "The registered probes, each checked now."
    ),
    "probe.get": Method(
        m.ProbeParams, m.Probe, "viewer", "One probe, checked by connecting to it now."
    ),
    "probe.remove": Method(m.ProbeParams, m.Probe, "user", "Forget a probe that no session uses."),
    "session.start": Method(
        m.SessionStartParams, m.Session, "user", "Start a session; see its location."
    ),
    "session.plan": Method(
        m.SessionStartParams, m.PlanResult, "viewer", "What a start would do; starts nothing."
    ),
    "session.get": Method(m.SessionParams, m.Session, "viewer", "One session, living or ended."),
    "session.list": Method(m.SessionListParams, m.Sessions, "viewer", "Sessions, newest first."),
    "session.stop": Method(
        m.SessionStopParams, m.Session, "user", "Stop it; answer when it is removed."
    ),
    "session.wait": Method(
        m.SessionWaitParams, m.Session, "viewer", "Answer when it reaches a phase."
    ),
    "session.extend": Method(
        m.SessionExtendParams, m.Session, "user", "Renew a lease that expires."
    ),
    "session.logs": Method(
        m.SessionLogsParams, m.Logs, "user", "What the stages wrote, and still write."
    ),
    "session.stats": Method(m.SessionParams, m.Stats, "viewer", "What each stage uses now."),
    "events.subscribe": Method(m.SubscribeParams, m.Subscribed, "viewer", "Receive events."),
    "events.unsubscribe": Method(
        m.UnsubscribeParams, m.Unsubscribed, "viewer", "End a subscription."
    ),
    "request.cancel": Method(m.CancelParams, m.CancelResult, "viewer", "Cancel a pending request."),
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
        **({"role": method.role} if method.role else {}),
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
