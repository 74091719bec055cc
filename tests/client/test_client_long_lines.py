# SPDX-License-Identifier: MIT
"""A request that is too long for the daemon ends nothing but itself, whatever the daemon's limit is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from client_stub import CLOSE, SESSION_ID, STARTED, Run, StubDaemon, golden
from daemon_lab import PATIENCE

from operatord_client import AsyncClient, Client
from operatord_client.ctl import exits
from operatord_client.errors import ClientError, UnsendableRequest
from operatord_protocol.framing import LEAST_LINE_BYTES, LINE_BYTES, MOST_LINE_BYTES

LONG = "x" * LINE_BYTES


@pytest.fixture
def limited(daemon: StubDaemon) -> StubDaemon:
    """A daemon that starts sessions, registers probes, and does not take lines over its limit."""
    daemon.on("session.start", STARTED)
    daemon.on("system.ping", golden("rpc: ping"))
    daemon.on("probe.register", golden("rpc: probe removed"))
    return daemon


CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.start(env={"probe": {"seed": LONG}}),
    lambda client: client.start(request_key=LONG),
    lambda client: client.plan(owner=LONG),
    lambda client: client.probe_register("p", "h", 1, labels={"name": LONG}),
    lambda client: client.get(LONG),
    lambda client: client.login(LONG),
    lambda client: client.cancel(LONG),
    lambda client: client.request(LONG),
]
FEEDS: list[Callable[[Any], Any]] = [
    lambda client: client.events(types=[LONG]),
    lambda client: client.logs(SESSION_ID, stage=LONG, follow=True),
]


@pytest.mark.parametrize("call", CALLS + FEEDS)
def test_too_long_a_request_leaves_the_connection_alone(limited: StubDaemon, call: Any) -> None:
    """F20: its sessions have the connection for their lease. Every method is told alike."""
    with Client(limited.address, timeout=PATIENCE) as client:
        client.connect()
        connection = client._connection
        with pytest.raises(
            ClientError, match=rf"of 6\d{{4}} bytes, .* at most {LINE_BYTES} bytes; "
        ):
            call(client)
        assert client.ping().pong
        assert client._connection is connection
    assert limited.requests.get_nowait()["method"] == "system.ping"


@pytest.mark.parametrize("call", CALLS + FEEDS)
async def test_too_long_a_request_leaves_the_async_connection_alone(
    limited: StubDaemon, call: Any
) -> None:
    """F20"""
    async with AsyncClient(limited.address, timeout=PATIENCE) as client:
        await client.connect()
        connection = client._connection
        with pytest.raises(
            ClientError, match=rf"of 6\d{{4}} bytes, .* at most {LINE_BYTES} bytes; "
        ):
            await (anext(call(client)) if call in FEEDS else call(client))
        assert (await client.ping()).pong
        assert client._connection is connection
    assert limited.requests.get_nowait()["method"] == "system.ping"


@pytest.mark.parametrize("limit", [LEAST_LINE_BYTES, 5000, LINE_BYTES, 200_000])
def test_limit_is_the_daemons_own(limited: StubDaemon, limit: int) -> None:
    """F20: a line of just as many bytes as are configured is sent, and none that is longer."""
    limited.line_bytes = limit
    with Client(limited.address, timeout=PATIENCE) as client:
        client.ping()
        empty = length_of_a_start(limited, client, "")
        rest = "x" * (limit - empty)
        assert length_of_a_start(limited, client, rest) == limit
        with pytest.raises(UnsendableRequest, match=f"of {limit + 1} bytes"):
            client.start(owner=rest + "x")
        assert client.ping().pong


def length_of_a_start(daemon: StubDaemon, client: Client, owner: str) -> int:
    """Have ``client`` start a session; return the bytes of the line that has come, its end not counted."""
    client.start(owner=owner)
    daemon.asked("session.start")
    return daemon.length


def test_what_was_found_out_is_not_asked_again(limited: StubDaemon) -> None:
    """F20: one ping for a length, and none for what is shorter."""
    with Client(limited.address, timeout=PATIENCE) as client:
        for size in (3000, 3000, 2000):
            client.start(owner="x" * size)
    asked = [limited.requests.get_nowait()["method"] for _ in range(4)]
    assert asked == ["system.ping", *["session.start"] * 3]
    assert limited.requests.empty()


@pytest.mark.parametrize(
    "trouble", [CLOSE, golden("error: flood"), b"HTTP/1.1 400 Bad Request\r\n"]
)
def test_where_the_limit_cannot_be_found_out_it_is_the_default_one(
    daemon: StubDaemon, trouble: Any
) -> None:
    """F20: as at a daemon that has no connection left."""
    daemon.line_bytes = 200_000
    daemon.on("session.start", STARTED)
    daemon.on("system.ping", trouble)
    with Client(daemon.address, timeout=PATIENCE) as client:
        assert client.start(owner="x" * 60_000).id == SESSION_ID
        with pytest.raises(
            UnsendableRequest, match=f"at most {LINE_BYTES} bytes .*could not find out"
        ):
            client.start(owner=LONG)
        assert client.start(owner="ada").id == SESSION_ID


def test_what_no_daemon_takes_is_not_even_tried(daemon: StubDaemon) -> None:
    """F20"""
    with Client(daemon.address) as client, pytest.raises(UnsendableRequest):
        client.start(owner="x" * MOST_LINE_BYTES)
    assert daemon.requests.empty()


def test_operatorctl_says_so_in_one_line(limited: StubDaemon, ctl: Run) -> None:
    """F20"""
    ran = ctl("start", "--owner", LONG)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert ran.err.startswith("operatorctl: session.start is a line of 6")
    assert len(ran.err.splitlines()) == 1
