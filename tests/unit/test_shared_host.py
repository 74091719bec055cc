# SPDX-License-Identifier: MIT
"""What a machine has once is had by one process at a time, and by nobody when that has died."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import shared_host

from operatord.machine.routes import Route

TESTS = Path(shared_host.__file__).parent
OTHER = f"""
import sys
sys.path.append({str(TESTS)!r})
import shared_host
"""
WRITTEN = re.compile(r"\b(?:10|172|192)(?:\.\d+){3}/\d+")


@contextlib.contextmanager
def another_process(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside this one that waits for its input to end, or to be killed."""
    command = (sys.executable, "-c", f"{OTHER}\n{program}\nsys.stdin.read()")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_no_two_processes_have_the_same_block_and_the_dead_have_none() -> None:
    """S17: two checkouts, or two workers, side by side."""
    name = uuid.uuid4().hex  # a block that is given back may be the next test's at once
    take = f"""
held = shared_host.claim({name!r})
with shared_host.block() as block:
    print(block, flush=True)
    sys.stdin.read()
"""
    with another_process(take) as one, another_process(take) as two:
        theirs = {said(one), said(two)}
        with shared_host.block() as mine:
            assert len(theirs | {str(mine)}) == 3
        assert shared_host.claim(name) is None
    claimed = shared_host.claim(name)
    assert claimed is not None
    claimed.close()


def test_block_overlaps_with_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """S17: a machine with routes of its own, all of 10/8 among them."""
    for route in ("10.64.0.0/12", "10.0.0.0/8"):
        routes = [Route("0.0.0.0/0", "eth0"), Route(route, "tun0")]
        monkeypatch.setattr(shared_host, "host_routes", lambda routes=routes: routes)
        with shared_host.block() as block:
            assert not block.overlaps(ipaddress.ip_network(route))


def test_block_overlaps_with_no_network_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """S17: what crashed tests, or others, have left on the engine."""
    with shared_host.block() as first:
        pass
    monkeypatch.setattr(shared_host, "_subnets_of_the_engine", lambda: [str(first), "fd00::/64"])
    with shared_host.block() as second:
        assert not second.overlaps(first)


def test_ports_are_claimed_and_free() -> None:
    """S17: nobody else's test is given a port, and nobody listens on it."""
    with another_process("print(shared_host.free_port(), flush=True)") as other:
        theirs, mine = int(said(other)), shared_host.free_port()
        assert abs(theirs - mine) >= shared_host.ROW
        with shared_host.free_ports() as first:
            for port in (mine, first, first + shared_host.ROW - 1):
                socket.create_server(("127.0.0.1", port)).close()


def test_who_wants_to_be_alone_waits_until_the_other_has_gone() -> None:
    """S17: a name that there is only once, as a network of the original's commands has."""
    name, was_alone = uuid.uuid4().hex, threading.Event()

    def wait() -> None:
        with shared_host.alone(name):
            was_alone.set()

    hold = f"with shared_host.alone({name!r}): print('mine', flush=True); sys.stdin.read()"
    with another_process(hold) as other:
        assert said(other) == "mine"
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert shared_host.claim(name) is None
        assert not was_alone.is_set()
    waiting.join()
    assert was_alone.is_set()


@pytest.mark.parametrize("folder", ["acceptance", "benchmarks", "contract", "faults"])
def test_tests_on_an_engine_name_no_subnet_themselves(folder: str) -> None:
    """S17: but for an engine in a network namespace of its own."""
    files = [file for file in (TESTS / folder).glob("*.py") if file.name != "engine_private.py"]
    written = {file.name: WRITTEN.findall(file.read_text()) for file in files}
    assert {name: found for name, found in written.items() if found} == {}
