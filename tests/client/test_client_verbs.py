# SPDX-License-Identifier: MIT
"""Both clients have every verb of the table, with the wire's names."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from client_stub import StubDaemon, golden

import operatord_client
from operatord_client import AsyncClient, Client, StartOptions, Tcp, errors
from operatord_client.ctl import render
from operatord_protocol.messages import Session, SessionStartParams
from operatord_protocol.methods import METHODS

VERBS = {
    "system.ping": "ping",
    "system.describe": "describe",
    "system.status": "status",
    "system.metrics": "metrics",
    "system.drain": "drain",
    "system.undrain": "undrain",
    "system.reload": "reload",
    "auth.login": "login",
    "pipeline.list": "pipelines",
    "probe.register": "probe_register",
    "probe.list": "probe_list",
    "probe.get": "probe_get",
    "probe.remove": "probe_remove",
    "session.start": "start",
    "session.plan": "plan",
    "session.get": "get",
    "session.list": "list",
    "session.stop": "stop",
    "session.wait": "wait",
    "session.extend": "extend",
    "session.logs": "logs",
    "session.stats": "stats",
    "events.subscribe": "subscribe",
    "events.unsubscribe": "unsubscribe",
    "request.cancel": "cancel",
}
OWN = {"self", "call_timeout", "on_progress", "options"}
FOLLOWED = {"cursor"}
"""What a verb sees to by itself."""


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_every_method_of_the_protocol_has_a_verb() -> None:
    assert VERBS.keys() == METHODS.keys()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("method", VERBS)
def test_a_verb_takes_the_params_of_its_method_by_the_same_names(kind: type, method: str) -> None:
    names = parameters(getattr(kind, VERBS[method]))
    wire = set(METHODS[method].params.__struct_fields__)
    given = set(get_type_hints(StartOptions)) if "options" in names else set(names) - OWN
    assert given == wire - FOLLOWED
    assert "call_timeout" in names


def test_start_options_are_the_params_of_a_start() -> None:
    assert set(get_type_hints(StartOptions)) == set(SessionStartParams.__struct_fields__)


def test_every_public_name_can_be_had_and_an_unknown_one_cannot() -> None:
    for name in operatord_client.__all__:
        assert getattr(operatord_client, name) is not None
    with pytest.raises(AttributeError, match="Klient"):
        operatord_client.Klient  # noqa: B018


def test_every_error_is_had_from_the_package_and_caught_as_one() -> None:
    """N10: who writes `except operatord_client.Error` catches all that a client raises."""
    for name in errors.__all__:
        error = getattr(operatord_client, name)
        assert error is getattr(errors, name)
        assert issubclass(error, operatord_client.Error)


def test_help_shows_each_error_of_the_client_on_a_line_of_its_own() -> None:
    """N10"""
    drawn = [
        line.split("──")[-1].split()[0] for line in (errors.__doc__ or "").splitlines() if line
    ]
    here = {name for name in errors.__all__ if getattr(errors, name).__module__ == errors.__name__}
    assert here | {"Error", "WireError", "StreamError"} <= set(drawn)


def test_list_is_gone_through_counted_and_indexed(daemon: StubDaemon) -> None:
    """N10: `for session in client.list()` is what people write first."""
    daemon.on("session.list", golden("rpc: sessions"))
    daemon.on("probe.list", golden("rpc: probes"))
    daemon.on("pipeline.list", golden("rpc: pipelines"))
    with Client(Tcp(*daemon.address)) as client:
        sessions, probes, pipelines = client.list(), client.probe_list(), client.pipelines()
    assert (list(sessions), len(sessions)) == (sessions.sessions, len(sessions.sessions))
    assert sessions[0] is sessions.sessions[0]
    assert (list(probes), list(pipelines)) == (probes.probes, pipelines.pipelines)


def test_text_knows_the_members_of_a_session_that_are_no_stages() -> None:
    assert {*Session.__struct_fields__} - {"stages"} == render.SESSION_MEMBERS


def test_the_client_needs_the_standard_library_and_the_protocol_alone() -> None:
    allowed = {*sys.stdlib_module_names, "operatord_protocol", "operatord_client"}
    for path in Path(operatord_client.__file__).parent.rglob("*.py"):
        names = {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))}
        assert names <= allowed | ({"rich"} if "/drawing" in str(path) else set()), path


def imported(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
