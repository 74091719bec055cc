# SPDX-License-Identifier: MIT
"""A Docker Engine that a test may hurt: in namespaces of its own, on a small disk of its own.

It has its own network namespace, so that its firewall rules, bridges and ports never meet those of
another engine of this machine, and its own mount namespace with its data on a tmpfs, so that all of its
mounts vanish with it. A daemon under test runs inside (`PrivateEngine.enter`), and readers of streams
have sockets made there (`PrivateEngine.reach`); the control socket is a path, which knows no namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import pytest
from daemon_lab import Json, Served, Wire

PARTS = Path(__file__).parents[2] / "tools" / "engine-parts"
NEEDED = ("dockerd", "unshare", "nsenter", "setpriv", "ip", "iptables")
IMAGES = ("demo-probe", "demo-stream")
ANSWER = 30.0
"""Seconds in which an engine has to begin to answer, or to end."""
POOL = "10.250.128.0/17"
CGROUPS = Path("/sys/fs/cgroup")
SUBNETS = "10.251.0.0/20"
_OWN = frozenset(["bash", "dockerd", "containerd", "operatord"])
"""Programs in the engine's namespace that no session brought there."""

# Whoever reads the other end of its input: when that ends, for whatever reason, all ends.
KEEPER = r"""
set -e
parts=$1 folder=$2 size=$3 cgroup=$4 pool=$5
. "$parts"
ip link set lo up
mkdir -p /run/containerd "$folder/data"
mount -t tmpfs -o mode=711 containerd /run/containerd
mount -t tmpfs -o "size=$size" data "$folder/data"
mount_cgroups
echo ready
while read -r options; do
    setpriv --pdeathsig TERM dockerd --host "unix://$folder/docker.sock" \
        --pidfile "$folder/dockerd.pid" --config-file "$folder/daemon.json" \
        --data-root "$folder/data" --exec-root "$folder/exec" \
        --bip 10.250.0.1/24 --default-address-pool "base=$pool,size=26" \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup" \
        --storage-driver overlay2 --shutdown-timeout 5 --log-level warn $options \
        >>"$folder/log" 2>&1 </dev/null &
    echo $!
done
"""


