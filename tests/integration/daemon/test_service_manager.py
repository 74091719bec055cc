# SPDX-License-Identifier: MIT
"""What the daemon says to its service manager, and the sockets that it has from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from daemon_lab import OPERATORD, PATIENCE, Served, Wire, clean_env, run, served

from operatord.systemd.notify import Notifier

PROCESS = ("--engine", "process")
HAND_OVER = """
import os, sys
given, program = sys.argv[1].split(","), sys.argv[2:]
for place, fd in enumerate(given):
    os.dup2(int(fd), 100 + place)
for place, fd in enumerate(given):
    os.dup2(100 + place, 3 + place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": "x"}
os.execvp(program[0], program)
"""
"""Does what systemd does: the sockets are descriptors 3 and on of the program that follows."""


class Manager:
    """The end of the service manager: a datagram socket, as systemd has it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.env = {"NOTIFY_SOCKET": str(path)}
        self.heard: list[list[str]] = []

    async def hears(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        """Return the lines of the next message that is ``wanted``."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while True:
                self.heard.append((await loop.sock_recv(self.socket, 4096)).decode().split("\n"))
                if wanted(self.heard[-1]):
                    return self.heard[-1]

    async def hears_line(self, line: str) -> list[str]:
        return await self.hears(lambda message: line in message)

    def rest(self) -> list[list[str]]:
        """Return all that has come until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self.socket.recv(4096).decode().split("\n"))
        return self.heard


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    with made.socket:
        yield made


async def test_ready_is_said_once_it_serves(tmp_path: Path, manager: Manager) -> None:
    async with served(tmp_path / "s", *PROCESS, env=manager.env, wait_for="operatord ") as daemon:
        ready = await manager.hears(lambda message: message[0] == "READY=1")
        assert ready[1] == "STATUS=sessions: none; engine process: up"
        entry = await daemon.logged("listening on 127.")
        assert entry is not None
        host, _, port = entry["message"].removeprefix("listening on ").rpartition(":")
        await (await Wire.connect((host, int(port)))).close()
    first, *_ = manager.heard
    assert first == ["EXTEND_TIMEOUT_USEC=40000000", "STATUS=starting"]


async def test_status_follows_the_sessions(tmp_path: Path, manager: Manager) -> None:
    async with served(tmp_path / "s", *PROCESS, env=manager.env) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        await manager.hears_line("STATUS=sessions: 1 running; engine process: up")
        await wire.call("session.stop", session_id=session["session_id"])
        await manager.hears_line("STATUS=sessions: none; engine process: up")
        await wire.close()


async def test_reloading_is_followed_by_ready_whatever_came_of_it(
    tmp_path: Path, manager: Manager
) -> None:
    async with served(tmp_path / "s", *PROCESS, env=manager.env) as daemon:
        await manager.hears(lambda message: message[0] == "READY=1")
        for text in ("limits: {sessions: 5}\n", "limits: {sesions: 5}\n"):
            daemon.state_dir.with_suffix(".yaml").write_text(text)
            asked = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            daemon.process.send_signal(signal.SIGHUP)
            message = await manager.hears(lambda message: message[0] == "RELOADING=1")
            name, _, moment = message[1].partition("=")
            assert name == "MONOTONIC_USEC"
            assert asked <= int(moment) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            await manager.hears(lambda message: message[0] == "READY=1")


async def test_stopping_is_the_last_thing_said(tmp_path: Path, manager: Manager) -> None:
    config = {"shutdown_timeout": 100}
    async with served(tmp_path / "s", *PROCESS, env=manager.env, config=config) as daemon:
        assert await daemon.stop() == 0
    assert manager.rest()[-1] == [
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=130000000",
        "STATUS=stopping",
    ]


async def test_signs_of_life_come_until_the_end(tmp_path: Path, manager: Manager) -> None:
    env = {**manager.env, "WATCHDOG_USEC": "100000"}
    async with served(tmp_path / "s", *PROCESS, env=env):
        for _ in range(3):
            await manager.hears_line("WATCHDOG=1")
    assert manager.heard[-4][0] != "WATCHDOG=1", "it was fed before it was ready"


async def test_a_watchdog_of_another_process_is_not_fed(tmp_path: Path, manager: Manager) -> None:
    env = {**manager.env, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    async with served(tmp_path / "s", *PROCESS, env=env):
        pass
    assert ["WATCHDOG=1"] not in manager.rest()


async def test_stages_inherit_no_word_of_it(tmp_path: Path, manager: Manager) -> None:
    """One that knows the address could say that the daemon is ready, or ends."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        async with handed_over(tmp_path, given, env=manager.env) as daemon:
            wire = await daemon.wire()
            await wire.call("session.start", plain_stream=True)
            stages = psutil.Process(daemon.process.pid).children(recursive=True)
            assert stages
            for stage in stages:
                assert {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"}.isdisjoint(stage.environ())
            await wire.close()


async def test_a_manager_that_is_not_there_is_told_of_once(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    async with served(tmp_path / "s", *PROCESS, env=env) as daemon:
        assert await daemon.stop() == 0
    assert sum("NOTIFY_SOCKET" in entry.get("message", "") for entry in daemon.log) == 1


async def test_nothing_is_lost_while_the_manager_reads_nothing(manager: Manager) -> None:
    notifier = Notifier(manager.env["NOTIFY_SOCKET"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                others.sendto(b"STATUS=of others", manager.env["NOTIFY_SOCKET"])
    for message in ("READY=1", "STATUS=old", "RELOADING=1", "STATUS=new", "READY=1"):
        notifier.send(message)
    assert ["READY=1"] not in manager.rest()
    del manager.heard[:]
    await manager.hears_line("READY=1")
    assert manager.heard == [["RELOADING=1"], ["STATUS=new"], ["READY=1"]]
    notifier.close()


async def test_an_address_may_be_abstract() -> None:
    name = f"operatord-tests/notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{name}")
        notifier = Notifier(f"@{name}")
        notifier.send("READY=1", "STATUS=x")
        assert end.recv(100) == b"READY=1\nSTATUS=x"
        notifier.close()


# Sockets


def handed_over(
    tmp_path: Path, *sockets: socket.socket, arguments: str = "", **more: Any
) -> contextlib.AbstractAsyncContextManager[Served]:
    """Serve on ``sockets``, which were made for it."""
    numbers = [sock.fileno() for sock in sockets]
    below = (sys.executable, "-c", HAND_OVER, ",".join(map(str, numbers)))
    return served(
        tmp_path / "s", *PROCESS, *arguments.split(), below=below, pass_fds=numbers, **more
    )


async def pong(address: tuple[str, int] | Path) -> bool:
    wire = await Wire.connect(address)
    try:
        return bool((await wire.call("system.ping"))["pong"])
    finally:
        await wire.close()


def unix_socket(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


async def test_sockets_are_served_beside_listen_by_one_daemon_after_the_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sock"
    with socket.create_server(("127.0.0.1", 0)) as tcp, unix_socket(path) as unix:
        address = tcp.getsockname()
        for _ in range(2):
            early = await Wire.connect(path)  # while there is no daemon
            ping = early.begin("system.ping")
            async with handed_over(tmp_path, tcp, unix) as daemon:
                assert (await early.reply(ping))["pong"]
                assert daemon.address != address
                for each in (daemon.address, address, path):
                    assert await pong(each)
                assert await daemon.stop() == 0
            await early.close()
            assert path.is_socket()
        await (await Wire.connect(path)).close()
        await (await Wire.connect(address)).close()


async def test_sockets_take_the_place_of_listen_and_unix(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.create_server(("127.0.0.1", 0)) as tcp, unix_socket(path) as unix:
        host, port = tcp.getsockname()
        arguments = f"--listen {host}:{port} --unix {path}"
        async with handed_over(tmp_path, tcp, unix, arguments=arguments) as daemon:
            assert daemon.address == (host, port)
            assert await pong((host, port))
            assert await pong(path)
        assert path.is_socket()


async def test_a_socket_has_the_rules_of_the_listener_at_its_address(tmp_path: Path) -> None:
    """One that would ask nobody who he is, where the settings ask, would be a door beside the door."""
    path = tmp_path / "sock"
    config = {"listeners": [{"address": str(path), "auth": "peer"}]}
    with unix_socket(path) as unix:
        async with handed_over(tmp_path, unix, config=config):
            wire = await Wire.connect(path)
            session = await wire.call("session.start", plain_stream=True)
            assert session["owner"] == pwd.getpwuid(os.getuid()).pw_name
            await wire.close()


async def test_a_peer_of_ipv4_is_one_on_a_socket_of_both_families(tmp_path: Path) -> None:
    """systemd makes those: BindIPv6Only= is off by default."""
    (tmp_path / "tokens").touch(0o600)
    with socket.socket(socket.AF_INET6) as both:
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::ffff:127.0.0.1", 0))
        both.listen()
        port = both.getsockname()[1]
        listener = {"address": f"[::ffff:127.0.0.1]:{port}", "auth": "token"}
        config = {"listeners": [listener], "auth": {"tokens": str(tmp_path / "tokens")}}
        async with handed_over(tmp_path, both, config=config) as daemon:
            wire = await Wire.connect(("127.0.0.1", port))
            await wire.refusal("auth.login", token="opd_wrong")
            audit = await daemon.logged('"audit":')
            assert audit is not None
            said = json.loads(audit["message"])
            assert said["from"].startswith("127.0.0.1 port "), said
            await wire.close()


async def test_sockets_for_another_process_are_left_alone(tmp_path: Path) -> None:
    env = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    async with served(tmp_path / "s", *PROCESS, env=env) as daemon:
        assert await pong(daemon.address)


def bound_to_all() -> socket.socket:
    return socket.create_server(("", 0))


def datagrams() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (bound_to_all, "which other machines can reach"),
        (datagrams, "not a listening stream socket"),
        (lambda: socket.socket(socket.AF_UNIX), "not a listening stream socket"),
        (lambda: open(os.devnull, "rb"), "is not a socket"),  # noqa: PTH123, SIM115  # a descriptor
    ],
)
async def test_what_cannot_be_served_is_refused(
    tmp_path: Path, make: Callable[[], socket.socket], said: str
) -> None:
    with make() as given:
        code, _, err = await run(
            sys.executable, "-c", HAND_OVER, str(given.fileno()), OPERATORD, "serve", *PROCESS,
            "--state-dir", str(tmp_path / "s"), env=clean_env(), pass_fds=[given.fileno()],
        )  # fmt: skip
    assert code == 1
    assert said in err
    assert "ListenStream=" in err
    assert "Traceback" not in err
    assert not (tmp_path / "s").exists()


async def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    launch = 'LISTEN_PID=$$ LISTEN_FDS=two exec "$@"'
    command = (OPERATORD, "serve", *PROCESS, "--state-dir", str(tmp_path / "s"))
    code, _, err = await run("sh", "-c", launch, "sh", *command, env=clean_env())
    assert (code, "LISTEN_FDS must be a number of sockets, and is 'two'" in err) == (1, True)
