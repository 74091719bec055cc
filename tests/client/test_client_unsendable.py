# SPDX-License-Identifier: MIT
"""What no line can hold is refused before anything is sent, and costs nothing else."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from client_stub import SESSION_ID, STARTED, Run, StubDaemon, golden

from operatord_client import AsyncClient, Client
from operatord_client._transport.core import Core
from operatord_client.ctl import exits
from operatord_client.errors import ClientError, UnsendableRequest
from operatord_protocol import codec

OF_A_FILE = os.fsdecode(b"M\xfcller")


class Owner(enum.StrEnum):
    ADA = "ada"


class Priority(enum.IntEnum):
    HIGH = 3


def within_itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def nested(levels: int) -> dict[str, Any]:
    """Return params which make a line of so many levels, its own among them."""
    params: dict[str, Any] = {}
    for _ in range(levels - 2):
        params = {"a": params}
    return params


UNSENDABLE: list[tuple[dict[str, Any], str]] = [
    ({"count": float("nan")}, "params.count: nan is not a JSON number"),
    ({"deadline": float("inf")}, "params.deadline: inf is not a JSON number"),
    ({"deadline": float("-inf")}, "params.deadline: -inf is not a JSON number"),
    ({"count": 2**63}, "params.count: a whole number of more than 64 bits"),
    ({"count": -(2**63) - 1}, "params.count: a whole number of more than 64 bits"),
    ({"count": 10**5000}, "params.count: a whole number of more than 64 bits"),
    ({"owner": OF_A_FILE}, r"params.owner: 'M\udcfcller' cannot be written as UTF-8"),
    ({"owner": b"ada"}, "params.owner: JSON cannot express bytes"),
    ({"owner": object()}, "params.owner: JSON cannot express object"),
    ({"env": {"probe": {"fps": float("nan")}}}, "params.env.probe.fps: nan is not a JSON number"),
    ({"env": {"probe": {"names": ["a", OF_A_FILE]}}}, "params.env.probe.names[1]: 'M"),
    ({"env": {1: {}, "1": {}}}, "params.env, a name: expected str, got int"),
    ({"env": {None: {}}}, "params.env, a name: expected str, got NoneType"),
    ({"env": {OF_A_FILE: {}}}, "params.env, a name: 'M"),
    ({"env": within_itself()}, "more than 64 levels, or one that contains itself"),
    (nested(65), "more than 64 levels, or one that contains itself"),
]


@pytest.mark.parametrize(("params", "said"), UNSENDABLE)
def test_what_is_no_json_is_told_with_its_place(params: dict[str, Any], said: str) -> None:
    """F20: and nothing is pending."""
    core = Core()
    with pytest.raises(UnsendableRequest) as caught:
        core.request("session.start", params)
    assert said in str(caught.value)
    assert str(caught.value).endswith("; nothing was sent")
    assert core.pending == 0


@pytest.mark.parametrize(("method", "params"), [(OF_A_FILE, {}), (7, {}), ("system.ping", [1])])
def test_request_that_is_none_as_a_whole_is_told_too(method: Any, params: Any) -> None:
    """F20"""
    with pytest.raises(UnsendableRequest, match=r"^(method|params): "):
        Core().request(method, params)


def test_what_means_the_same_in_json_is_sent() -> None:
    """F20: the bounds themselves, other mappings, and what is a string or a number by inheritance."""
    params = {
        "count": 2**63 - 1, "priority": Priority.HIGH, "owner": Owner.ADA, "lease": {"ttl": 0.5},
        "types": ("a",), "env": MappingProxyType({"probe": MappingProxyType({"on": True})}),
        "least": -(2**63), "nothing": None,
    }  # fmt: skip
    _, line = Core().request("session.start", params)
    assert codec.decode(line)["params"] == {
        "count": 2**63 - 1, "priority": 3, "owner": "ada", "lease": {"ttl": 0.5}, "types": ["a"],
        "env": {"probe": {"on": True}}, "least": -(2**63), "nothing": None,
    }  # fmt: skip


def test_levels_are_counted_as_the_daemon_counts_them() -> None:
    """F20: what it would not take does not leave, and what it takes does."""
    _, line = Core().request("session.start", nested(64))
    assert isinstance(codec.decode_line(line), codec.Request)
    _, line = Core().request("session.start", {"env": nested(63)})
    assert isinstance(codec.decode_line(line), codec.Request)


CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.start(owner=OF_A_FILE),
    lambda client: client.start(request_key=OF_A_FILE),
    lambda client: client.plan(count=float("nan")),
    lambda client: client.probe_register("p", "h", 1, labels={"name": OF_A_FILE}),
    lambda client: client.extend(SESSION_ID, float("inf")),
    lambda client: client.wait(SESSION_ID, timeout=float("nan")),
    lambda client: client.login(OF_A_FILE),
    lambda client: client.cancel(2**64),
    lambda client: client.request(OF_A_FILE),
]
FEEDS: list[Callable[[Any], Any]] = [
    lambda client: client.events(types=[OF_A_FILE]),
    lambda client: client.events(types=[OF_A_FILE], reconnect=True),
    lambda client: client.logs(SESSION_ID, stage=OF_A_FILE, follow=True),
]


@pytest.mark.parametrize("call", CALLS + FEEDS)
def test_nothing_is_sent_and_the_client_goes_on(daemon: StubDaemon, call: Any) -> None:
    """F20: the same error of every method."""
    daemon.on("system.ping", golden("rpc: ping"))
    with Client(daemon.address) as client:
        with pytest.raises(ClientError, match="nothing was sent"):
            call(client)
        assert client.ping().pong
    assert daemon.requests.get_nowait()["method"] == "system.ping"


@pytest.mark.parametrize("call", CALLS + FEEDS)
async def test_nothing_is_sent_and_the_async_client_goes_on(daemon: StubDaemon, call: Any) -> None:
    """F20"""
    daemon.on("system.ping", golden("rpc: ping"))
    async with AsyncClient(daemon.address) as client:
        with pytest.raises(ClientError, match="nothing was sent"):
            await (anext(call(client)) if call in FEEDS else call(client))
        assert (await client.ping()).pong
    assert daemon.requests.get_nowait()["method"] == "system.ping"


async def test_progress_of_a_start_that_cannot_be_sent_is_the_same_error(
    daemon: StubDaemon,
) -> None:
    """F20"""

    def begin() -> None:
        with Client(daemon.address) as client:
            next(iter(client.start_progress(owner=OF_A_FILE)))

    with pytest.raises(UnsendableRequest):
        await asyncio.to_thread(begin)
    async with AsyncClient(daemon.address) as client:
        with pytest.raises(UnsendableRequest):
            async for _ in client.start_progress(owner=OF_A_FILE):
                pass
    assert daemon.requests.empty()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--count", "9" * 30], "params.count: a whole number of more than 64 bits"),
        (["--owner", OF_A_FILE], r"params.owner: 'M\udcfcller' cannot be written as UTF-8"),
    ],
)
def test_operatorctl_says_so_in_one_line(
    daemon: StubDaemon, ctl: Run, args: list[str], said: str
) -> None:
    """F20"""
    daemon.on("session.start", STARTED)
    ran = ctl("start", *args)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert ran.err.startswith(f"operatorctl: {said}")
    assert len(ran.err.splitlines()) == 1
    assert daemon.requests.empty()
