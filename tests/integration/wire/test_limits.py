# SPDX-License-Identifier: MIT
"""Limits of connections and requests: what is beyond one is refused with its setting, others are served."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Lab, StillClock, Wire, in_process, until


def limited(
    folder: Path, limits: Mapping[str, Any], **more: Any
) -> AbstractAsyncContextManager[Lab]:
    """Run a daemon with these limits."""
    return in_process(folder / "s", {"limits": limits, **more.pop("config", {})}, **more)


async def let_in(wire: Wire) -> bool:
    """Tell whether a connection is served; else it must be refused for its address, and be closed."""
    wire.send({"method": "system.ping", "id": 1})
    reply = await wire.line()
    if "result" in reply:
        return True
    assert reply["error"]["data"]["type"] == "too_many_requests"
    assert reply["error"]["data"]["retry_after"] > 0
    assert "limits.connections_per_address" in reply["error"]["message"]
    assert await wire.at_end()
    await wire.close()
    return False


async def from_address(lab: Lab, host: str) -> Wire:
    """Connect from an address of this machine."""
    return Wire(*await asyncio.open_connection(*lab.address, local_addr=(host, 0)))


async def test_connections_of_one_address_are_bounded_and_others_are_let_in(tmp_path: Path) -> None:
    async with limited(tmp_path, {"connections_per_address": 2}) as lab:
        first, second = await lab.wire(), await lab.wire()
        assert await let_in(first) and await let_in(second)
        assert not await let_in(await lab.wire())
        other = await from_address(lab, "127.0.0.2")
        assert await let_in(other)
        await first.close()
        await until(lambda: lab.daemon.server.connections == 2, "the end is noticed")
        assert await let_in(await lab.wire())
        await other.close()


async def test_connections_on_a_unix_socket_are_counted_by_user(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    config = {"unix": str(path)}
    async with limited(tmp_path, {"connections_per_address": 1}, config=config) as lab:
        first, second = await Wire.connect(path), await Wire.connect(path)
        assert await let_in(first)
        error = (await second.line())["error"]
        assert f"uid {os.geteuid()} already" in error["message"]
        assert await let_in(await lab.wire()), "TCP has addresses"
        await first.close()
        await second.close()


async def test_status_warns_while_peers_are_refused(tmp_path: Path) -> None:
    async with limited(tmp_path, {"connections": 1}) as lab:
        wire = await lab.wire()
        before = (await wire.call("system.status"))["warnings"]
        assert "error" in await (await lab.wire()).line()
        after = (await wire.call("system.status"))["warnings"]
        assert after[:-1] == before
        assert "connections are refused" in after[-1]


async def test_refused_peers_that_stay_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operatord.control.wire.connection.TURNED_AWAY_LINGER", 3600)
    limits = {"connections": 1, "refused": 2, "refused_linger": "1h"}
    async with limited(tmp_path, limits) as lab:
        assert "result" in await (await lab.wire()).ask('{"method":"system.ping"}')
        for number in range(6):
            error = (await (await lab.wire()).line())["error"]
            assert "limits.connections" in error["message"]
            assert len(lab.daemon.server._turned_away) == min(number + 1, 2)


async def test_who_has_no_room_reads_why_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`limits.refused_linger` may be long: it is for those who have a place."""
    monkeypatch.setattr("operatord.control.wire.connection.TURNED_AWAY_LINGER", 0.05)
    async with limited(tmp_path, {"connections": 1, "refused_linger": "1h"}) as lab:
        assert "result" in await (await lab.wire()).ask('{"method":"system.ping"}')
        assert "limits.connections" in (await (await lab.wire()).line())["error"]["message"]
        await until(lambda: not lab.daemon.server._turned_away, "it is cut off")


async def test_subscriptions_of_one_connection_are_bounded(tmp_path: Path) -> None:
    async with limited(tmp_path, {"subscriptions": 2}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        kept = [await wire.call("events.subscribe", types=["engine.lost"]) for _ in range(2)]
        refused = await wire.refusal("events.subscribe")
        assert (
            refused.type == "too_many_requests" and "limits.subscriptions is 2" in refused.message
        )
        assert await other.call("events.subscribe", types=["engine.lost"])
        await wire.call("events.unsubscribe", subscription=kept[0]["subscription"])
        assert await wire.call("events.subscribe", types=["engine.lost"])


async def test_connection_that_is_used_for_nothing_is_ended_and_no_other(tmp_path: Path) -> None:
    async with limited(tmp_path, {"idle_timeout": 0.3}) as lab:
        subscribed, waits, holds = await lab.wire(), await lab.wire(), await lab.wire()
        await subscribed.call("events.subscribe", types=["engine.lost"])
        session = await holds.call("session.start", lease="connection")
        pending = waits.begin("session.wait", session_id=session["session_id"])
        for _ in range(2):
            idle = await lab.wire()
            await idle.call("system.ping")
            error = (await idle.line())["error"]
            assert error["data"]["type"] == "deadline_exceeded"
            assert "limits.idle_timeout" in error["message"]
            assert await idle.at_end()
        assert (await holds.call("system.ping"))["pong"]
        assert (await subscribed.call("system.ping"))["pong"]
        await holds.call("session.stop", session_id=session["session_id"])
        assert (await waits.reply(pending))["phase"] == "ended"


async def test_silent_connection_is_left_alone_by_default(lab: Lab) -> None:
    wire = await lab.wire()
    await wire.call("system.ping")
    [connection] = lab.daemon.server._connections
    assert connection._arrival._idle is None


async def test_starts_of_one_owner_within_a_minute_are_bounded(tmp_path: Path) -> None:
    clock = StillClock()
    async with limited(tmp_path, {"starts_per_minute": 2}, clock=clock) as lab:
        wire = await lab.wire()
        first = await wire.call("session.start", owner="a", request_key="k", wait="accepted")
        clock.advance(20)
        await wire.call("session.start", owner="a", wait="accepted")
        refused = await wire.refusal("session.start", owner="a", wait="accepted")
        assert refused.type == "too_many_requests" and refused.data["retryable"] is True
        assert refused.data["retry_after"] == 40
        assert "limits.starts_per_minute" in refused.message
        again = await wire.call("session.start", owner="a", request_key="k", wait="accepted")
        assert again["session_id"] == first["session_id"], "what is sent again starts nothing"
        assert await wire.call("session.start", owner="b", wait="accepted")
        assert (await wire.call("session.plan", owner="a"))["decision"] == "start"
        assert len((await wire.call("session.list"))["sessions"]) == 3
        clock.advance(40)
        assert await wire.call("session.start", owner="a", wait="accepted")
