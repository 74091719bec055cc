# SPDX-License-Identifier: MIT
"""Registered probes: which are taken, how many, and what is told of those that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Lab, Wire, in_process
from guarded_lab import guarded
from shared_host import free_port

from operatord.provision import starter
from operatord.streams import hello, looks, probes

HELLO = b'{"type":"hello","stream":"probe","width":2,"height":2}\n'
NO_HOSTS = [
    "a..b",
    ".",
    "a" * 64,
    "b." + "a" * 64,
    ".".join(["ab"] * 90),
    "-a",
    "0.0.0.0",
    "127.1",
    "1:2",
]
OLD_HOSTS = [host for host in NO_HOSTS if len(host) <= 253]
"""Those that earlier versions took."""
Json = dict[str, Any]


@asynccontextmanager
async def address_that(
    says: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[Json]:
    """Serve at an address, and yield it as `probe.register` takes it."""
    server = await asyncio.start_server(says, "127.0.0.1", 0)
    async with server:
        yield {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}


async def say_hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def say_something_else(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    writer.close()


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def store(state_dir: Path, *params: Json) -> None:
    """Write probes into the journal as an earlier version would have, while no daemon runs."""
    with closing(sqlite3.connect(state_dir / "journal.sqlite")) as db, db:
        for each in params:
            data = json.dumps(each).encode()
            db.execute("INSERT INTO probe (name, data) VALUES (?, ?)", (each["name"], data))


def a_hello(**members: object) -> bytes:
    said = {"type": "hello", "stream": "probe", "width": 2, "height": 2, **members}
    return json.dumps(said).encode() + b"\n"


def saying(line: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()

    return say


# Which


@pytest.mark.parametrize("host", NO_HOSTS, ids=lambda host: host[:10])
async def test_host_that_is_none_is_refused_and_nothing_stored(wire: Wire, host: str) -> None:
    """A3: it used to be stored, and to spoil every list from then on."""
    refused = await wire.refusal("probe.register", name="p", host=host, port=1)
    assert (refused.type, refused.data["path"]) == ("invalid_params", "params.host")
    assert (await wire.call("probe.list"))["probes"] == []
    assert (await wire.refusal("probe.get", name="p")).type == "not_found"


async def test_bad_probe_of_an_old_journal_is_an_error_of_its_own(tmp_path: Path) -> None:
    """A3: one bad probe never spoils a list; it can be looked at, used in vain, and removed."""
    async with in_process(tmp_path):
        pass
    bad = [{"name": f"bad-{n}", "host": host, "port": 1} for n, host in enumerate(OLD_HOSTS)]
    async with address_that(say_hello) as address:
        store(tmp_path, *bad, {"name": "good", **address})
        async with in_process(tmp_path) as lab:
            wire = await lab.wire()
            listed = {each["name"]: each for each in (await wire.call("probe.list"))["probes"]}
            assert listed["good"]["state"] == "up"
            for each in bad:
                found = listed[each["name"]]
                assert found["state"] != "up"
                assert any(word in found["error"] for word in ("host", "header", "not the address"))
            refused = await wire.refusal("session.start", probe="bad-0")
            assert refused.type == "probe_unreachable"
            assert (await wire.call("probe.remove", name="bad-0"))["host"] == "a..b"


FORBIDDEN = {
    "65536×65536 pixels have 4294967296 bytes, and a frame has at most 67108864": a_hello(
        width=65536, height=65536
    ),
    "it is YUV4MPEG2, which is for players": b"YUV4MPEG2 W2 H2 F30:1 Cmono\n",
    "its hello is malformed: Expected float > 0.0 - at spacing[1]": a_hello(spacing=[0.2, -0.2]),
}


@pytest.mark.parametrize(
    ("sentence", "said"), FORBIDDEN.items(), ids=["too large", "y4m", "spacing"]
)
async def test_probe_whose_stream_no_stage_may_read_is_down(
    lab: Lab, wire: Wire, sentence: str, said: bytes
) -> None:
    """A16: what the format forbids is told before anything is made."""
    async with address_that(saying(said)) as address:
        found = await wire.call("probe.register", name="scope", **address)
        assert (found["state"], "frame" in found) == ("down", False)
        assert sentence in found["error"]
        refused = await wire.refusal("session.start", probe="scope")
    assert (refused.type, refused.data["step"]) == ("probe_unreachable", "probe")
    assert sentence in refused.message
    assert lab.fake.empty


async def test_a_probe_is_described_by_what_its_hello_says(wire: Wire) -> None:
    said = {
        "stream": "probe", "width": 2, "height": 2, "format": "rgb24", "fps": 30.0,
        "spacing": [0.2, 0.25], "depth": 80.0, "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "origin": [1.0, -2.0, 3.0], "meta": {"transducer": "L12-3"},
    }  # fmt: skip
    async with address_that(saying(a_hello(**said))) as address:
        found = await wire.call("probe.register", name="scope", **address)
    assert found["frame"] == said


BEYOND_THE_STAGE = {
    "sends pictures as 'yuyv422', and this stage takes gray8": a_hello(format="yuyv422"),
    "have 25000000 bytes, and this stage takes up to 16777216": a_hello(width=5000, height=5000),
}


@pytest.mark.parametrize(("sentence", "said"), BEYOND_THE_STAGE.items(), ids=["format", "size"])
async def test_stage_that_cannot_do_what_the_format_allows_says_what_it_can(
    tmp_path: Path, sentence: str, said: bytes
) -> None:
    """A16: another image may well take it, so the probe is up."""
    async with (
        address_that(saying(said)) as address,
        in_process(tmp_path, {"engine": "process"}) as lab,
    ):
        wire = await lab.wire()
        assert (await wire.call("probe.register", name="scope", **address))["state"] == "up"
        refused = await wire.refusal("session.start", probe="scope")
    assert (refused.type, refused.data["stage"]) == ("start_failed", "stream")
    assert sentence in refused.data["log"][-1]


async def test_look_that_breaks_costs_only_its_probe(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: whatever a look raises."""

    async def breaks(*_: object) -> None:
        raise RuntimeError("a defect")

    async with address_that(say_hello) as address:
        await wire.call("probe.register", name="good", **address)
        monkeypatch.setattr(looks, "read_hello", breaks)
        found = await wire.call("probe.register", name="odd", **address)
    assert found["state"] == "unknown"
    assert "defect" not in found["error"]
    states = {each["name"]: each["state"] for each in (await wire.call("probe.list"))["probes"]}
    assert states == {"good": "up", "odd": "unknown"}


