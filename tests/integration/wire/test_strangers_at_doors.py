# SPDX-License-Identifier: MIT
"""Whoever reaches a listener and is nobody: what they hold, what they are told, and whom they keep out."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from daemon_lab import Served, Wire, receive, served, until
from guarded_lab import guarded
from test_doors import House, house

from operatord.access import tokens
from operatord.control.wire import handshakes


@contextlib.contextmanager
def silent(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    """Connect so often and say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(address)) for _ in range(count)]


def shaking(daemon: House) -> int:
    """Return how many handshakes are under way."""
    return len(daemon.lab.daemon.server._handshakes._going)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_hundreds_who_say_nothing_hold_up_no_login_over_tls(tmp_path: Path) -> None:
    async with house(tmp_path, "user") as daemon:
        with silent(daemon.address("tls", "token"), 600):
            await until(lambda: shaking(daemon) == handshakes.MOST, "they are all accepted")
            begun = time.monotonic()
            wire = await daemon.wire("tls", "token")
            assert (await wire.call("system.ping"))["pong"]
            assert time.monotonic() - begun < handshakes.SECONDS / 2


async def test_handshake_has_its_time_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "SECONDS", 0.1)
    async with house(tmp_path, "user") as daemon:
        for begin in (b"", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection(*daemon.address("tls", "token"))
            writer.write(begin)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        await until(lambda: shaking(daemon) == 0, "nobody is in it any more")


async def test_handshakes_count_among_the_connections_of_an_address(tmp_path: Path) -> None:
    limits = {"connections_per_address": 3}
    async with house(tmp_path, "user", limits=limits) as daemon:
        address = daemon.address("tls", "token")
        wire = await daemon.wire("tls", "token")
        with silent(address, 3) as [first, *others]:
            await until(lambda: closed(first), "the first has given way")
            assert not any(map(closed, others))
            assert shaking(daemon) == 2
        assert (await wire.call("system.ping"))["pong"]


def closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        try:
            return sock.recv(1) == b""
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize("line", [b'{"count":5}\n', b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00"])
async def test_who_speaks_no_tls_reads_that_it_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    caplog.set_level("INFO", "operatord.audit")
    async with house(tmp_path, "user") as daemon:
        wire = await Wire.connect(daemon.address("tls", "token"))
        wire.writer.write(line)
        error = (await wire.line())["error"]
        assert error["data"]["type"] == "parse_error"
        assert "this port speaks TLS" in error["message"]
        assert await wire.at_end()
        await wire.close()
        await until(lambda: "PLAIN_TEXT" in caplog.text, "it is written down")


async def test_certificate_without_a_role_is_named(tmp_path: Path) -> None:
    async with house(tmp_path, None) as daemon:
        refused = await (await daemon.wire("tls", "cert")).refusal("system.status")
        assert refused.type == "unauthorized"
        assert "'ada'" in refused.message and "auth.certificates" in refused.message


async def test_who_has_not_logged_in_keeps_nobody_out(tmp_path: Path) -> None:
    async with guarded(tmp_path, limits={"connections": 4}) as door:
        strangers = [await door.lab.wire() for _ in range(4)]
        await until(lambda: door.lab.daemon.server.connections == 4, "they are all there")
        ada = await door.wire("ada", "user")
        error = (await strangers[0].line())["error"]
        assert error["data"]["type"] == "too_many_requests"
        assert "has not logged in" in error["message"]
        await asyncio.gather(*(door.wire("bob", "user") for _ in range(3)))
        assert (await ada.call("system.ping"))["pong"]
        [told] = [await (await door.lab.wire()).line()]
        assert "limits.connections" in told["error"]["message"]


async def test_file_without_any_token_is_not_taken_on_reload(tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        operator = await door.wire("root", "operator")
        door.file.write_text("")
        refused = await operator.refusal("system.reload")
        assert refused.type == "conflict"
        assert "auth.tokens: the file has no tokens any more" in refused.message
        assert (await operator.call("system.status"))["role"] == "operator"


async def test_last_token_that_is_revoked_opens_nothing_after_a_reload(tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        _, text = door.token("root", "operator")
        await door.lab.daemon.reloading.reload()
        operator = await door.lab.wire()
        await operator.call("auth.login", token=text)
        for token in tokens.read(door.file):
            assert tokens.revoke(door.file, token.id)
        await door.lab.daemon.reloading.reload()
        assert "is no longer valid" in (await operator.line())["error"]["message"]
        stranger = await door.lab.wire()
        refused = await stranger.refusal("auth.login", token=text)
        assert refused.message == "the token is wrong"
        tokens.new(door.file, "root", "operator", "now")
        assert len(tokens.read(door.file)) == 1


async def test_certificates_of_an_authority_that_is_believed_no_more_end_with_a_reload(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, "operator") as daemon:
        believed = daemon.authority.certificate
        old, boss = await daemon.wire("tls", "cert"), await daemon.wire("tcp", "token")
        first = believed.read_text()
        other = Authority(tmp_path, "other").certificate.read_text()
        believed.write_text(other + first)
        await boss.call("system.reload")
        assert (await old.call("system.ping"))["pong"], "one more is believed"
        believed.write_text(other)
        await boss.call("system.reload")
        assert "is no longer valid" in (await old.line())["error"]["message"]
        assert await old.at_end()
        assert (await boss.call("system.ping"))["pong"]


async def test_session_can_be_started_while_connections_take_all_descriptors(
    tmp_path: Path,
) -> None:
    """The cap on connections comes from RLIMIT_NOFILE, less what the daemon and a session need."""
    below = ("prlimit", "--nofile=256:256")
    config = {"engine": "process", "limits": {"connections": 10_000}}
    async with served(tmp_path / "s", config=config, below=below) as daemon:
        wire = await daemon.wire()
        with silent(daemon.address, 400):
            await until(lambda: is_full(daemon), "no more are let in")
            assert 100 < (await wire.call("system.status"))["connections"] < 256
            session = await wire.call("session.start", count=5, plain_stream=True)
            _, frames, _ = await receive(session["location"])
            assert len(frames) == 5
        await wire.close()


async def is_full(daemon: Served) -> bool:
    """Tell whether a connection is refused for the descriptors there are."""
    wire = await daemon.wire()
    wire.send({"method": "system.ping"})
    told = await wire.line()
    await wire.close()
    return "open files" in told.get("error", {}).get("message", "")
