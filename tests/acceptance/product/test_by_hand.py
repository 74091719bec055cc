# SPDX-License-Identifier: MIT
"""The original system's commands, word for word: three builds, a network, three runs on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import shared_host
from daemon_lab import PATIENCE
from docker_lab import Engine

pytestmark = [pytest.mark.engine, pytest.mark.slow]

EMULATORS = Path(__file__).parents[3] / "emulators"
BASE = "operatord-python:bookworm"
NETWORK = "client_server_network"
BUILDS = {
    "probe": "docker build -t demo-probe .",
    "streaming": "docker build -t demo-stream .",
    "segmentation": "docker build -t demo-segmentation .",
}
RUNS = (
    "docker run --env probe_ip=probe --env probe_port=12345 --env count=100000 --network-alias probe"
    " --network client_server_network -it demo-probe",
    "docker run --env probe_ip=probe --env probe_port=12345 --env stream_ip=stream"
    " --env stream_port=12346 --env plain_stream=False --network-alias stream"
    " --network client_server_network -it demo-stream",
    "docker run --env stream_ip=stream --env stream_port=12346 --network client_server_network"
    " -it demo-segmentation",
)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: str) -> None:
        self._screen, inner = pty.openpty()
        self._process = subprocess.Popen(
            shlex.split(command), stdin=inner, stdout=inner, stderr=inner
        )
        os.close(inner)

    def line_with(self, text: str) -> str:
        """Return the first whole line that contains ``text``."""
        seen, deadline = b"", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in seen.decode(errors="replace").splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line.strip()
            if select.select([self._screen], [], [], 1)[0]:
                with contextlib.suppress(OSError):  # the terminal's other side was closed
                    seen += os.read(self._screen, 65536)
        raise AssertionError(f"no {text!r} in {seen!r}")

    def exit_code(self) -> int:
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine()
    yield found
    found.close()


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    with shared_host.alone(NETWORK):
        docker("network", "create", NETWORK)
        yield NETWORK
        for container in engine.client.containers(all=True, filters={"network": NETWORK}):
            engine.client.remove_container(container["Id"], force=True)
        engine.client.remove_network(NETWORK)


def docker(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(["docker", *words], check=False, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command")
def test_commands_of_the_original_run_a_session(engine: Engine, network: str) -> None:
    base = ["--build-arg", f"PYTHON_IMAGE={BASE}"] if engine.client.images(BASE) else []
    for folder, command in BUILDS.items():
        docker(*shlex.split(command)[1:], *base, cwd=EMULATORS / folder)

    with contextlib.ExitStack() as screens:
        terminals = [Terminal(command) for command in RUNS]
        for terminal in terminals:
            screens.callback(terminal.close)
        said = json.loads(terminals[2].line_with('"frames"'))
        assert (said["type"], said["stage"]) == ("report", "segmentation")
        assert said["frames"] > 0
        assert said["dice_mean"] > 0.9

        # From the end of the chain: who loses its upstream ends with a code that says so.
        running = {
            each["Image"].rpartition("/")[2].partition(":")[0]: each
            for each in engine.client.containers(filters={"network": NETWORK})
        }
        for container in (running[f"demo-{name}"] for name in ("segmentation", "stream", "probe")):
            engine.client.stop(container["Id"], timeout=int(PATIENCE))
            state = engine.client.inspect_container(container["Id"])["State"]
            assert state["ExitCode"] == 128 + 15, "it had to be killed"
        assert [terminal.exit_code() for terminal in terminals] == [143, 143, 143]