# How many


async def test_number_and_labels_of_probes_are_bounded(tmp_path: Path) -> None:
    """A6"""
    limits = {"limits": {"probes": 3, "label_bytes": 20}}
    port = free_port()
    async with in_process(tmp_path, limits) as lab:
        wire = await lab.wire()
        register = {"host": "127.0.0.1", "port": port}
        for name in ("a", "b"):
            await wire.call("probe.register", name=name, **register, labels={"k": "v" * 19})
        await wire.call("probe.register", name="c", **register, lease="connection")
        await wire.call("probe.register", name="c", **register, lease="connection")
        refused = await wire.refusal("probe.register", name="d", **register)
        assert refused.type == "too_many_requests"
        assert "limits.probes" in refused.message
        for labels in ({"k": "v" * 20}, {"k": "\u00e9" * 10}, {"kk": "v" * 10, "k2": "v" * 10}):
            refused = await wire.refusal("probe.register", name="a", **register, labels=labels)
            assert refused.data["path"] == "params.labels"
        await wire.call("probe.remove", name="b")
        await wire.call("probe.register", name="d", **register)
        assert len((await wire.call("probe.list"))["probes"]) == 3


async def test_looks_are_so_many_at_a_time_and_remembered(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A6: a list does not connect to everything at once, nor anew for each who asks."""
    monkeypatch.setattr(looks, "PACE", 0.0)
    now = most = total = 0

    async def count(*_: object) -> None:
        nonlocal now, most, total
        now, total = now + 1, total + 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        raise hello.NoHello("nobody is there")

    monkeypatch.setattr(looks, "read_hello", count)
    params = [{"name": f"p{n}", "host": "127.0.0.1", "port": n + 1} for n in range(60)]
    for each in params:
        await wire.call("probe.register", **each)
    for entry in lab.daemon.probes._entries.values():
        entry.looked = -probes.REMEMBERED
    before = total
    wires = [await lab.wire() for _ in range(3)]
    await asyncio.gather(*(each.call("probe.list") for each in wires))
    assert (most, total - before) == (looks.AT_ONCE, 60)


async def test_list_tells_what_is_known_while_looks_take_long(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A6: silent addresses hold up neither the list nor, for good, those that answer."""
    monkeypatch.setattr(probes, "LIST_PATIENCE", 0.05)
    reached = asyncio.Event()

    async def never(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with address_that(say_hello) as address:
        await wire.call("probe.register", name="good", **address)
    monkeypatch.setattr(looks, "read_hello", never)
    slow = wire.begin("probe.register", name="slow", host="127.0.0.1", port=1)
    await reached.wait()
    listed = (await (await lab.wire()).call("probe.list"))["probes"]
    assert {each["name"]: each["state"] for each in listed} == {"good": "up", "slow": "unknown"}
    await wire.cancel(slow)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL])
