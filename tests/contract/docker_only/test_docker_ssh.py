# SPDX-License-Identifier: MIT
"""An engine at an ssh:// address: what hinders a connection is told (what works: test_docker_ways)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shared_host import free_port
from sshd import ssh_server

from operatord.engines.base import EngineSilent, EngineUnavailable
from operatord.engines.docker.engine import DockerEngine


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of any host, and there are no keys, but in the test's own home."""
    monkeypatch.setenv("HOME", str(tmp_path / "ssh" / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


async def told(url: str) -> str:
    """Return what hinders a connection."""
    engine = DockerEngine(url, "ssh")
    try:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.connect()
    finally:
        await engine.close()
    assert not isinstance(caught.value, EngineSilent), "there is nothing to wait for"
    return str(caught.value)


async def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """E5, F4"""
    monkeypatch.setitem(sys.modules, "paramiko", None)
    said = await told("ssh://somebody@example.invalid")
    assert "paramiko, which is not installed: pip install 'operatord[ssh]'" in said


def test_library_is_loaded_for_an_ssh_address_only() -> None:
    """docker-py would load it, and each daemon would start that much later."""
    script = (
        "import sys, operatord.engines.docker.engine; "
        "print('docker' in sys.modules, 'paramiko' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"


async def test_nobody_listens() -> None:
    """F4"""
    pytest.importorskip("paramiko")
    assert "refused, because nothing listens" in await told(f"ssh://me@127.0.0.1:{free_port()}")


async def test_host_that_is_not_trusted_or_does_not_trust_is_told(tmp_path: Path) -> None:
    """E5: as one may find it after another."""
    pytest.importorskip("paramiko")
    with ssh_server(tmp_path / "ssh") as server:
        known, own = server.known_hosts.read_text(), server.authorized.read_text()
        server.known_hosts.unlink()
        assert "the ssh key of the engine's host is not known" in await told(server.url)
        address, kind, _ = known.split(" ", 2)
        _, other = own.split(" ")[:2]
        server.known_hosts.write_text(f"{address} {kind} {other}\n")
        assert "is not the known one" in await told(server.url)
        server.known_hosts.write_text(known)
        server.authorized.write_text("")
        assert "refuses the ssh keys of the user that operatord runs as" in await told(server.url)


async def command_that(folder: Path, *lines: str) -> str:
    with ssh_server(folder, *lines) as server:
        return await told(server.url)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ForceCommand no-such-command", "the docker command is not there on the engine's host"),
        ("SetEnv DOCKER_HOST=unix:///no/such.sock", "no container engine answers the docker command"),
        (
            "ForceCommand echo 'dial unix /x: connect: permission denied' >&2; exit 1",
            "may not use the container engine's socket there",
        ),
    ],
)  # fmt: skip
async def test_what_hinders_the_command_there_is_told(tmp_path: Path, line: str, said: str) -> None:
    """E5: the command says it on its standard error."""
    pytest.importorskip("paramiko")
    assert said in await command_that(tmp_path / "ssh", line)


async def test_connections_are_shared_and_another_is_made_where_one_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E5: a host that allows fewer sessions on a connection than ours, too."""
    pytest.importorskip("paramiko")
    from operatord.engines.docker_host import ssh as docker_ssh

    monkeypatch.setattr(docker_ssh, "CHANNELS", 3)
    with ssh_server(tmp_path / "ssh", "MaxSessions 2", "ForceCommand cat") as server:
        ssh = docker_ssh.SshConnections(server.url)
        channels = [ssh.open(30) for _ in range(5)]
        assert len(ssh._connections) == 3
        for channel in channels:
            channel.sendall(b"x")
            assert channel.recv(1) == b"x"
        channels[0].close()
        ssh.open(30)
        assert len(ssh._connections) == 3, "a place that is free again is used"
        ssh.close()
        ssh.close()
