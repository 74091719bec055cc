# SPDX-License-Identifier: MIT
"""A machine that systemd runs, with operatord installed on it: a container on the engine, systemd as PID 1.

It shares the host's network, so the locations that its daemon gives are this host's, and the engine's socket
is mounted into it. What it is made of is a Debian of the host's own release, kept on the engine.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import shared_host
from daemon_lab import Json, Wire, until
from shared_host import free_port

from operatord.engines.base import LABEL_INSTANCE
from operatord.images import OWN_BASE

UNIX_SOCKET = "/run/operatord/operatord.sock"
ENGINE = "/engine.sock"
PACKAGES = ("systemd", "dbus", "python3")
DOCKERFILE = f"""
FROM {OWN_BASE}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends {" ".join(PACKAGES)} \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
"""
BLOCK = "/block-the-loop"
SITE = "/usr/lib/test-site"
BLOCKING = f"""
import asyncio, os, threading, time

run_forever = asyncio.BaseEventLoop.run_forever

def blocked_for_good():
    time.sleep(1000)

def wait(loop):
    os.close(os.open("{BLOCK}", os.O_RDONLY))
    loop.call_soon_threadsafe(blocked_for_good)

def run_until_blocked(loop):
    threading.Thread(target=wait, args=[loop], daemon=True).start()
    run_forever(loop)

asyncio.BaseEventLoop.run_forever = run_until_blocked
"""
"""Is a daemon's sitecustomize: who opens the pipe blocks its event loop."""
SERVICE = f"""
[Service]
SupplementaryGroups=engine
Environment=PYTHONPATH={SITE}
WatchdogSec=4s
"""
SOCKET = """
[Socket]
ListenStream=
ListenStream=127.0.0.1:{port}
ListenStream={unix}
"""
SETTINGS = """
listen: 127.0.0.1:{port}
unix: {unix}
state_dir: /var/lib/operatord
docker_host: unix://{engine}
subnets: {subnets}
limits: {{sessions: 7}}
http: {{listen: "127.0.0.1:{http}"}}
"""


END = "that is all"
"""Said after what a command says."""


class Machine:
    """One such container, as root sees it."""

    def __init__(self, client: docker.APIClient, container: str, port: int) -> None:
        self._client = client
        self._container = container
        self._count = itertools.count()
        self.address = ("127.0.0.1", port)
        self.http = free_port()
        """Where its gateway answers."""

    def tries(self, command: str) -> tuple[int, str]:
        """Run a line of the shell; return its exit code and all that it says."""
        out = f"/tmp/said.{next(self._count)}"
        code, said = self._execute(
            f"({command}\n) >{out} 2>&1; code=$?; cat {out}; echo {END}; exit $code"
        )
        while not said.endswith(END + "\n"):  # a busy engine may lose the end of what is said
            code_of_cat, said = self._execute(f"cat {out}; echo {END}")
            assert code_of_cat == 0, command
        return code, said.removesuffix(END + "\n")

    def _execute(self, command: str) -> tuple[int, str]:
        made = self._client.exec_create(self._container, ["bash", "-c", command])
        said = self._client.exec_start(made["Id"]).decode()
        return self._client.exec_inspect(made["Id"])["ExitCode"], said

    def run(self, command: str) -> str:
        code, said = self.tries(command)
        assert code == 0, f"{command}: {said}"
        return said

    def write(self, text: str, path: str) -> None:
        self.run(f"mkdir -p $(dirname {path}) && printf %s {shlex.quote(text)} >{path}")

    def shows(self, *names: str) -> list[str]:
        """Return properties of the service, as `systemctl show` has them."""
        return [self.run(f"systemctl show --value -p {name} operatord").strip() for name in names]

    def journal(self, *arguments: str) -> str:
        self.run("journalctl --sync")
        return self.run(f"journalctl -u operatord -o cat {' '.join(arguments)}")

    async def wire(self) -> Wire:
        return await Wire.connect(self.address)

    async def call(self, method: str, **params: object) -> Json:
        """Ask it for one thing, on a connection of its own."""
        wire = await self.wire()
        try:
            result: Json = await wire.call(method, **params)
        finally:
            await wire.close()
        return result

    async def restarted(self, since: str) -> None:
        """Return once the daemon is another process than ``since``, and ready."""

        def again() -> bool:
            state, pid = self.shows("ActiveState", "MainPID")
            return state == "active" and pid not in ("0", since)

        await until(again, "the service is active again")


