# SPDX-License-Identifier: MIT
"""Why a Docker Engine cannot be reached is told: by the engine's edge, the log, the status and answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import requests
from daemon_lab import Wire, in_process
from shared_host import free_port
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, ReadTimeoutError

from operatord.engines.base import EngineSilent, EngineUnavailable, NoDescriptors, in_full
from operatord.engines.docker.client import _Connection
from operatord.engines.docker.engine import DockerEngine
from operatord.engines.docker.reach import unreachable

TLS_ONLY = b"Client sent an HTTP request to an HTTPS server.\n"


async def told(url: str) -> EngineUnavailable:
    """Return what connecting to an engine there raises."""
    engine = DockerEngine(url, "reach", call_timeout=60, queue_timeout=60)
    try:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.connect()
    finally:
        await engine.close()
    return caught.value


@contextlib.asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[int]:
    """Have a port that answers each request with ``data``, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readline()
            writer.write(data)
            await writer.drain()
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_socket_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """F4"""
    error = await told(f"unix://{tmp_path}/none.sock")
    assert "socket is not there" in str(error)
    assert "docker_host or DOCKER_HOST" in str(error)
    assert str(tmp_path) not in str(error)
    assert not isinstance(error, EngineSilent), "there is nothing to wait for"


async def test_missing_permission_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: with what to do about it."""

    def refuse(self: _Connection) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")  # root is never told so

    monkeypatch.setattr(_Connection, "connect", refuse)
    error = await told("unix:///run/any.sock")
    assert "may not use the container engine's socket" in str(error)
    assert "docker (usermod -aG docker USER" in str(error)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_refused_connection_is_said_so(tmp_path: Path, kind: str) -> None:
    """F4"""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))  # nobody listens
        url = f"unix://{tmp_path}/dead.sock" if kind == "unix" else f"tcp://127.0.0.1:{free_port()}"
        error = await told(url)
    assert "is refused, because nothing listens at its address" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n", b'{"error":{"code":-32700}}\n', b"-ERR unknown command\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n{"ApiVersion":"1.44","Components":[3]}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n{"ApiVersion":"1.44","NCPU":"many"}',
    ],
)  # fmt: skip
async def test_somebody_else_at_the_engines_address_is_said_to_be_no_engine(said: bytes) -> None:
    """F4: the right port of another program."""
    async with answering(said) as port:
        error = await told(f"tcp://127.0.0.1:{port}")
    assert "what answers at the container engine's address is not a container engine" in str(error)
    assert not isinstance(error, EngineSilent)


@pytest.mark.parametrize("status", [b"301", b"302", b"303", b"307", b"308"])
async def test_nobody_is_followed_to_another_address_than_the_one_that_is_set(
    status: bytes,
) -> None:
    asked = list[bytes]()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as elsewhere:
        there = b"http://127.0.0.1:%d/" % elsewhere.sockets[0].getsockname()[1]
        head = b"HTTP/1.1 %b Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, there)
        async with answering(head) as port:
            error = await told(f"tcp://127.0.0.1:{port}")
    assert "sends on to another one, as no container engine does; it is not followed" in str(error)
    assert asked == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"401 Unauthorized", "wants a login, as no container engine does: correct docker_host or"),
        (
            b"407 Proxy Authentication Required",
            "wants a login, as no container engine does: correct",
        ),
        (
            b"403 Forbidden",
            "forbids the daemon to use it, as a proxy may, or a plugin of the engine",
        ),
    ],
)
async def test_who_lets_nobody_in_is_told_for_what_it_is(
    caplog: pytest.LogCaptureFixture, status: bytes, said: str
) -> None:
    """F4: and not at each try, of which there are many; the link logs each new reason once."""
    async with answering(b"HTTP/1.1 %b\r\nContent-Length: 4\r\n\r\nno!\n" % status) as port:
        error = await told(f"tcp://127.0.0.1:{port}")
    assert f"what answers at the container engine's address {said}" in str(error)
    assert not isinstance(error, EngineSilent), "there is nothing to wait for"
    assert status[:3].decode() in in_full(error), "the log has what was answered"
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_engine_that_goes_without_an_answer_is_not_said_to_be_none() -> None:
    """F4: as one does that is ended."""
    async with answering(b"") as port:
        error = await told(f"tcp://127.0.0.1:{port}")
    assert "was broken off" in str(error)
    assert isinstance(error, EngineSilent)


async def test_engine_that_speaks_tls_only_is_said_so() -> None:
    """F4"""
    head = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"
    async with answering(head + TLS_ONLY) as port:
        error = await told(f"tcp://127.0.0.1:{port}")
    assert "speaks TLS only: set DOCKER_TLS_VERIFY=1" in str(error)


async def test_engine_that_speaks_no_tls_is_said_so() -> None:
    """F4"""
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        error = await told(f"https://127.0.0.1:{port}")
    assert "TLS" in str(error) or "encrypted" in str(error)
    assert not isinstance(error, EngineSilent)


def test_certificate_that_is_not_trusted_is_said_so() -> None:
    """F4: it lies at the bottom of three libraries' exceptions."""
    bottom = ssl.SSLCertVerificationError(1, "certificate verify failed: self signed certificate")
    retried = MaxRetryError(None, "/version", bottom)  # type: ignore[arg-type]
    error = unreachable(requests.exceptions.SSLError(retried))
    assert "certificate is not trusted" in str(error)


