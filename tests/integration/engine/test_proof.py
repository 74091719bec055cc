# SPDX-License-Identifier: MIT
"""The proof of a location: how soon it says what it is, and what it makes of a visit that came late."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from daemon_lab import Lab, StreamingFake, in_process, receive

from operatord.streams import visit as visit_module
from operatord.streams.relay import Relay
from operatord.streams.visit import visit

FRAME = b'{"type":"frame","seq":0,"parts":[{"name":"image","bytes":4}]}\nABCD'


@pytest.fixture
def always_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every visit count as one that came too late to be told from a consumer's."""
    monkeypatch.setattr(visit_module, "PATIENCE", -1.0)


async def test_the_line_is_sent_before_the_event_loop_turns_to_anything_else() -> None:
    """N1: on this machine connect and line are two system calls in a row."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        visiting = asyncio.create_task(visit(*server.getsockname()))
        await asyncio.sleep(0)  # the task has run up to its first wait
        with server.accept()[0] as accepted:
            accepted.setblocking(False)
            assert accepted.recv(100) == b'{"type":"check"}\n'
            accepted.sendall(StreamingFake.HELLO)
            assert (await visiting).served is False


async def test_a_name_with_several_addresses_is_tried_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        loop = asyncio.get_running_loop()
        visiting = asyncio.create_task(visit("localhost", server.getsockname()[1]))
        accepted, _ = await loop.sock_accept(server)
        with accepted:
            await loop.sock_sendall(accepted, StreamingFake.HELLO)
            assert (await visiting).hello.stream == "fake"


async def test_addresses_that_refuse_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """N1: of a name's addresses a stage often listens on one only."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        async def addresses(_host: str, _port: int) -> list[visit_module.Address]:
            return [(socket.AF_INET, f"127.0.0.{last}") for last in (3, 1, 2)]

        monkeypatch.setattr(visit_module, "_addresses", addresses)
        loop = asyncio.get_running_loop()
        visiting = asyncio.create_task(visit("stage", server.getsockname()[1]))
        accepted, _ = await loop.sock_accept(server)
        with accepted:
            await loop.sock_sendall(accepted, StreamingFake.HELLO)
            assert (await visiting).hello.stream == "fake"


@pytest.mark.parametrize("late", ["connect", "line"])
async def test_a_check_is_late_if_its_connect_or_its_line_was(
    monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """N1: either way the other side may have taken it for a consumer, and frames say so."""
    times = iter([0.0, 1.0 if late == "connect" else 0.0])
    monkeypatch.setattr(visit_module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(visit_module, "_silence", lambda _: 1.0 if late == "line" else 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        loop = asyncio.get_running_loop()
        visiting = asyncio.create_task(visit(*server.getsockname()))
        accepted, _ = await loop.sock_accept(server)
        with accepted:
            await loop.sock_sendall(accepted, StreamingFake.HELLO + FRAME)
            assert (await visiting).served is True


@pytest.mark.usefixtures("always_late")
async def test_a_late_check_that_was_sent_frames_is_not_answered_as_a_start(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N1: a stage that does not know checks has taken it for a consumer: the start is undone and says so."""
    monkeypatch.setattr(lab.fake, "HELLO", StreamingFake.HELLO + FRAME)
    wire = await lab.wire()
    refused = await wire.refusal("session.start")
    assert refused.type == "start_failed"
    assert "took the daemon's check for a consumer" in refused.message
    assert "start the session again" in refused.message
    assert lab.fake.empty


@pytest.mark.usefixtures("always_late")
async def test_a_late_check_that_was_told_from_a_consumer_is_a_proof(lab: Lab) -> None:
    """N1: a stage that knows what a check is sends nothing more."""
    wire = await lab.wire()
    assert (await wire.call("session.start"))["phase"] == "running"


async def test_what_is_wrong_with_a_stages_hello_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hello = StreamingFake.HELLO.replace(b"}", b',"depth":"80 mm"}')
    monkeypatch.setattr(StreamingFake, "HELLO", hello)
    wire = await lab.wire()
    refused = await wire.refusal("session.start")
    assert refused.message.endswith(
        "does not speak the stream format: its hello is malformed: "
        "Expected float | null, got str - at depth"
    )


@pytest.mark.parametrize(("plain", "ends"), [(True, "stream"), (False, "segmentation")])
async def test_only_the_stage_with_the_location_is_told_that_a_check_comes(
    lab: Lab, plain: bool, ends: str
) -> None:
    """N1: inner stages know by `visitors` that nobody comes but the next one."""
    wire = await lab.wire()
    await wire.call("session.start", plain_stream=plain)
    told = {}
    for container in lab.fake.world.containers.values():
        said = container.said.decode()
        told[container.plan.stage] = json.loads(said)["env"] if said else container.plan.env
    for stage, env in told.items():
        expected = ("True", None) if stage == ends else (None, "False")
        assert (env.get("checked"), env.get("visitors")) == expected


@pytest.mark.usefixtures("always_late")
@pytest.mark.parametrize("format", ["json", "y4m"])
async def test_real_stages_pass_a_late_proof_and_lose_no_frame(tmp_path: Path, format: str) -> None:
    """N1: so it is for a cold start, a slot, and in both formats."""
    warm = {"pipelines": {"stream": {"warm": 1}}}
    async with in_process(tmp_path / "p", warm, {"engine": "process"}) as lab:
        wire = await lab.wire()
        for _ in range(2):
            session = await wire.call("session.start", count=4, plain_stream=True, format=format)
            if format == "json":
                _, frames, end = await receive(session["location"])
                assert [header["seq"] for header, _ in frames] == [0, 1, 2, 3]
                assert end["frames"] == 4
            else:
                location = session["location"]
                reader, writer = await asyncio.open_connection(location["host"], location["port"])
                assert (await reader.read()).count(b"FRAME Xseq=") == 4
                writer.close()
                await writer.wait_closed()
            over = await wire.call("session.wait", session_id=session["session_id"])
            assert (over["outcome"], over["frames"]) == ("completed", 4)


async def dawdle(host: str, port: int, frames: int) -> None:
    """Check a location, with the line after so many frames: by time alone, a consumer's."""
    reader, writer = await asyncio.open_connection(host, port)
    await reader.readline()
    for _ in range(frames):
        header = json.loads(await reader.readline())
        await reader.readexactly(sum(part["bytes"] for part in header["parts"]))
    writer.write(b'{"type":"check"}\n')
    assert b'"type":"end"' not in await until_closed(reader, writer)


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write_eof()
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return rest


async def test_a_late_check_through_a_relay_costs_the_next_session_no_frame(tmp_path: Path) -> None:
    """N1: one session's location is another's registered probe, and is looked at on a busy machine."""
    async with in_process(tmp_path / "p", {"engine": "process"}) as lab:
        wire = await lab.wire()
        env = {"probe": {"fps": 50, "width": 32, "height": 32}}
        lender = await wire.call("session.start", count=60, plain_stream=True, env=env)
        relay = Relay(lender["location"]["host"], lender["location"]["port"])
        try:
            host, port = await relay.open("127.0.0.1")
            for _ in range(2):
                await dawdle(host, port, 3)
            await wire.call("probe.register", name="bed", host=host, port=port)
            session = await wire.call("session.start", probe="bed")
            _, frames, end = await receive(session["location"])
        finally:
            await relay.close()
        assert [header["seq"] for header, _ in frames] == list(range(60))
        assert (end["frames"], end["dropped"]) == (60, 0)