@contextlib.contextmanager
def machine(installed: Path, subnets: str) -> Iterator[Machine]:
    """Have one on which the service is started and enabled; nothing of it is left afterwards."""
    socket = _socket_of_the_engine()
    with contextlib.closing(docker.APIClient(os.environ["DOCKER_HOST"], version="auto")) as client:
        container = _container(client, socket)
        try:
            client.put_archive(container, "/", _packed(installed))
            client.start(container)
            booted = Machine(client, container, free_port())
            booted.run("until [ -S /run/systemd/private ]; do sleep 0.1; done")
            booted.run("systemctl is-system-running --wait")
            _set_up(booted, subnets, os.stat(socket).st_gid)  # noqa: PTH116  # a string is at hand
            try:
                yield booted
            finally:
                booted.tries("systemctl stop operatord.socket operatord.service")
                _remove_sessions(client, booted.run("cat /var/lib/operatord/instance").strip())
        finally:
            client.remove_container(container, force=True, v=True)


def _remove_sessions(client: docker.APIClient, instance: str) -> None:
    """Remove what a daemon has on the engine, however it does: a failed test leaves sessions that run."""
    mine = {"label": f"{LABEL_INSTANCE}={instance}"}
    for each in client.containers(all=True, filters=mine):
        client.remove_container(each["Id"], force=True, v=True)
    for each in client.networks(filters=mine):
        client.remove_network(each["Id"])


def _socket_of_the_engine() -> str:
    host = os.environ["DOCKER_HOST"]
    if not host.startswith("unix://"):
        pytest.skip("the engine has no socket that could be stood in for")
    return host.removeprefix("unix://")


def _container(client: docker.APIClient, socket: str) -> str:
    config = client.create_host_config(
        network_mode="host",
        cap_add=["SYS_ADMIN", "NET_ADMIN"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs=dict.fromkeys(("/run", "/run/lock", "/tmp"), ""),
        binds=["/sys/fs/cgroup:/sys/fs/cgroup:rw", f"{socket}:{ENGINE}"],
    )
    config["CgroupnsMode"] = "host"
    made = client.create_container(_image(client), ["/lib/systemd/systemd"], host_config=config)
    return str(made["Id"])


def _set_up(machine: Machine, subnets: str, engine_group: int) -> None:
    port = machine.address[1]
    units = "/etc/systemd/system"
    machine.run(f"groupadd -o -g {engine_group} engine")
    machine.write(SERVICE, f"{units}/operatord.service.d/test.conf")
    machine.write(
        SOCKET.format(port=port, unix=UNIX_SOCKET), f"{units}/operatord.socket.d/test.conf"
    )
    settings = SETTINGS.format(
        port=port, unix=UNIX_SOCKET, engine=ENGINE, subnets=subnets, http=machine.http
    )
    machine.write(settings, "/etc/operatord/operatord.yaml")
    machine.write(BLOCKING, f"{SITE}/sitecustomize.py")
    machine.run(f"mkfifo {BLOCK} && chmod 644 {BLOCK}")
    machine.run("systemctl daemon-reload && systemctl enable --now operatord.socket operatord")


def _packed(folder: Path) -> bytes:
    """Return a folder as an archive in which all is root's."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, ".", filter=owned)
    return packed.getvalue()


def _image(client: docker.APIClient) -> str:
    """Return the image, made if the engine has none yet."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    name = f"operatord-systemd:{suite}"
    with shared_host.alone("operatord-systemd"):
        if not client.images(name):
            if OWN_BASE.endswith(f":{suite}") and client.images(OWN_BASE):
                _add_to_base(client, name)
            else:
                _make_anew(client, suite, name)
    return name


def _add_to_base(client: docker.APIClient, name: str) -> None:
    """Make the image of the emulators' own base: a fraction of the work."""
    options = {"rm": True, "forcerm": True, "decode": True, "network_mode": "host"}
    said = [*client.build(fileobj=io.BytesIO(DOCKERFILE.encode()), tag=name, **options)]
    assert not [each for each in said if "error" in each], said[-5:]


def _make_anew(client: docker.APIClient, suite: str, name: str) -> None:
    """Make the image of nothing: half a minute."""
    debootstrap = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if debootstrap is None or os.geteuid() != 0:
        pytest.skip("debootstrap is not installed, or this is not root")
    with tempfile.TemporaryDirectory(prefix="operatord-systemd-", dir="/var/tmp") as folder:
        command = ("unshare", "--mount", debootstrap, "--variant=minbase")
        wanted = (f"--include={','.join(PACKAGES)}", suite, f"{folder}/root")
        done = subprocess.run((*command, *wanted), check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        packing = (
            "tar",
            "-c",
            "--numeric-owner",
            "--exclude=./var/cache/apt",
            "-C",
            f"{folder}/root",
            ".",
        )
        with subprocess.Popen(packing, stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            repository, _, tag = name.partition(":")
            said = client.import_image_from_stream(tar.stdout, repository, tag)
    assert "error" not in said, said