async def test_name_that_is_not_known_is_said_so() -> None:
    """F4"""
    assert "name of the container engine's host is not known" in str(
        await told("tcp://no-such-host.invalid:2375")
    )


async def test_connection_that_is_broken_off_is_no_end_of_the_engine() -> None:
    """F4, S2: who has answered nothing yet may do so when it is asked again."""
    async with answering(b"") as port:
        error = await told(f"tcp://127.0.0.1:{port}")
    assert isinstance(error, EngineSilent)
    assert "broken off" in str(error)


async def test_reason_is_in_the_log_the_status_and_the_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F4"""
    missing = tmp_path / "none.sock"
    engine = DockerEngine(f"unix://{missing}", "reach")
    async with in_process(tmp_path / "s", engine=engine) as lab:
        wire: Wire = await lab.wire()
        status = (await wire.call("system.status"))["engine"]
        assert status["state"] == "unavailable"
        assert "socket is not there" in status["reason"]
        refused = await wire.refusal("session.start")
        assert refused.type == "engine_unavailable"
        assert "socket is not there" in refused.message
        plan = await wire.call("session.plan")
        assert "socket is not there" in plan["explanation"]["reason"]
        assert str(tmp_path) not in f"{status}{refused.message}{plan}"
    assert "socket is not there" in caplog.text
    assert "(No such file or directory)" in caplog.text, "the log has the system's own words"


async def test_log_has_the_systems_words_without_what_libraries_wrap_around_them() -> None:
    refused = await told(f"tcp://127.0.0.1:{free_port()}")
    assert in_full(refused) == f"{refused} (Connection refused)"


@pytest.mark.parametrize(
    ("at_the_bottom", "words"),
    [
        (TimeoutError("timed out"), "timed out"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (ValueError("odd"), "HTTPConnectionPool(host='h', port=None): x"),
    ],
)
def test_words_of_the_log_are_found_below_errors_of_libraries(
    at_the_bottom: Exception, words: str
) -> None:
    error = EngineUnavailable("it is away")
    wrapped = ReadTimeoutError(HTTPConnectionPool("h"), "/", "x")
    wrapped.__context__ = at_the_bottom
    error.__cause__ = requests.ConnectionError(wrapped)
    assert in_full(error) == f"it is away ({words})"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("wrapped", [requests.ConnectionError, requests.Timeout, PermissionError])
def test_want_of_descriptors_is_told_as_that_whatever_the_libraries_make_of_it(
    number: int, wrapped: type[Exception]
) -> None:
    """A7: it is this process that is short of something, and the engine is not said to be silent."""
    error = wrapped("the engine does not answer")
    error.__cause__ = OSError(number, os.strerror(number))
    found = unreachable(error)
    assert isinstance(found, NoDescriptors)
    assert "raise its limit on open files (LimitNOFILE, ulimit -n)" in str(found)
