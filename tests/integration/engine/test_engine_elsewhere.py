# SPDX-License-Identifier: MIT
"""An engine on another machine: its host is the default of locations, and nothing here is taken for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Wire, in_process, settings

from operatord.daemon import Daemon, counting
from operatord.engines.docker_host import endpoint as docker_endpoint
from operatord.machine.routes import Route
from operatord.provision import subnet_count
from operatord.settings import advertised, choice
from operatord.settings.advertised import LOOPBACK, Advertised
from operatord.settings.config import ConfigError
from operatord.settings.loading import from_dict

FAR = "192.0.2.1"
"""An address that is nobody's (RFC 5737)."""
ELSEWHERE: Mapping[str, Any] = {"docker_host": f"tcp://{FAR}:2375", "advertise_host": LOOPBACK}


def names(monkeypatch: pytest.MonkeyPatch, **known: str) -> None:
    """Let these names, with underscores for points, be all that are known."""

    def look_up(host: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        address = known.get(host.replace(".", "_"), host if host[0].isdigit() else None)
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (address, 0))]

    monkeypatch.setattr(advertised.socket, "getaddrinfo", look_up)


def located(url: str, **settings: str) -> Advertised:
    """Return what locations have, and what is published on, for an engine there."""
    config = from_dict({"docker_host": url, **settings})
    return advertised.advertised(config, choice.engine_host(config, {}))


@pytest.mark.parametrize(
    ("url", "host", "address"),
    [
        ("unix:///run/docker.sock", LOOPBACK, LOOPBACK),
        ("tcp://127.0.0.1:2375", LOOPBACK, LOOPBACK),
        ("tcp://localhost:2375", LOOPBACK, LOOPBACK),
        ("tcp://here.example:2375", LOOPBACK, LOOPBACK),
        (f"tcp://{FAR}:2376", FAR, FAR),
        ("tcp://there.example:2376", "there.example", FAR),
        ("ssh://me@there.example", "there.example", FAR),
    ],
)
def test_locations_have_the_engines_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, host: str, address: str
) -> None:
    """E7"""
    monkeypatch.setenv("HOME", str(tmp_path))
    names(monkeypatch, here_example=LOOPBACK, there_example=FAR)
    assert located(url)[:2] == (host, address)
    assert located(url, advertise_host="192.0.2.7") == Advertised("192.0.2.7", "192.0.2.7")


def test_name_of_the_users_ssh_configuration_is_looked_up_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E7"""
    pytest.importorskip("paramiko")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(f"Host lab\n    HostName {FAR}\n")
    names(monkeypatch)
    assert located("ssh://lab") == Advertised(FAR, FAR)


def test_host_that_nobody_knows_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """E7: with what to set."""
    names(monkeypatch)
    with pytest.raises(ConfigError, match="advertise_host: no address is known for the name there"):
        located("tcp://there.example:2376")


async def test_nothing_of_this_machine_is_told_or_counted_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E7, F16: neither its figures nor its graphics cards nor its routes."""

    async def found() -> list[Any]:
        raise AssertionError("this machine's graphics cards are not the engine's")

    monkeypatch.setattr(counting, "find_gpus", found)
    monkeypatch.setattr(subnet_count, "host_routes", lambda: [Route("10.0.0.0/8", "vpn0")])
    async with in_process(tmp_path / "s", ELSEWHERE) as lab:
        wire: Wire = await lab.wire()
        status = await wire.call("system.status")
        assert status["host"] == {}
        assert list(status["measured"]) == ["daemon"]
        assert status["capacity"]["cpus"] == 4.0, "as the engine says"
        assert status["capacity"]["memory"] <= 8 << 30
        session = await wire.call("session.start", plain_stream=True)
        assert session["location"]["host"] == LOOPBACK


async def test_local_processes_for_want_of_an_engine_are_a_warning_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F5: with all that was looked at."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(docker_endpoint, "sockets", lambda env: [tmp_path / "docker.sock"])
    alone = Daemon(settings(tmp_path / "s"))
    await alone.start()
    await alone.stop()
    [said] = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert said.startswith("no container engine was found")
    assert f"there is none of {tmp_path / 'docker.sock'}" in said


async def test_probe_that_only_this_machine_reaches_is_said_to_need_another_address(
    tmp_path: Path,
) -> None:
    """E7: a relay can listen only where the session's network is."""

    async def say_hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"type":"hello","stream":"probe","width":2,"height":2}\n')
        writer.close()

    async with (
        await asyncio.start_server(say_hello, LOOPBACK, 0) as probe,
        in_process(tmp_path / "s", ELSEWHERE) as lab,
    ):
        wire, port = await lab.wire(), probe.sockets[0].getsockname()[1]
        await wire.call("probe.register", name="own", host=LOOPBACK, port=port)
        refused = await wire.refusal("session.start", plain_stream=True, probe="own")
    assert "only the daemon's machine reaches the probe" in refused.message
    assert "register the probe with an address that the engine's host reaches" in refused.message
