# SPDX-License-Identifier: MIT
"""Who may ask for what, and whose sessions are shown to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json
from guarded_lab import Guarded, guarded

from operatord.access.identity import RANKS
from operatord_protocol.messages import Role
from operatord_protocol.methods import METHODS

SECRETS = {"location", "plain_location", "post_mortem"}
TRIES = ("session.stop", "session.extend", "session.logs")
ONE = "0000000000000000"
PARAMS: dict[str, Json] = {
    "probe.register": {"name": "p"},  # to look for one would take its time
    "probe.get": {"name": "nobody"},
    "probe.remove": {"name": "nobody"},
    **{f"session.{verb}": {"session_id": ONE} for verb in ("get", "stop", "wait", "logs", "stats")},
    "session.extend": {"session_id": ONE, "ttl": 9},
    "events.unsubscribe": {"subscription": 99},
    "request.cancel": {"id": 99},
}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Guarded]:
    """A daemon that asks for a login."""
    async with guarded(tmp_path) as running:
        yield running


def wanted(role: Role | None, method: str) -> str | None:
    """Return the type of the error that a role gets."""
    if RANKS[role] >= RANKS[METHODS[method].role]:
        return None
    return "forbidden" if role else "unauthorized"


@pytest.mark.parametrize("role", RANKS)
async def test_each_method_is_for_its_role_and_those_above(
    door: Guarded, role: Role | None
) -> None:
    wire = await door.wire("ada", role)
    for method in (each for each in METHODS if each != "auth.login"):
        answer = await wire.ask({"method": method, "params": PARAMS.get(method, {})})
        refused = answer.get("error", {"data": {"type": None}})["data"]["type"]
        if (expected := wanted(role, method)) is not None:
            assert refused == expected, method
        else:
            assert refused not in ("forbidden", "unauthorized"), method


async def test_nobody_else_ends_reads_or_reaches_a_session(door: Guarded) -> None:
    ada = await door.wire("ada", "user")
    session_id = (await ada.call("session.start"))["session_id"]
    grace = await door.wire("grace", "user")
    for method in TRIES:
        more = {"ttl": 9} if method == "session.extend" else {}
        refused = await grace.refusal(method, session_id=session_id, **more)
        assert refused.type == "forbidden"
        assert "belongs to ada" in refused.message
    assert (await ada.call("session.get", session_id=session_id))["phase"] == "running"


@pytest.mark.parametrize("has_ended", [False, True])
async def test_others_see_a_session_without_what_leads_to_it(
    door: Guarded, has_ended: bool
) -> None:
    """Whoever asked before, and however often: what is kept for one is not given to another."""
    ada = await door.wire("ada", "user")
    grace = await door.wire("grace", "user")
    operator = await door.wire("root", "operator")
    session_id = (await ada.call("session.start"))["session_id"]
    if has_ended:
        await ada.call("session.stop", session_id=session_id)
    for _ in range(2):
        for wire, sees in ((ada, True), (grace, False), (operator, True)):
            shown = await wire.call("session.get", session_id=session_id)
            [listed] = (await wire.call("session.list"))["sessions"]
            assert ("location" in shown) == ("location" in listed) == (sees and not has_ended)
            assert ("post_mortem" in shown) == (sees and has_ended)
            assert shown["owner"] == "ada"
    waited = await grace.call("session.wait", session_id=session_id, phase="running")
    assert SECRETS.isdisjoint(waited)


async def test_owner_is_who_asks(door: Guarded) -> None:
    ada = await door.wire("ada", "user")
    operator = await door.wire("root", "operator")
    assert (await ada.refusal("session.start", owner="grace")).type == "forbidden"
    assert (await ada.refusal("session.plan", owner="grace")).type == "forbidden"
    assert (await ada.call("session.start", owner="ada"))["owner"] == "ada"
    assert (await operator.call("session.start", owner="grace"))["owner"] == "grace"
    assert (await operator.call("session.start"))["owner"] == "root"


async def test_key_of_one_owner_tells_nothing_of_anothers_session(door: Guarded) -> None:
    ada, grace = await door.wire("ada", "user"), await door.wire("grace", "user")
    one = await ada.call("session.start", request_key="k", count=5)
    other = await grace.call("session.start", request_key="k", count=6)
    assert one["session_id"] != other["session_id"]


async def test_events_of_others_have_no_location(door: Guarded) -> None:
    ada, grace = await door.wire("ada", "user"), await door.wire("grace", "user")
    session_id = (await ada.call("session.start"))["session_id"]
    for wire in (ada, grace):
        await wire.call("events.subscribe", types=["session.attached"])
    location = {"host": "127.0.0.1", "port": 1}
    door.lab.daemon.events.emit("session.attached", session_id=session_id, location=location)
    assert (await ada.event("session.attached"))["location"] == location
    assert "location" not in await grace.event("session.attached")
