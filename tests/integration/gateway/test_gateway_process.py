# SPDX-License-Identifier: MIT
"""The gateway is a process of its own: its death takes nothing along, and the daemon's takes it along."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import aiohttp
import psutil
import pytest
from daemon_lab import (
    OPERATORD,
    Served,
    StreamingFake,
    clean_env,
    in_process,
    served,
    settings,
    until,
)
from gateway_lab import Caller, gatewayed

from operatord.access import tokens
from operatord.daemon import Daemon, Parts, gateway, listening
from operatord_client.address import parse_address

HTTP = {"engine": "process", "http": {"listen": "127.0.0.1:0"}}


def children(daemon: Served) -> list[psutil.Process]:
    """Return the gateways of a daemon."""
    found = psutil.Process(daemon.process.pid).children()
    return [each for each in found if "--from-daemon" in each.cmdline()]


async def http_of(daemon: Served) -> Caller:
    entry = await daemon.logged("listening on http://")
    assert entry is not None
    place = parse_address(entry["message"].split("http://")[1].partition(",")[0])
    return Caller((place[0], int(place[1])))


async def test_a_gateway_that_is_killed_is_there_again_and_nothing_else_has_noticed(
    tmp_path: Path,
) -> None:
    async with served(tmp_path / "state", config=HTTP) as daemon:
        http = await http_of(daemon)
        started = await http.post("/post/", {"count": 100_000, "plain_stream": True})
        location = started.json["location"]
        reader, writer = await asyncio.open_connection(location["host"], location["port"])
        await reader.readline()
        for times in (1, 2):
            (before,) = children(daemon)
            before.send_signal(signal.SIGKILL)
            assert (
                await http.get("/healthz")
            ).status == 200  # its socket is the daemon's: it waits
            (after,) = children(daemon)
            assert after.pid != before.pid
            status = await http.call("system.status")
            (trouble,) = status["troubles"]
            assert (trouble["task"], trouble["times"]) == ("the gateway for HTTP", times)
        assert trouble["error"] == "it was ended by SIGKILL, and was started again"
        assert await reader.readexactly(100_000)  # frames go on
        writer.close()
        got = await http.call("session.get", session_id=started.json["session_id"])
        assert got["phase"] == "running"


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_daemon_that_is_killed_takes_its_gateway_along_and_the_next_one_has_its_own(
    tmp_path: Path, is_stopped: bool
) -> None:
    """A gateway that is stopped cannot see that its daemon has gone, and would keep the next one's port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {**HTTP, "http": {"listen": f"127.0.0.1:{port}"}}
    async with served(tmp_path / "state", config=config) as daemon:
        http = Caller(("127.0.0.1", port))
        assert (await http.get("/readyz")).status == 200
        (old,) = children(daemon)
        if is_stopped:
            old.suspend()
        assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        async with served(tmp_path / "state", config=config) as after:  # at once
            await until(lambda: not _lives(old), "the old gateway has gone")
            assert (await http.get("/readyz")).status == 200
            (new,) = children(after)
            assert new.pid != old.pid


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


async def test_a_daemon_that_ends_answers_who_waits_and_ends_its_gateway(tmp_path: Path) -> None:
    async with served(tmp_path / "state", config=HTTP) as daemon:
        http = await http_of(daemon)
        started = await http.post("/post/", {"plain_stream": True})
        (process,) = children(daemon)
        params = {"session_id": started.json["session_id"]}
        waiting = asyncio.create_task(http.post("/api/v1/session.wait", params))
        await until_asked(http)
        assert await daemon.stop() == 0
        assert (await waiting).json["phase"] == "ended"
        assert not _lives(process)


async def until_asked(http: Caller) -> None:
    """Return once the request before this one has been passed on: connections are taken in order."""
    assert (await http.get("/readyz")).status == 200


async def test_a_gateway_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gatewayed(tmp_path / "state") as daemon:
        assert (await daemon.http.get("/healthz")).status == 200
        wire, before = await daemon.lab.wire(), daemon.pid
        monkeypatch.setattr(gateway, "HANGS", 4)  # it gives a sign of life every two looks
        os.kill(before, signal.SIGSTOP)
        assert (await daemon.http.get("/healthz")).status == 200  # by another one
        assert daemon.pid != before
        (trouble,) = (await wire.call("system.status"))["troubles"]
        assert trouble["error"] == "it hung and was killed, and was started again"


async def test_one_that_breaks_at_once_is_tried_again_with_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "COMMAND", ("/bin/sh", "-c", "exit 3"))
    async with gatewayed(tmp_path / "state") as daemon:
        wire = await daemon.lab.wire()

        async def times() -> int:
            troubles = (await wire.call("system.status"))["troubles"]
            return troubles[0]["times"] if troubles else 0

        async def twice() -> bool:
            return await times() >= 2

        await until(twice, "it was tried again")
        assert (await wire.call("session.start", plain_stream=True))["phase"] == "running"


