# SPDX-License-Identifier: MIT
"""The service on a machine that systemd runs: each thing that is asked of it there is done for real."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import shared_host

sys.path.append(str(Path(__file__).parents[1] / "acceptance"))  # docker_lab

from daemon_lab import Wire, relays_to, until
from docker_lab import viewer_at
from source_lab import host_probe
from systemd_lab import BLOCK, UNIX_SOCKET, Machine
from systemd_lab import machine as systemd_machine

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CTL = "/usr/local/bin/operatorctl"


@pytest.fixture(scope="module")
def machine(installed: Path) -> Iterator[Machine]:
    with shared_host.block() as subnets, systemd_machine(installed, str(subnets)) as running:
        yield running


async def test_it_is_started_once_it_serves(machine: Machine) -> None:
    assert machine.shows("ActiveState", "Result", "StatusText") == [
        "active",
        "success",
        "sessions: none; engine docker: up",
    ]
    assert (await machine.call("system.ping"))["pong"]
    ping = machine.run(f"{CTL} --address unix:{UNIX_SOCKET} -o json ping")
    assert '"pong":true' in ping
    assert machine.tries("systemctl --failed --no-legend") == (0, "")
    status = machine.run("systemctl status operatord")
    assert 'Status: "sessions: none; engine docker: up"' in status


async def test_it_is_nobody_and_may_little(machine: Machine) -> None:
    (pid,) = machine.shows("MainPID")
    status = machine.run(f"cat /proc/{pid}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["CapEff"] == facts["CapBnd"] == "0" * 16
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert facts["Uid"].split()[0] == machine.run("id -u operatord").strip() != "0"


async def test_its_gateway_answers_and_is_anew_after_a_kill(machine: Machine) -> None:
    """The unit's restrictions allow the process, and `KillMode=process` leaves none of it behind."""

    async def ready() -> bool:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{machine.http}/readyz"
            async with aiohttp.ClientSession() as session, session.get(url) as said:
                return said.status == 200
        return False

    def gateways() -> list[str]:
        found = machine.tries("grep -la '[f]rom-daemon' /proc/[0-9]*/cmdline 2>/dev/null")[1]
        return [path.split("/")[2] for path in found.split()]

    await until(ready, "the gateway answers")
    (before,) = gateways()
    (pid,) = machine.shows("MainPID")
    machine.run(f"kill -9 {pid}")
    await machine.restarted(pid)
    await until(lambda: len(gateways()) == 1 and gateways() != [before], "the next one's is there")
    await until(ready, "it answers")


async def test_reload(machine: Machine) -> None:
    file = "/etc/operatord/operatord.yaml"
    before = machine.run(f"cat {file}")
    machine.run(f"sed -i 's/sessions: 7/sessions: 5/' {file} && systemctl reload operatord")

    async def reread() -> bool:
        return (await machine.call("system.status"))["capacity"]["sessions"] == 5

    await until(reread, "the settings are reread")
    machine.run(f"sed -i 's/sessions: 5/sesions: 5/' {file}")
    code, _ = machine.tries("systemctl reload operatord")
    assert code == 1
    assert "limits.sesions: unknown member; did you mean 'sessions'?" in machine.journal()
    assert await reread()
    assert machine.shows("ActiveState") == ["active"]
    machine.write(before, file)
    machine.run("systemctl reload operatord")


async def test_killed_it_is_back_with_its_sessions_and_serves_who_connected_meanwhile(
    machine: Machine,
) -> None:
    session = await machine.call("session.start", plain_stream=True, lease="pinned")
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(3)
        (pid,) = machine.shows("MainPID")
        machine.run(f"kill -9 {pid}")
        early = await Wire.connect(machine.address)
        found = await early.call("session.get", session_id=session["session_id"])
        assert (found["phase"], found["location"]) == ("running", session["location"])
        await early.close()
        await machine.restarted(pid)
        await viewer.frames(30)
        await machine.call("session.stop", session_id=session["session_id"])
    assert f"session {session['session_id']} is taken on" in machine.journal()


async def test_killed_it_leaves_relays_that_go_on(machine: Machine) -> None:
    """They are processes that it has started: systemd is told to end the daemon alone."""
    async with host_probe(fps="0", count="1000000") as port:
        await machine.call("probe.register", name="bed", host="127.0.0.1", port=port)
        session = await machine.call(
            "session.start", probe="bed", plain_stream=True, lease="pinned", count=1000000
        )
        [relay] = relays_to(port)
        async with viewer_at(session["location"]) as viewer:
            (pid,) = machine.shows("MainPID")
            machine.run(f"kill -9 {pid}")
            await machine.restarted(pid)
            assert relays_to(port) == [relay]
            await viewer.frames(1000)
            await machine.call("session.stop", session_id=session["session_id"])
        assert relays_to(port) == []


async def test_a_blocked_loop_is_noticed_and_named(machine: Machine) -> None:
    session = await machine.call("session.start", plain_stream=True, lease="pinned")
    async with viewer_at(session["location"]) as viewer:
        (pid,) = machine.shows("MainPID")
        machine.run(f": >{BLOCK}")
        await machine.restarted(pid)
        await viewer.frames(30)
        found = await machine.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        await machine.call("session.stop", session_id=session["session_id"])
    said = machine.journal()
    assert "Watchdog timeout" in said
    assert "in blocked_for_good" in said


async def test_stopped_it_leaves_sessions_and_a_connection_starts_it(machine: Machine) -> None:
    session = await machine.call("session.start", plain_stream=True, lease="pinned")
    async with viewer_at(session["location"]) as viewer:
        machine.run("systemctl stop operatord")
        assert machine.shows("ActiveState", "Result") == ["inactive", "success"]
        await viewer.frames(30)
        found = await machine.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        await machine.call("session.stop", session_id=session["session_id"])
    assert machine.shows("ActiveState") == ["active"]


async def test_stopped_with_its_socket_nothing_listens(machine: Machine) -> None:
    machine.run("systemctl stop operatord.socket operatord")
    with pytest.raises(ConnectionRefusedError):
        await machine.wire()
    assert machine.tries(f"test -e {UNIX_SOCKET}")[0] == 1
    machine.run("systemctl start operatord")
    assert (await machine.call("system.ping"))["pong"]
