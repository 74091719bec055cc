# SPDX-License-Identifier: MIT
"""Registered probes: where the daemon connects for somebody else, what it tells of that, and to whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Json, Lab, Wire, in_process, settings
from guarded_lab import Guarded, guarded
from shared_host import free_port

from operatord.provision import starter
from operatord.streams import hello, looks, visit

HELLO = b'{"type":"hello","stream":"probe","width":2,"height":2}\n'
FORBIDDEN = ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%lo", "8.8.8.8", "2001:db8::1"]
NO_HOSTS = [
    "2130706433",
    "0177.1",
    "0x7f.1",
    "0x7f000001",
    "127.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "::",
]
Resolver = Callable[..., Any]


async def say_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


@contextlib.asynccontextmanager
async def probe(host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve a header, and yield the port."""
    server = await asyncio.start_server(say_hello, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which addresses are connected to."""
    found: list[str] = []
    introduce = visit._introduce

    async def note(address: tuple[socket.AddressFamily, str], port: int) -> socket.socket:
        found.append(address[1])
        return await introduce(address, port)

    monkeypatch.setattr(visit, "_introduce", note)
    return found


def stand_for(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Have names stand for one list of addresses after the other, and for the last from then on."""
    left = list(answers)

    async def found(host: str, port: int, **_: object) -> list[Any]:
        now = left.pop(0) if len(left) > 1 else left[0]
        return [(0, 0, 0, "", (each, port)) for each in now]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", found)


# Where


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_probe_is_registered_nowhere_else_and_nothing_is_connected_to(
    wire: Wire, connected: list[str], host: str
) -> None:
    """A8"""
    refused = await wire.refusal("probe.register", name="p", host=host, port=80)
    assert (refused.type, refused.data["path"]) == ("forbidden", "params.host")
    assert "probes.allow" in refused.message
    assert (await wire.call("probe.list"))["probes"] == []
    assert connected == []


@pytest.mark.parametrize("host", ["169.254.1.1", "::ffff:169.254.1.1", "64:ff9b::a9fe:101"])
async def test_what_no_setting_allows_is_not_said_to_be_a_setting(wire: Wire, host: str) -> None:
    refused = await wire.refusal("probe.register", name="p", host=host, port=80)
    assert f"{host} is link-local, where no probe is allowed" in refused.message


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_other_notations_of_an_address_are_none(wire: Wire, host: str) -> None:
    refused = await wire.refusal("probe.register", name="p", host=host, port=80)
    assert (refused.type, refused.data["path"]) == ("invalid_params", "params.host")


async def test_ports_are_bounded_as_well(tmp_path: Path) -> None:
    port = free_port()
    async with in_process(tmp_path, {"probes": {"allow": [f"127.0.0.1:{port}"]}}) as lab:
        wire = await lab.wire()
        await wire.call("probe.register", name="p", host="localhost.", port=port)
        refused = await wire.refusal("probe.register", name="q", host="127.0.0.1", port=port + 1)
        assert refused.type == "forbidden"


async def test_name_for_what_is_not_allowed_is_refused(
    wire: Wire, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_for(monkeypatch, ["169.254.169.254", "fe80::1%2"])
    refused = await wire.refusal("probe.register", name="p", host="innocent.example", port=80)
    assert refused.type == "forbidden"
    assert "169.254" not in refused.message
    assert connected == []


async def test_of_what_a_name_stands_for_only_the_allowed_is_connected_to(
    wire: Wire, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_for(monkeypatch, ["169.254.169.254", "::ffff:127.0.0.1"])
    async with probe() as port:
        found = await wire.call("probe.register", name="p", host="two.example", port=port)
    assert found["state"] == "up"
    assert connected == ["127.0.0.1"]


async def test_name_that_stands_for_something_else_later_is_not_followed(
    wire: Wire, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A8, DNS rebinding: the check, and the connect after it, see one answer."""
    stand_for(monkeypatch, ["127.0.0.1"], ["127.0.0.1"], ["169.254.169.254"])
    async with probe() as port:
        registered = await wire.call("probe.register", name="p", host="turns.example", port=port)
        assert registered["state"] == "up"
        later = await wire.call("probe.get", name="p")
        refused = await wire.refusal("session.start", probe="p")
    assert later["state"] == "down"
    assert "probes.allow" in later["error"]
    assert refused.type == "probe_unreachable"
    assert set(connected) == {"127.0.0.1"}


async def test_stages_are_told_the_number_that_was_checked(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start a name is looked up once; a second answer would be another address."""
    stand_for(monkeypatch, ["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"], ["169.254.169.254"])
    targets: list[str] = []

    async def reaches(_self: object, host: str, _network: object) -> bool:
        targets.append(host)
        return True

    monkeypatch.setattr("operatord.provision.networks.Networks.reaches", reaches)
    async with probe() as port:
        await wire.call("probe.register", name="p", host="turns.example", port=port)
        await wire.call("session.start", probe="p")
    env = [each.plan.env for each in lab.fake.world.containers.values()]
    said = [
        json.loads(each.said)["env"] for each in lab.fake.world.containers.values() if each.said
    ]
    assert {each["probe_ip"] for each in (*env, *said) if "probe_ip" in each} == {"127.0.0.1"}
    assert set(targets) <= {"127.0.0.1"}


async def test_reload_forbids_what_is_registered(tmp_path: Path, connected: list[str]) -> None:
    allow = ["127.0.0.0/8"]
    state = tmp_path / "s"

    def reread() -> Any:
        return settings(state, {"probes": {"allow": allow}})

    async with (
        probe() as port,
        in_process(state, {"probes": {"allow": allow}}, reread=reread) as lab,
    ):
        wire = await lab.wire()
        await wire.call("probe.register", name="p", host="127.0.0.1", port=port)
        assert connected
        allow[:] = ["10.0.0.0/8"]
        assert (await wire.call("system.reload"))["changed"] == ["probes"]
        connected.clear()
        assert (await wire.call("probe.get", name="p"))["state"] == "down"
        refused = await wire.refusal("session.start", probe="p")
        assert refused.type == "probe_unreachable"
        assert "probes.allow does not have" in refused.message
        assert connected == []


@pytest.mark.parametrize("member", ["probe_ip", "probe_host", "probe_port"])
async def test_no_request_names_an_address(wire: Wire, member: str) -> None:
    """The original's variables are the daemon's to set, wherever a request puts them."""
    answer = await wire.ask({"count": 5, member: "169.254.169.254"})
    assert answer["error"]["data"]["type"] == "invalid_params"
    refused = await wire.refusal("session.start", env={"stream": {member: "169.254.169.254"}})
    assert refused.type == "invalid_params"


# What is told to whom


@pytest.fixture
async def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    """A daemon with roles, and little patience with probes."""
    monkeypatch.setattr(looks, "TIMEOUT", 0.3)
    monkeypatch.setattr(starter, "PROBE_TIMEOUT", 0.3)
    async with guarded(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def addresses() -> AsyncIterator[dict[str, int]]:
    """Yield ports of this machine: one is closed, one silent, one speaks otherwise, one takes nobody."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(2):  # its queue is full: who comes now is not answered, as behind a filter
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            writer.close()

        server = await asyncio.start_server(say, "127.0.0.1", 0)
        async with server:
            yield {
                "closed": free_port(),
                "silent": silent.getsockname()[1],
                "other": server.sockets[0].getsockname()[1],
                "filtered": full.getsockname()[1],
            }


async def test_nobody_but_operators_learns_what_listens_where(door: Guarded) -> None:
    """A8: same text, same data, same time, in answers and in what is written of the session."""
    ada = await door.wire("ada", "user")
    told, took = set(), []
    async with addresses() as ports:
        for kind, port in ports.items():
            begun = time.perf_counter()
            found = await ada.call("probe.register", name=kind, host="127.0.0.1", port=port)
            took.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            refused = await ada.refusal("session.start", probe=kind)
            took.append(time.perf_counter() - begun)
            [ended] = (await ada.call("session.list", limit=1))["sessions"]
            took.append(ended["timings"]["probe"] / 1000)
            said = json.dumps([found["error"], refused.message, refused.data, ended["reason"]])
            of_session = refused.data.get("session_id", "-")
            told.add(
                said.replace(str(port), "PORT").replace(kind, "KIND").replace(of_session, "ID")
            )
    assert len(told) == 1, told
    assert min(took) >= 0.3 + hello.MARGIN
    assert max(took) < 3 * (0.3 + hello.MARGIN)


async def test_operator_is_told_why(door: Guarded) -> None:
    root = await door.wire("root", "operator")
    sentences = {
        "closed": "Connection refused",
        "silent": "it says nothing within 0.3 s",
        "other": "it answers, but not with a stream header",
        "filtered": "it says nothing within 0.3 s",
    }
    async with addresses() as ports:
        for kind, port in ports.items():
            found = await root.call("probe.register", name=kind, host="127.0.0.1", port=port)
            assert sentences[kind] in found["error"]
        refused = await root.refusal("session.start", probe="closed")
        listed = (await root.call("probe.list"))["probes"]
    assert refused.type == "probe_unreachable"
    assert "Connection refused" in refused.message
    assert all(sentences[each["name"]] in each["error"] for each in listed)


async def test_where_all_are_operators_nobody_waits(wire: Wire) -> None:
    begun = time.perf_counter()
    found = await wire.call("probe.register", name="p", host="127.0.0.1", port=free_port())
    assert "Connection refused" in found["error"]
    assert "Connection refused" in (await wire.refusal("session.start", probe="p")).message
    assert time.perf_counter() - begun < looks.TIMEOUT


# Whose


async def test_probe_is_its_owners(door: Guarded) -> None:
    ada, grace = await door.wire("ada", "user"), await door.wire("grace", "user")
    root = await door.wire("root", "operator")
    async with probe() as port:
        where: Json = {"host": "127.0.0.1", "port": port}
        assert (await ada.call("probe.register", name="p", **where))["owner"] == "ada"
        for method, params in (("probe.remove", {}), ("probe.register", where)):
            refused = await grace.refusal(method, name="p", **params)
            assert (refused.type, "belongs to ada" in refused.message) == ("forbidden", True)
        assert (await grace.call("probe.get", name="p"))["state"] == "up"
        again = await root.call("probe.register", name="p", labels={"room": "4"}, **where)
        assert (again["owner"], again["labels"]) == ("ada", {"room": "4"})
        await ada.call("probe.remove", name="p")
        await grace.call("probe.register", name="p", **where)
        await root.call("probe.remove", name="p")


async def test_who_registers_and_drains_is_written_down(
    door: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "operatord.audit")
    ada, root = await door.wire("ada", "user"), await door.wire("root", "operator")
    caplog.clear()
    async with probe() as port:
        await ada.call("probe.register", name="p", host="127.0.0.1", port=port)
    await ada.refusal("probe.register", name="q", host="169.254.169.254", port=80)
    await ada.call("probe.remove", name="p")
    await root.call("system.drain")
    await root.call("system.undrain")
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "operatord.audit"]
    told = [(each["audit"], each["user"]) for each in lines]
    assert told == [
        ("register", "ada"),
        ("refused", "ada"),
        ("remove", "ada"),
        ("drain", "root"),
        ("undrain", "root"),
    ]
    assert (lines[0]["probe"], lines[0]["host"], lines[0]["port"]) == ("p", "127.0.0.1", port)
    assert "169.254.169.254" in lines[1]["why"]
