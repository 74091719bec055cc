# SPDX-License-Identifier: MIT
"""A network beside this machine's, as a laboratory's is: a network namespace in which somebody listens."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

PORT = 12345
"""Where somebody listens."""
_SOMEBODY = f"""
import socket
server = socket.create_server(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    connection, (host, _) = server.accept()
    connection.sendall(host.encode())
    connection.close()
"""
_CALLER = "import socket; print(socket.create_connection(({host!r}, {port}), 5).recv(100).decode())"


class Outside(NamedTuple):
    """Between this machine and that network."""

    namespace: str
    here: str
    """This machine's address in it."""
    there: str
    """Where somebody listens, who answers with the address that a connection comes from."""

    def python(self, *arguments: str) -> list[str]:
        """Return the command that runs a Python program there."""
        return ["ip", "netns", "exec", self.namespace, sys.executable, *arguments]

    def call(self, port: int) -> str:
        """Connect from there to a port of this machine's, and return what it says."""
        command = self.python("-IS", "-c", _CALLER.format(host=self.here, port=port))
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def outside(subnets: str) -> Iterator[Outside]:
    """Have that network for a while, on the first addresses of ``subnets``, which nobody else has."""
    ip = shutil.which("ip") or pytest.skip("ip is not installed")
    name, end = f"opd-out-{os.getpid()}", f"opdo{os.getpid()}"
    base = subnets.split("/", maxsplit=1)[0].rpartition(".")[0]
    here, there = f"{base}.1", f"{base}.2"

    def run(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)

    with contextlib.ExitStack() as made:
        run("netns", "add", name)
        made.callback(run, "netns", "delete", name)
        run("link", "add", end, "type", "veth", "peer", "name", "inside", "netns", name)
        made.callback(run, "link", "delete", end)
        run("address", "add", f"{here}/30", "dev", end)
        run("link", "set", end, "up")
        run("-n", name, "address", "add", f"{there}/30", "dev", "inside")
        run("-n", name, "link", "set", "inside", "up")
        command = [ip, "netns", "exec", name, sys.executable, "-IS", "-c", _SOMEBODY]
        somebody = subprocess.Popen(command, stdout=subprocess.PIPE)
        made.callback(somebody.communicate)
        made.callback(somebody.kill)
        assert somebody.stdout is not None and somebody.stdout.readline() == b"ready\n"
        yield Outside(name, here, there)