class PrivateEngine:
    """A dockerd of this test module's own."""

    def __init__(self, size: str) -> None:
        """Make its namespaces, with a disk of ``size`` as tmpfs reads it; `start` starts it."""
        self.folder = Path(tempfile.mkdtemp(prefix="opd-faults-"))
        self.socket = self.folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.cgroup = self.folder.name
        self.pid = 0
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "slave",
             "bash", "-c", KEEPER, "keeper", PARTS, self.folder, size, self.cgroup, POOL],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=_adopt_orphans,  # noqa: PLW1509  # it makes one call, and takes no lock
        )  # fmt: skip
        assert self._said() == "ready"

    def _said(self) -> str:
        assert self._keeper.stdout is not None
        return self._keeper.stdout.readline().strip()

    def start(self, *options: str, live_restore: bool = False) -> None:
        """Start dockerd with these options as well, and return when it answers."""
        (self.folder / "daemon.json").write_text(json.dumps({"live-restore": live_restore}))
        assert self._keeper.stdin is not None
        print(*options, file=self._keeper.stdin, flush=True)
        self.pid = int(self._said())
        deadline = time.monotonic() + ANSWER
        while not self.answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            select.select([], [], [], 0.02)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER)
            sock.connect(str(self.socket))
            sock.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in sock.recv(64)
        return False

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.APIClient]:
        """Ask the engine itself, past any daemon."""
        with contextlib.closing(docker.APIClient(base_url=self.host, version="1.41")) as client:
            yield client

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to dockerd and return when it has ended."""
        waiting = os.pidfd_open(self.pid)
        try:
            os.kill(self.pid, number)
            readable, _, _ = select.select([waiting], [], [], ANSWER)
            assert readable, "dockerd does not end"
        finally:
            os.close(waiting)
            self.pid = 0

    def load(self, *images: str) -> None:
        """Copy images from the shared engine."""
        shared = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")
        with contextlib.closing(shared), tempfile.TemporaryFile() as file:
            # One archive for all, as `docker save a b` makes it: what they share is there once.
            url = f"{shared.base_url}/v{shared.api_version}/images/get"
            with shared.get(url, params={"names": images}, stream=True) as answer:
                answer.raise_for_status()
                shutil.copyfileobj(answer.raw, file)
            file.seek(0)
            with self.client() as client:
                for _ in client.load_image(file):
                    pass

    # Getting in

    def enter(self) -> tuple[str, ...]:
        """Return the program that starts another one inside."""
        inside = f"/proc/{self._keeper.pid}/ns"
        return ("nsenter", f"--net={inside}/net", f"--mount={inside}/mnt", "--")

    def inside(self, path: Path) -> Path:
        """Return where a path inside is seen from outside."""
        return Path(f"/proc/{self._keeper.pid}/root") / path.relative_to("/")

    def run(self, *command: str) -> str:
        """Run a program inside and return what it prints."""
        done = subprocess.run([*self.enter(), *command], capture_output=True, text=True, check=True)
        return done.stdout

    async def reach(self, location: Json) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a location inside."""
        loop, sock = asyncio.get_running_loop(), self._socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, (location["host"], location["port"]))
        except OSError:
            sock.close()
            raise
        return await asyncio.open_connection(sock=sock)

    def _socket(self) -> socket.socket:
        """Make a socket inside: a thread goes there, and the socket stays when it has ended."""
        made: list[socket.socket] = []

        def go_and_make() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with Path(f"/proc/{self._keeper.pid}/ns/net").open() as namespace:
                assert libc.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            made.append(socket.socket())

        thread = threading.Thread(target=go_and_make)
        thread.start()
        thread.join()
        return made[0]

    # What is there

    def left(self, instance: str) -> list[str]:
        """Return the names of everything that carries the label of an instance."""
        ours = {"label": f"operatord.instance={instance}"}
        with self.client() as client:
            containers = client.containers(all=True, filters=ours)
            networks = client.networks(filters=ours)
        return [n for c in containers for n in c["Names"]] + [n["Name"] for n in networks]

    def traces(self) -> list[str]:
        """Return all that sessions could leave on the host: links, rules, processes, cgroups."""
        links = [line.split(": ")[1].partition("@")[0] for line in
                 self.run("ip", "-o", "link").splitlines()]  # fmt: skip
        rules = [
            f"{table} {line}"
            for table in ("filter", "nat")
            for line in self.run("iptables", "-w", "-t", table, "-S").splitlines()
        ]
        names = [_name(pid) for pid in self._inhabitants()]
        processes = [name for name in names if name and name not in _OWN]
        return sorted([*links, *rules, *processes, *(str(path) for path in self._cgroups()[1:])])

    def _inhabitants(self) -> list[int]:
        """Return who is in the network namespace, the keeper left out."""
        home = Path(f"/proc/{self._keeper.pid}/ns/net").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "ns/net").readlink() == home:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != self._keeper.pid]

    def shim_of(self, container: str) -> int:
        """Return the process through which the engine has a container in its hands."""
        shims = [pid for pid in self._inhabitants() if _name(pid) == "containerd-shim"]
        [found] = [p for p in shims if container in Path(f"/proc/{p}/cmdline").read_text()]
        return found

    def _cgroups(self) -> list[Path]:
        """Return the control groups of its containers, the outermost first; of one controller."""
        root = self.inside(CGROUPS)
        found = [top for depth in ("", "*/") for top in root.glob(f"{depth}{self.cgroup}")]
        return [path for top in found[:1] for path in (top, *sorted(top.rglob("*/")))]

    # The end

    def close(self) -> None:
        """End it and remove all of it, in whatever state it is. Idempotent."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
                self.end(signal.SIGTERM)
        for pid in (*self._members(), *self._inhabitants()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        root = self.inside(CGROUPS)
        for top in (*root.glob(self.cgroup), *root.glob(f"*/{self.cgroup}")):
            _remove_cgroups(top)
        self._keeper.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _members(self) -> list[int]:
        """Return who is in a container."""
        found = []
        for path in self._cgroups():
            with contextlib.suppress(OSError):
                found += map(int, (path / "cgroup.procs").read_text().split())
        return found


def _adopt_orphans() -> None:
    """Be the parent of all whose own has died: where process 1 buries nobody, a dead containerd
    would seem to live, and dockerd wait for it.
    """
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, <linux/prctl.h>


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _remove_cgroups(top: Path) -> None:
    """Remove a group and all below; members that have just been killed may need a moment."""
    deadline = time.monotonic() + 5
    for path in (*sorted(top.rglob("*/"), reverse=True), top):
        while time.monotonic() < deadline:
            try:
                path.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                select.select([], [], [], 0.02)


@contextlib.contextmanager
def private_engine(size: str, *images: str, options: Sequence[str] = ()) -> Iterator[PrivateEngine]:
    """Have an engine of one's own with the emulators' images, and leave nothing of it behind.

    ``options`` are dockerd's.
    """
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip(f"an engine of its own needs Linux, root and {', '.join(missing or NEEDED)}")
    engine = PrivateEngine(size)
    try:
        engine.start(*options)
        engine.load(*(images or IMAGES))
        yield engine
    finally:
        engine.close()


class Inside:
    """``operatord serve`` inside a private engine's namespaces."""

    def __init__(self, daemon: Served, engine: PrivateEngine, control: Path) -> None:
        self.daemon, self.engine, self._control = daemon, engine, control
        self._wires: list[Wire] = []

    async def wire(self) -> Wire:
        wire = await Wire.connect(self._control)
        self._wires.append(wire)
        return wire

    async def watcher(self, *types: str) -> Wire:
        """Return a connection that is told of events."""
        wire = await self.wire()
        await wire.call("events.subscribe", types=list(types))
        return wire

    def left(self) -> list[str]:
        return self.engine.left(self.daemon.instance)

    async def close(self) -> None:
        for wire in self._wires:
            await wire.close()


@contextlib.asynccontextmanager
async def served_inside(
    engine: PrivateEngine,
    state_dir: Path,
    config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Inside]:
    """Run a daemon on a private engine; ``env`` says how it is reached, in place of its socket."""
    control = engine.folder / "control.sock"
    settings = {"subnets": SUBNETS, "unix": str(control), "shutdown_timeout": 5, **(config or {})}
    daemon = await Served.start(
        state_dir, "--engine", "docker",
        config=settings, env=env or {"DOCKER_HOST": engine.host}, below=engine.enter(),
    )  # fmt: skip
    running = Inside(daemon, engine, control)
    try:
        await daemon.logged(f"listening on {control}")
        yield running
    finally:
        await running.close()
        try:
            if daemon.process.returncode is None:
                await daemon.stop()
        finally:
            if daemon.process.returncode is None:
                await daemon.stop(signal.SIGKILL)
            await daemon.ended()
            print(*daemon.log, sep="\n")  # pytest shows it when the test fails
