# SPDX-License-Identifier: MIT
"""The process of the gate by itself: who is let through, what of a stream goes through, and when it ends."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from pathlib import Path

import pytest
from certificates import Authority
from daemon_lab import until
from gate_lab import HOST, MUCH, OPEN, Way, a_gate, a_stage, at

from operatord.gate.program.doorway import GREETERS


async def send_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(MUCH)
    await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take all to its end, and only then send it back."""
    writer.write(await reader.read())
    await writer.drain()


async def told(way: Way) -> str:
    """Return the reason in the one line that is all that comes."""
    line, rest = (await way[0].read()).split(b"\n")
    assert rest == b""
    said = json.loads(line)
    assert said["type"] == "error"
    return str(said["message"])


async def test_who_has_the_token_gets_every_byte(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage)
        async with at(door, OPEN) as (reader, _):
            assert await reader.read() == MUCH


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (b'{"type":"open","token":"wrong"}\n', "this is not the token"),
        (b'{"type":"open","token":"opens "}\n', "this is not the token"),
        (b'{"type":"check"}\n', "needs a token"),
        (b'{"type":"open","token":7}\n', "needs a token"),
        (b'{"type":"open","token":"wrong","token":"opens"}\n', "needs a token"),
        (b'{"type":"check","type":"open","token":"opens"}\n', "needs a token"),
        (b"[" * 4000 + b"\n", "needs a token"),
        (b"\xff\n", "needs a token"),
        (b"x" * 4097, "more than 4096 bytes"),
        (b'{"type":"open",', "no first line came within 2 s"),
    ],
)
async def test_who_has_not_is_told_what_to_say(tmp_path: Path, first: bytes, why: str) -> None:
    came: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(b"somebody")

    async with a_gate(tmp_path) as gate, a_stage(note) as stage:
        async with at(await gate.open(stage), first) as way:
            assert why in (said := await told(way))
            assert '{"type":"open","token":"…"}' in said
        await gate.ask(do="list")
        assert [each["why"] for each in gate.heard] == [said]
        assert gate.heard[0]["peer"] == HOST
        assert came == []


async def test_what_follows_the_first_line_is_the_stages(tmp_path: Path) -> None:
    async with (
        a_gate(tmp_path) as gate,
        a_stage(echo) as stage,
        at(await gate.open(stage), OPEN + b"more\n") as (reader, writer),
    ):
        writer.write(MUCH)
        writer.write_eof()
        assert await reader.read() == b"more\n" + MUCH


async def test_only_the_address_that_has_asked_may_read(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage, allow="requester", requesters=["127.0.0.2"])
        async with at(door, local_addr=("127.0.0.2", 0)) as (reader, _):
            assert await reader.read() == MUCH
        async with at(door, local_addr=("127.0.0.3", 0)) as way:
            assert "only the address that has asked" in await told(way)


async def test_requester_is_known_on_a_socket_of_both_families(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage, listen="::", allow="requester", requesters=["127.0.0.2"])
        async with at(door, local_addr=("127.0.0.2", 0)) as (reader, _):
            assert await reader.read() == MUCH


async def test_door_on_ipv6(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage, listen="::1")
        async with at(door, OPEN, host="::1") as (reader, _):
            assert await reader.read() == MUCH
        door = await gate.open(stage, listen="::1", allow="requester", requesters=["::1"])
        async with at(door, host="::1") as (reader, _):
            assert await reader.read() == MUCH
        door = await gate.open(stage, listen="::1", allow="requester", requesters=["2001:db8::1"])
        async with at(door, host="::1") as way:
            assert "only the address that has asked" in await told(way)


async def test_everybody_may_read_where_the_settings_say_so(tmp_path: Path) -> None:
    async with (
        a_gate(tmp_path) as gate,
        a_stage(send_much) as stage,
        at(await gate.open(stage, allow="any")) as (reader, _),
    ):
        assert await reader.read() == MUCH


async def test_with_tls_every_byte_goes_through_and_without_it_none(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = [str(file) for file in authority.sign("gate")]
    context = ssl.create_default_context(cafile=str(authority.certificate))
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage, tls=files)
        async with at(door, OPEN, ssl=context) as (reader, _):
            assert await reader.read() == MUCH
        async with at(door, b"{}\n", ssl=context) as way:
            assert "needs a token" in await told(way)
        async with at(door, OPEN) as way:
            assert "comes over TLS only" in await told(way)


async def test_certificates_are_read_anew_and_bad_ones_are_not_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("gate")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage, tls=[str(cert), str(key)])

        async def serial() -> str:
            async with at(door, OPEN, ssl=context) as (_, writer):
                return str(writer.get_extra_info("peercert")["serialNumber"])

        first = await serial()
        good = cert.read_bytes()
        cert.write_text("nothing")
        assert not (await gate.ask(do="certificates"))["ok"]
        assert await serial() == first
        cert.write_bytes(good)
        authority.sign("gate")
        assert (await gate.ask(do="certificates"))["ok"]
        assert await serial() != first