async def test_a_program_that_is_not_there_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "COMMAND", (str(tmp_path / "none"),))
    async with gatewayed(tmp_path / "state") as daemon:
        wire = await daemon.lab.wire()

        async def shown() -> bool:
            troubles = (await wire.call("system.status"))["troubles"]
            return bool(troubles) and "cannot be started: No such file" in troubles[0]["error"]

        await until(shown, "system.status says it")


async def test_an_address_that_is_in_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "IN_USE", 0.1)
    (state := tmp_path / "state").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        daemon = Daemon(settings(state, {"http": {"listen": listen}}), parts=Parts(StreamingFake()))
        with pytest.raises(OSError, match="in use") as caught:
            await daemon.start()
        await daemon.stop()
    assert caught.value.filename == f"http.listen: {listen}"


async def test_the_gateway_has_nothing_of_the_daemons_but_its_sockets(tmp_path: Path) -> None:
    async with served(tmp_path / "state", config=HTTP) as daemon:
        http = await http_of(daemon)
        assert (await http.get("/healthz")).status == 200
        (process,) = children(daemon)
        assert process.open_files() == []
        listening = [each for each in process.net_connections("tcp") if each.status == "LISTEN"]
        assert {each.laddr.port for each in listening} == {http.address[1]}
        assert os.getsid(process.pid) == process.pid


# By hand


async def by_hand(
    *arguments: str, listen: str = "127.0.0.1:0"
) -> tuple[asyncio.subprocess.Process, Caller]:
    process = await asyncio.create_subprocess_exec(
        OPERATORD, "gateway", "--listen", listen, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=clean_env(),
    )  # fmt: skip
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    if listen != "127.0.0.1:0":
        assert "unencrypted" in line
        line = (await process.stderr.readline()).decode()
    assert "answering at http://" in line, line
    return process, Caller(("127.0.0.1", int(line.strip().rstrip("/").rpartition(":")[2])))


async def test_by_hand_it_is_a_client_like_others(tmp_path: Path) -> None:
    async with in_process(tmp_path / "state") as lab:
        host, port = lab.address
        process, http = await by_hand("--address", f"{host}:{port}")
        assert (await http.post("/post/", {"plain_stream": True})).status == 200
        assert (await http.get("/readyz")).json == {"ready": True}
        process.terminate()
        assert await process.wait() == 0


async def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    process, http = await by_hand("--address", str(tmp_path / "none.sock"))
    said = await http.post("/post/", {})
    assert (said.status, said.error["type"]) == (503, "daemon_unavailable")
    assert (await http.get("/healthz")).status == 200
    assert ((await http.get("/readyz")).status, (await http.get("/readyz")).json) == (
        503,
        {"ready": False},
    )
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize("tokens_there", [False, True])
async def test_by_hand_other_machines_need_a_token_whatever_the_daemon_asks(
    tmp_path: Path, tokens_there: bool
) -> None:
    """On an address that they reach, it asks for one itself, and for one that the daemon has looked at."""
    _, text = tokens.new(tmp_path / "tokens", "ada", "operator", "now")
    auth = {"auth": {"tokens": str(tmp_path / "tokens")}} if tokens_there else {}
    async with in_process(tmp_path / "state", auth) as lab, aiohttp.ClientSession() as session:
        host, port = lab.address
        process, http = await by_hand("--address", f"{host}:{port}", listen="0.0.0.0:0")
        for said in (await http.post("/post/", {}), await http.post("/post/", {}, "opd_wrong")):
            assert (said.status, said.error["type"]) == (401, "unauthorized")
        url = f"http://127.0.0.1:{http.address[1]}/api/v1/socket"
        login = {"method": "auth.login", "params": {"token": text}}
        for first in (
            {"method": "system.status"},
            {"count": 5},
            {**login, "params": {"token": "x"}},
        ):
            async with session.ws_connect(url) as socket:
                await socket.send_json(first)
                await socket.send_json({"count": 5})
                assert (await socket.receive_json())["error"]["data"]["type"] == "unauthorized"
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with session.ws_connect(url) as socket:  # and says nothing
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert lab.fake.empty
        assert (await http.post("/post/", {"count": 5}, text)).status == (
            200 if tokens_there else 401
        )
        async with session.ws_connect(url) as socket:
            await socket.send_json(login)
            assert ("result" in await socket.receive_json()) is tokens_there
        process.terminate()
        assert await process.wait() == 0