async def test_what_the_daemon_lacks_is_not_the_probes_fault(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A6: a probe that cannot be looked at is neither up nor down, and no event says so."""

    async def without(*_: object) -> None:
        raise OSError(number, "no more of them")

    await wire.call("events.subscribe", types=["probe.up", "probe.down"])
    async with address_that(say_hello) as address:
        await wire.call("probe.register", name="p", **address)
        await wire.event("probe.up")
        with monkeypatch.context() as patch:
            patch.setattr(hello, "visit", without)
            found = await wire.call("probe.get", name="p")
            assert (found["state"], "frame" in found) == ("unknown", False)
            assert "daemon's machine is short" in found["error"]
        assert (await wire.call("probe.get", name="p"))["state"] == "up"
    assert wire.notes == []


# What is told


async def test_refused_silent_and_foreign_addresses_are_told_alike(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A8: who registers addresses does not learn what listens there; the daemon's log has it."""
    async with guarded(tmp_path) as door:
        wire = await door.wire("ada", "user")
        await _are_told_alike(wire, caplog, monkeypatch)


async def _are_told_alike(
    wire: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    texts = set()
    for number, says in enumerate((None, say_nothing, say_something_else, hang_up)):
        async with contextlib.AsyncExitStack() as stack:
            monkeypatch.setattr(looks, "TIMEOUT", 0.05)
            monkeypatch.setattr(starter, "PROBE_TIMEOUT", 0.05)
            address = {"host": "127.0.0.1", "port": free_port()}
            if says is not None:
                address = await stack.enter_async_context(address_that(says))
            found = await wire.call("probe.register", name=f"p{number}", **address)
            refused = await wire.refusal("session.start", probe=f"p{number}")
        assert (found["state"], refused.type) == ("down", "probe_unreachable")
        assert found["error"] in refused.message
        monkeypatch.undo()
        texts.add(found["error"].replace(str(address["port"]), "PORT"))
    assert len(texts) == 1
    for detail in ("refused", "says nothing", "not with a stream header"):
        assert detail in caplog.text


async def test_ports_cannot_be_tried_faster_than_so_many_a_second(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A8: each look keeps its place for a while, and there are only so many."""
    held = asyncio.Event()
    monkeypatch.setattr(looks, "PACE", 1e6)
    answered = 0

    async def tried(number: int) -> None:
        nonlocal answered
        other = await lab.wire()
        await other.call("probe.register", name=f"p{number}", host="127.0.0.1", port=1)
        answered += 1
        if answered == looks.AT_ONCE:
            held.set()

    scan = [asyncio.create_task(tried(number)) for number in range(looks.AT_ONCE + 4)]
    await held.wait()
    for _ in range(20):
        await wire.call("system.ping")
    assert answered == looks.AT_ONCE
    for task in scan:
        task.cancel()
    await asyncio.gather(*scan, return_exceptions=True)