async def test_stage_is_held_up_by_who_does_not_read(tmp_path: Path) -> None:
    sent, most = 0, 1 << 30

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < most:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with a_gate(tmp_path) as gate, a_stage(count) as stage:
        door = await gate.open(stage)
        with socket.create_connection((HOST, door)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(OPEN)
            before = -1
            while before != sent:  # until nothing more is taken
                before = sent
                await asyncio.sleep(0.3)
            assert 0 < sent < most


async def test_stage_sees_at_once_that_its_consumer_was_killed(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"frame")
        try:
            await reader.read()
        finally:
            gone.set()

    async with a_gate(tmp_path) as gate, a_stage(watch) as stage:
        with socket.create_connection((HOST, await gate.open(stage))) as sock:
            sock.sendall(OPEN)
            assert await asyncio.to_thread(sock.recv, 5) == b"frame"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with asyncio.timeout(5):
            await gone.wait()


async def test_crowd_that_says_nothing_keeps_nobody_out(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage)
        crowd = [socket.create_connection((HOST, door)) for _ in range(3 * GREETERS)]
        async with at(door, OPEN) as (reader, _):
            assert await reader.read() == MUCH
        for each in crowd:
            each.close()


async def test_door_lets_so_many_through_at_once(tmp_path: Path) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()

    async with a_gate(tmp_path) as gate, a_stage(hold) as stage:
        door = await gate.open(stage, most=1)
        async with at(door, OPEN) as (reader, _):
            assert await reader.readexactly(5) == b"hello"
            async with at(door, OPEN) as way:
                assert "this stream has as many readers" in await told(way)
        while True:  # until it is noticed that there is room again
            async with at(door, OPEN) as (reader, _):
                if await reader.readexactly(5) == b"hello":
                    return


async def test_stage_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        async with a_stage(echo) as stage:
            door = await gate.open(stage)
        async with at(door, OPEN) as way:
            assert "does not answer any more" in await told(way)


async def test_closed_door_lets_those_finish_who_read(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage)
        async with at(door, OPEN) as (reader, _):
            assert await reader.readexactly(1000) == MUCH[:1000]
            await gate.ask(do="close", door="s/stream")
            assert await reader.read() == MUCH[1000:]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, door)


async def test_range_of_ports_is_kept_to(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(echo) as stage:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            refused = await gate.ask(
                do="open", door="x", listen=HOST, port=0, ports=[port, port], target=[HOST, stage],
                allow="any", requesters=[], most=1,
            )  # fmt: skip
            assert refused == {
                "ok": False,
                "error": f"no port of gate_ports ({port}-{port}) is free",
            }
        assert await gate.open(stage, ports=[port, port]) == port


async def test_many_streams_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate, a_stage(echo) as stage:
        door = await gate.open(stage)
        proc = Path(f"/proc/{gate.process.pid}")

        def held() -> tuple[int, int]:
            return len([*(proc / "fd").iterdir()]), len([*(proc / "task").iterdir()])

        before = held()
        for _ in range(30):
            async with at(door, OPEN + b"x") as (reader, writer):
                writer.write_eof()
                assert await reader.read() == b"x"
        await until(lambda: held() == before, "nothing more is held than before")


async def test_gate_that_nobody_needs_ends(tmp_path: Path) -> None:
    async with a_gate(tmp_path, linger=0.2) as gate, a_stage(send_much) as stage:
        await gate.open(stage)
        await gate.ask(do="close", door="s/stream")
        gate.writer.close()
        assert await gate.ended() == 0


async def test_gate_whose_directory_is_gone_ends_with_its_streams(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    async with a_gate(folder, linger=0.4) as gate, a_stage(send_much) as stage:
        door = await gate.open(stage)
        async with at(door, OPEN) as (reader, _):
            await reader.readexactly(10)
            gate.writer.close()
            (folder / "gate.sock").unlink()
            assert len(await reader.read()) == len(MUCH) - 10
        assert await gate.ended() == 0


async def test_gate_that_is_told_to_end_takes_its_socket_with_it(tmp_path: Path) -> None:
    """Its streams end without an end of their own: they were cut short."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"frame")
        await reader.read()

    async with a_gate(tmp_path) as gate, a_stage(hold) as stage:
        async with at(await gate.open(stage), OPEN) as (reader, _):
            assert await reader.readexactly(5) == b"frame"
            gate.process.terminate()
            assert await reader.read() == b""
        assert await gate.ended() == 0
        assert not (tmp_path / "gate.sock").exists()


async def test_gate_that_ends_leaves_the_socket_of_another_one_alone(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        path = tmp_path / "gate.sock"
        path.unlink()
        path.touch()
        gate.process.terminate()
        assert await gate.ended() == 0
        assert path.exists()
