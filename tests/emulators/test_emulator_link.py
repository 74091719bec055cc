# SPDX-License-Identifier: MIT
"""A consumer whose link goes down, told apart from one that is slow: in a network namespace of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import shared_host
from emulator_stages import (
    BRISK,
    CONSUME,
    PATIENCE,
    Constants,
    Consumer,
    Launcher,
    Stage,
)

SOON: Constants = {**BRISK, "LOST_AFTER": 1.0, "HELD_UP": 0.3}
READER = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(b'{"type":"consume"}\\n')
print(sock.recv(100)[:15], flush=True)
while sys.argv[3] == "reads" and sock.recv(1 << 20):
    pass
sys.stdin.read()
"""


class Elsewhere(NamedTuple):
    """A network namespace that one link leads to."""

    name: str
    here: str  # this end's address

    def cut(self) -> None:
        """Take the other end's link down: nothing that is sent arrives, and nobody is told."""
        ip("-n", self.name, "link", "set", "v1", "down")

    @contextlib.contextmanager
    def reader(self, port: int, manner: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have somebody there who consumes, and reads all, or nothing but the hello."""
        inside = ["ip", "netns", "exec", self.name, sys.executable, "-IS", "-c", READER]
        reader = subprocess.Popen(
            [*inside, self.here, str(port), manner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert reader.stdout is not None and b"hello" in reader.stdout.readline()
            yield reader
        finally:
            reader.kill()
            reader.communicate()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=PATIENCE, capture_output=True)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Have a network namespace; without the means CI fails, elsewhere the test is skipped."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        why = "a network namespace takes root and the program ip"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    name = f"opd{os.getpid()}"  # which is the link's, too: up to 15 characters
    with shared_host.block() as block, contextlib.ExitStack() as made:
        here, there = (str(address) for address in list(block.hosts())[:2])
        ip("netns", "add", name)
        made.callback(ip, "netns", "del", name)
        ip("link", "add", name, "type", "veth", "peer", "name", "v1", "netns", name)
        made.callback(ip, "link", "del", name)  # the namespace's end goes with it, at once
        ip("addr", "add", f"{here}/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", "v1")
        ip("-n", name, "link", "set", "v1", "up")
        yield Elsewhere(name, here)


def serving(launch: Launcher, elsewhere: Elsewhere, script: str, count: int) -> tuple[Stage, str]:
    """Start a chain whose last stage listens where it is reached from elsewhere; return its host, too."""
    env = {"constants": SOON, "stream_ip": elsewhere.here, "fps": 200}
    _, streaming = launch.chain(count, **env)
    if script == "streaming":
        return streaming, elsewhere.here
    own = {"constants": SOON, "segmentation_ip": elsewhere.here, "stream_ip": elsewhere.here}
    return launch("segmentation", streaming.port, **own), elsewhere.here


@pytest.mark.parametrize("manner", ["reads", "pauses"])
@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_consumer_whose_link_is_down_is_given_up_and_the_others_go_on(
    launch: Launcher, elsewhere: Elsewhere, script: str, manner: str
) -> None:
    """F9: be it in the middle of what it is sent, or while it has no room for more."""
    last, host = serving(launch, elsewhere, script, 600)
    with elsewhere.reader(last.port, manner), Consumer(last.port, host) as other:
        other.sock.sendall(CONSUME)
        other.hello()
        last.reports_until(consumers=2)
        if manner == "pauses":
            last.reports_until(consumers=2, blocked=1)
        elsewhere.cut()
        frames = list(other.frames())
        assert other.end is not None
        assert [frame.header["seq"] for frame in frames][-1] == 599
        assert last.reports_until(frames=600)["consumers"] <= 1
    ended = last.ended()
    assert ended.code == 0
    assert "has not answered for 1 s and is given up" in ended.sentence


def test_consumer_that_pauses_is_named_and_waited_for(
    launch: Launcher, elsewhere: Elsewhere
) -> None:
    """F9: who is stopped for longer than the lost may be silent still has its system answer for it."""
    last, host = serving(launch, elsewhere, "streaming", 600)
    with elsewhere.reader(last.port, "reads") as slow, Consumer(last.port, host) as other:
        other.sock.sendall(CONSUME)
        other.hello()
        last.reports_until(consumers=2)
        slow.send_signal(signal.SIGSTOP)
        while (report := last.output_line()).get("held_up_for", 0) < 3:
            assert report["consumers"] == 2
        assert report["held_up_by"].startswith(host.rsplit(".", 1)[0])
        slow.send_signal(signal.SIGCONT)
        assert [frame.header["seq"] for frame in other.frames()][-1] == 599
    ended = last.ended()
    assert (ended.code, ended.sentence) == (0, "")


@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_idle_consumers_are_asked_whether_they_are_there(
    streaming_script, segmentation_script, script: str
) -> None:
    """F9: within half a minute, also where there is nothing to send."""
    modules = {"streaming": streaming_script, "segmentation": segmentation_script}[script]
    idle, interval, probes = modules.connections.KEEPALIVE.values()
    assert 10 <= idle + interval * probes <= 30
