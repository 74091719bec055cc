# SPDX-License-Identifier: MIT
"""operatord in a container, as compose.yaml starts it on the engine.

No registry is reachable where the tests run, so the base image is made here: the emulators' own, with pip and
what pip would download.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest
import shared_host
from daemon_lab import Json, Wire, until

from operatord.engines.base import LABEL_INSTANCE
from operatord.images import OWN_BASE

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("pip", "setuptools>=68")
DEFAULT_BASE = "python:3.12-slim-bookworm"
DOCKERFILE = f"""
FROM {OWN_BASE}
COPY wheels /wheels
RUN ["python3", "-c", "import glob, zipfile; [pip] = glob.glob('/wheels/pip-*'); \
zipfile.ZipFile(pip).extractall('/usr/lib/python3/dist-packages')"]
RUN ["/bin/sh", "-c", "printf '[global]\\\\nno-index = true\\\\nfind-links = /wheels\\\\n' >/etc/pip.conf"]
"""


class Project:
    """One compose project, and the service of it that is tried."""

    def __init__(self, service: str, file: Path, env: Mapping[str, str]) -> None:
        self.service = service
        self._file = file
        self._env = {**os.environ, **env}
        self.client = docker.APIClient(os.environ["DOCKER_HOST"], version="auto")
        self.image = env["IMAGE"]
        self.instance = "none yet"
        self.address = ("127.0.0.1", int(env["PORT"]))

    def tries(self, *arguments: str) -> tuple[int, str]:
        """Run a command of compose; return its exit code and all that it says."""
        command = (*compose_command(), "-f", str(ROOT / "compose.yaml"), "-f", str(self._file))
        done = subprocess.run(
            (*command, "--profile", "published", *arguments),
            cwd=ROOT, env=self._env, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def run(self, *arguments: str) -> str:
        code, said = self.tries(*arguments)
        assert code == 0, f"{arguments}: {said}"
        return said

    def inspect(self) -> Json:
        """Return what the engine knows of the container."""
        name = {"label": f"com.docker.compose.project={self._env['COMPOSE_PROJECT_NAME']}"}
        [found] = self.client.containers(all=True, filters=name)
        inspected: Json = self.client.inspect_container(found["Id"])
        return inspected

    def status(self) -> dict[str, str]:
        """Return what the kernel knows of the daemon's process."""
        text = Path(f"/proc/{self.inspect()['State']['Pid']}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    async def up(self) -> None:
        """Start it, and return once it is healthy."""
        self.run("up", "-d", "--no-build", self.service)
        await self.healthy()
        file = "/var/lib/operatord/instance"
        self.instance = self.run("exec", "-T", "-u", "operatord", self.service, "cat", file).strip()

    async def healthy(self) -> None:
        await until(
            lambda: self.inspect()["State"].get("Health", {}).get("Status") == "healthy", "health"
        )

    async def wire(self, token: str | None = None) -> Wire:
        wire = await Wire.connect(self.address)
        if token is not None:
            await wire.call("auth.login", token=token)
        return wire

    async def call(self, method: str, **params: object) -> Json:
        """Ask it for one thing, on a connection of its own."""
        wire = await self.wire()
        try:
            result: Json = await wire.call(method, **params)
        finally:
            await wire.close()
        return result

    def objects(self) -> list[str]:
        """Return what the engine has of the daemon's sessions."""
        mine = {"label": f"{LABEL_INSTANCE}={self.instance}"}
        found = [
            *self.client.containers(all=True, filters=mine),
            *self.client.networks(filters=mine),
        ]
        return [each["Id"] for each in found]

    def sweep(self) -> None:
        """Remove what a daemon has on the engine: a failed test leaves sessions that run."""
        mine = {"label": f"{LABEL_INSTANCE}={self.instance}"}
        for each in self.client.containers(all=True, filters=mine):
            self.client.remove_container(each["Id"], force=True, v=True)
        for each in self.client.networks(filters=mine):
            self.client.remove_network(each["Id"])

    def left(self) -> list[str]:
        """Return what the engine still has of the project."""
        mine = {"label": f"com.docker.compose.project={self._env['COMPOSE_PROJECT_NAME']}"}
        volumes = self.client.volumes(filters=mine)["Volumes"] or []
        networks = self.client.networks(filters=mine)
        return [
            *(each["Id"] for each in self.client.containers(all=True, filters=mine)),
            *(each["Name"] for each in [*volumes, *networks]),
            *(each["Id"] for each in self.client.images(self._env["IMAGE"])),
        ]


@contextlib.contextmanager
def project(
    service: str, folder: Path, subnets: str, image: str | None = None
) -> Iterator[Project]:
    """Have one, with its image built unless there is one; nothing of it is left afterwards."""
    socket = _socket_of_the_engine()
    port = str(shared_host.free_port())
    name = f"operatord-test-{os.getpid()}-{service}"
    environment = {"OPERATORD_SUBNETS": subnets}
    if service == "operatord":
        environment["OPERATORD_LISTEN"] = f"127.0.0.1:{port}"
    file = folder / "test.yaml"
    file.write_text(_override(service, image or name, environment))
    env = {
        "COMPOSE_PROJECT_NAME": name, "IMAGE": name, "PORT": port, "DOCKER_SOCKET": socket,
        "OPERATORD_PUBLISH": f"127.0.0.1:{port}", "OPERATORD_ADVERTISE_HOST": _gateway(),
        "DOCKER_BUILDKIT": "0",
    }  # fmt: skip
    made = Project(service, file, env | {"PYTHON_IMAGE": _base(folder)})
    with contextlib.closing(made.client):
        try:
            if image is None:
                made.run("build", service)
            yield made
        finally:
            images = ("--rmi", "all") if image is None else ()
            made.tries("down", "--volumes", *images, "--remove-orphans")
            made.sweep()
            made.client.prune_images({"dangling": True, "label": "operatord.image=build"})
            assert made.left() == []


def _override(service: str, image: str, environment: Mapping[str, str]) -> str:
    lines = "".join(f"      {key}: '{value}'\n" for key, value in environment.items())
    return (
        f"services:\n  {service}:\n    image: {image}\n    environment:\n{lines}"
        "    healthcheck: {interval: 1s}\n"
    )


def compose_command() -> tuple[str, ...]:
    """Return how compose is called here; a test that needs it is skipped where it is not."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if (
            shutil.which(command[0])
            and not subprocess.run(
                (*command, "version"), check=False, capture_output=True
            ).returncode
        ):
            return command
    pytest.skip("docker compose is not installed")


def _socket_of_the_engine() -> str:
    host = os.environ["DOCKER_HOST"]
    if not host.startswith("unix://"):
        pytest.skip("the engine has no socket that could be mounted")
    return host.removeprefix("unix://")


def _gateway() -> str:
    """Return the host's address that the engine's own bridge has."""
    with contextlib.closing(docker.APIClient(os.environ["DOCKER_HOST"], version="auto")) as client:
        [bridge] = client.networks(names=["bridge"])
    return str(bridge["IPAM"]["Config"][0]["Gateway"])


def _base(folder: Path) -> str:
    """Return the base image, made if the engine has none yet."""
    setup = (ROOT / "setup.cfg").read_bytes()
    name = (
        f"operatord-container-base:{hashlib.sha256(setup + DOCKERFILE.encode()).hexdigest()[:12]}"
    )
    client = docker.APIClient(os.environ["DOCKER_HOST"], version="auto")
    with contextlib.closing(client), shared_host.alone("operatord-container-base"):
        if client.images(DEFAULT_BASE):  # a registry is reachable
            return DEFAULT_BASE
        if not client.images(OWN_BASE):
            pytest.skip(f"the engine has no {OWN_BASE}")
        if not client.images(name):
            _make_base(client, folder, name)
    return name


def _make_base(client: docker.APIClient, folder: Path, name: str) -> None:
    context = folder / "base"
    _download(context / "wheels", _version_in(client))
    (context / "Dockerfile").write_text(DOCKERFILE)
    said = [str(each) for each in client.build(path=str(context), tag=name, rm=True, decode=True)]
    assert client.images(name), said[-5:]


def _version_in(client: docker.APIClient) -> str:
    command = ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    made = client.create_container(OWN_BASE, command)
    try:
        client.start(made)
        client.wait(made)
        return str(client.logs(made).decode().strip())
    finally:
        client.remove_container(made, force=True)


def _download(target: Path, python: str) -> None:
    """Fetch what the image's own pip would."""
    text = (ROOT / "setup.cfg").read_text()
    wanted = [
        line.strip().replace(" ", "")
        for part in ("install_requires", "cli", "ssh", "http")
        for line in re.findall(rf"^{part} =\n((?:    .*\n)+)", text, re.MULTILINE)[0].splitlines()
    ]
    command = (sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:")
    done = subprocess.run(
        (*command, "--python-version", python, "-d", str(target), *NEEDED, *wanted),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
