# SPDX-License-Identifier: MIT
"""Stages as local processes: the engine for a machine without a container engine, and for fast tests.

What stands in for what:

- A network is a loopback address of its own, ``127.64.0.1`` to ``127.127.254.254`` (Linux answers on
  all of 127/8): stages of different sessions listen on the same ports without meeting.
- A container is a process group in a session, a working directory and an environment of its own.
- A label is a line in a record on disk (`process_records`), which is how a later daemon finds what
  an earlier one left.

It is no sandbox. A stage sees the machine's files and processes with the daemon's own rights, ``cpus``,
``cpu_limit``, ``memory_reservation`` and ``pids`` are not held at all, and ``memory`` only roughly (see
`process_child`). ``gpus`` are listed in ``CUDA_VISIBLE_DEVICES``; nothing prevents it from using others. Of
``options``, those that a program would miss (mounts, another user, names) are refused, and all else is left
out of account. No stage outlives its daemon, into whose pipes it writes (`process_guard`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import psutil

from operatord.engines.base import (
    DESCRIPTORS_GONE,
    LABEL_INSTANCE,
    LABEL_PLAN,
    LABEL_SESSION,
    SHIM,
    Address,
    Capabilities,
    DiskFull,
    EngineEvent,
    EngineInfo,
    EngineUnavailable,
    Found,
    Input,
    LogLine,
    Network,
    NetworkPlan,
    NoDescriptors,
    NotConnected,
    NotThere,
    PortTaken,
    ProgramMissing,
    PullWords,
    StagePlan,
    StageRefused,
    StageState,
    StageStats,
)
from operatord.engines.logs import LogBook

from .child import Child, ChildCommand, ChildInput, end_leftover, group_stats
from .guard import Guard
from .images import packaged_programs
from .records import Record, Records, living_process, unwritable

_KILL_SECONDS = 5.0
_EVENTS_HELD = 1024


class _Stage:
    """A container of this engine: its record, and what only this daemon knows of it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.plan: StagePlan | None = None
        self.child: Child | None = None
        self.book = LogBook()


class ProcessEngine:
    """Local processes, as `operatord.engines.base.Engine`.

    ``commands`` maps what a plan calls an image to the program that is run; None means the
    emulators that come with operatord. Everything on disk is below ``state_dir``.
    """

    name = "process"

    def __init__(
        self, state_dir: Path, commands: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._records = Records(self._state_dir / "process")
        self._commands = packaged_programs() if commands is None else dict(commands)
        self._stages: dict[str, _Stage] = {}
        self._networks: dict[str, Record] = {}
        self._listeners: set[asyncio.Queue[EngineEvent | None]] = set()
        self._guard = Guard()
        self._closed = False
        self.capabilities = Capabilities(adopts=False, needs_images=False, closes_networks=False)
        """Stages find each other by address, and end with the daemon, which has their pipes; and nothing
        keeps them from going anywhere."""

    # -- the engine itself

    async def connect(self) -> EngineInfo:
        """Learn from the records what an earlier daemon left. Never fails."""
        for record in self._records.load():
            if record.kind == "network":
                self._networks.setdefault(record.id, record)
            elif record.id not in self._stages:
                self._stages[record.id] = _Stage(record)
        return EngineInfo(
            name="process",
            version=os.uname().release,
            cpus=float(psutil.cpu_count() or 1),
            memory=psutil.virtual_memory().total,
            root_dir=str(self._state_dir),
        )

    def assume(self, capabilities: Capabilities) -> None:
        """Do nothing: what local processes can is known, whatever an earlier daemon wrote down of them."""

    async def find_out(self) -> Capabilities:
        """Return what local processes can; there is nobody to ask."""
        return self.capabilities

    def be_patient(self, seconds: float) -> None:
        """Do nothing: this engine's answers come from this machine's kernel at once."""

    async def close(self) -> None:
        """Kill what still runs, and end all iterations. Idempotent."""
        self._closed = True
        anything_left = any(s.child is not None and s.child.runs for s in self._stages.values())
        for stage in self._stages.values():
            if stage.child is not None:
                stage.child.let_go()
            stage.book.close()
        for listener in self._listeners:
            _post(listener, None)
        await self._guard.close(anything_left)

    async def alive(self) -> None:
        """Return at once: the daemon's own machine answers."""

    async def pull(self, image: str, platform: str | None = None) -> PullWords:
        """Raise `ProgramMissing`: programs are there, or are not."""
        raise ProgramMissing(image)
        yield

    async def image_ids(self, images: Sequence[str]) -> dict[str, str]:
        """Return the names themselves: programs do not change while the daemon lives."""
        return {image: image for image in images if self._program(image) is not None}

    async def claim(self, holder: str) -> str:
        """Return ``holder``: what this engine knows is in the state directory."""
        return holder

    async def holder(self) -> None:
        """Return None: there is no mark."""

    async def release(self) -> None:
        """Do nothing: there is no mark."""

    async def list_objects(self, instance: str) -> list[Found]:
        """Return everything that carries this instance's label, whatever its state."""
        stages = [_found(s.record, self._status(s)) for s in self._stages.values()]
        networks = [_found(record, "running") for record in self._networks.values()]
        return [f for f in stages + networks if f.labels.get(LABEL_INSTANCE) == instance]

    def events(self) -> AsyncGenerator[EngineEvent, None]:
        """Yield hints from the call on, until `close`; then raise `EngineUnavailable`."""
        listener: asyncio.Queue[EngineEvent | None] = asyncio.Queue(_EVENTS_HELD)
        self._listeners.add(listener)
        return self._events(listener)

    async def _events(
        self, listener: asyncio.Queue[EngineEvent | None]
    ) -> AsyncGenerator[EngineEvent, None]:
        try:
            while not self._closed and (event := await listener.get()) is not None:
                yield event
        finally:
            self._listeners.discard(listener)
        raise EngineUnavailable("the process engine is closed")

    # -- networks

    async def subnets_in_use(self) -> None:
        """Return None: loopback addresses are not taken from the configured subnets."""

    def address(self, network: Network, stage: str, port: int) -> Address:
        """Return the port at the network's own address, which is the first part of its id."""
        return Address(host=_ip_of(network.id), port=port)

    async def create_network(self, plan: NetworkPlan) -> Network:
        """Set an address aside."""
        taken = {_ip_of(network_id) for network_id in self._networks}
        ip = next(ip for ip in iter(_random_ip, None) if ip not in taken)
        network_id = f"{ip}-{secrets.token_hex(4)}"
        record = Record(kind="network", id=network_id, name=plan.name, labels=dict(plan.labels))
        self._records.save(record)
        self._networks[network_id] = record
        return Network(id=network_id, name=plan.name)

    async def remove_network(self, network_id: str) -> None:
        """Give the address back."""
        if self._networks.pop(network_id, None) is not None:
            self._records.forget(network_id)

    # -- stages

    async def create(self, plan: StagePlan) -> str:
        """Write the stage down without starting it and return its id.

        Raises `ProgramMissing`, `StageRefused`, `NotThere`.
        """
        self._check(plan)
        stage = self._named(plan.name) or self._new_stage(plan)
        keys = (LABEL_INSTANCE, LABEL_SESSION, LABEL_PLAN)
        if any(stage.record.labels.get(key) != plan.labels.get(key) for key in keys):
            raise StageRefused(f"the name {plan.name} is taken by another process")
        stage.plan = plan
        return stage.record.id

    async def start(self, container_id: str) -> None:
        """Run it. Raises `PortTaken`, `StageRefused`, `NotThere`."""
        stage = self._stage(container_id)
        if stage.record.started:
            return
        if stage.plan is None:
            raise StageRefused(f"{stage.record.name} was planned by an earlier daemon")
        if stage.plan.join is not None and self._status(self._stage(stage.plan.join)) != "running":
            raise StageRefused(f"{stage.record.name} would join a stage that does not run")
        _check_port(_ip_of(stage.plan.network.id), stage.plan.port)
        self._run(stage, stage.plan)

    async def connect_stage(
        self, container_id: str, network: Network, aliases: Sequence[str]
    ) -> None:
        """Raise `NotConnected`: a process has its network from the start."""
        raise NotConnected("a process cannot be connected late")

    async def attach_stdin(self, container_id: str) -> Input:
        """Hold the standard input of a running stage. Raises `NotThere`."""
        child = self._stage(container_id).child
        if child is None or child.ended.done():
            raise NotThere(f"{container_id} is not there any more")
        return ChildInput(child)

    async def inspect(self, container_id: str) -> StageState:
        """Return its state; status ``gone`` when there is no such process."""
        stage = self._stages.get(container_id)
        if stage is None:
            return StageState(id=container_id, status="gone")
        status = self._status(stage)
        if status != "running":
            at = None if stage.child is None else stage.child.ended_at
            return StageState(container_id, status, exit_code=_exit_code(stage), ended=at)
        if stage.plan is None:
            return StageState(container_id, status)
        ip = _ip_of(stage.plan.network.id)
        return StageState(id=container_id, status=status, ip=ip, published=_published(stage.plan))

    async def stop(self, container_id: str, grace: float) -> None:
        """Ask its group to end (SIGTERM), and after ``grace`` seconds kill it."""
        stage = self._stages.get(container_id)
        if stage is None:
            return
        if stage.child is None:
            await self._end_leftover(stage, grace)
            return
        stage.child.signal(signal.SIGTERM)
        if not await _ends(stage.child, grace):
            await self._kill(stage)

    async def remove(self, container_id: str) -> None:
        """Kill it if it runs, and forget it once it has ended."""
        stage = self._stages.get(container_id)
        if stage is None:
            return
        await self._kill(stage)
        if self._stages.pop(container_id, None) is None:
            return  # another call was faster
        stage.book.close()
        shutil.rmtree(self._records.home(container_id), ignore_errors=True)
        self._records.forget(container_id)
        self._tell("removed", stage.record)

    async def logs(self, container_id: str, tail: int) -> list[LogLine]:
        """Return its last ``tail`` lines, oldest first; empty when it is gone."""
        stage = self._stages.get(container_id)
        return stage.book.tail(tail) if stage is not None else []

    async def follow_logs(self, container_id: str, tail: int) -> AsyncGenerator[LogLine, None]:
        """Yield the last ``tail`` lines and then new ones until the process ends."""
        stage = self._stages.get(container_id)
        if stage is None:
            return
        async for line in stage.book.follow(tail):
            yield line

    async def stats(self, container_id: str) -> StageStats:
        """Return what it and its descendants use now. Raises `NotThere`."""
        process = self._process(self._stage(container_id))
        if process is None:
            return StageStats()
        with contextlib.suppress(psutil.Error):
            return group_stats(process)
        return StageStats()

    # -- what the calls are made of

    def _program(self, image: str) -> tuple[str, ...] | None:
        return self._commands.get(image.removesuffix(":latest"))

    def _check(self, plan: StagePlan) -> None:
        if not plan.command and self._program(plan.image) is None:
            raise ProgramMissing(plan.image)
        if plan.network.id not in self._networks:
            raise NotThere(f"the network of {plan.name} is not there any more")
        if plan.join is not None:
            self._stage(plan.join)
        if plan.publish is not None and not ipaddress.ip_address(plan.publish.host).is_loopback:
            raise StageRefused("the process engine publishes on loopback addresses only")
        if missed := plan.options.only_in_containers:
            raise StageRefused(
                f"{plan.name} has {', '.join(missed)}, which a local process cannot have: "
                "use a container engine"
            )

    def _new_stage(self, plan: StagePlan) -> _Stage:
        labels = dict(plan.labels)
        record = Record(kind="container", id=secrets.token_hex(8), name=plan.name, labels=labels)
        self._records.save(record)
        stage = self._stages[record.id] = _Stage(record)
        return stage

    def _named(self, name: str) -> _Stage | None:
        return next((s for s in self._stages.values() if s.record.name == name), None)

    def _stage(self, container_id: str) -> _Stage:
        try:
            return self._stages[container_id]
        except KeyError as exc:
            raise NotThere(f"{container_id} is not there any more") from exc

    def _run(self, stage: _Stage, plan: StagePlan) -> None:
        record = stage.record
        home = self._records.home(record.id)
        try:
            home.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise unwritable(exc, record.name) from exc
        argv = tuple(plan.command or self._program(plan.image) or ())
        start = ChildCommand(
            argv=("sh", "-c", SHIM, "operatord-shim", *argv) if plan.shim else argv,
            env=_env(plan) | self._guard.mark,
            directory=home,
            memory=plan.memory,
            stdin=plan.stdin,
        )
        record.started = True
        try:
            self._records.save(record)  # before there is anything of it
            self._watch()
            stage.child = Child(start, stage.book, lambda code: self._ended(stage, code))
        except BaseException:
            record.started = False
            with contextlib.suppress(DiskFull, StageRefused):  # no process is found for it, then
                self._records.save(record)
            raise
        record.pid, record.pid_time = stage.child.pid, stage.child.pid_time
        self._records.save(record)

    def _watch(self) -> None:
        """Start the guard, if it is not running. Raises `EngineUnavailable`, `NoDescriptors`."""
        try:
            self._guard.watch()
        except OSError as exc:
            if exc.errno in DESCRIPTORS_GONE:
                raise NoDescriptors from exc
            raise EngineUnavailable("no process can be started that guards stages") from exc

    def _ended(self, stage: _Stage, code: int) -> None:
        stage.record.exit_code = code
        if stage.record.id in self._stages:
            # If it cannot be written, the next daemon finds that the process is gone, which is an exit as
            # well.
            with contextlib.suppress(DiskFull, StageRefused):
                self._records.save(stage.record)
        self._tell("exited", stage.record)

    def _status(self, stage: _Stage) -> Literal["created", "running", "exited"]:
        if not stage.record.started:
            return "created"
        if stage.child is not None:
            return "exited" if stage.child.ended.done() else "running"
        return "exited" if self._process(stage) is None else "running"

    def _process(self, stage: _Stage) -> psutil.Process | None:
        return living_process(stage.record, self._records.home(stage.record.id))

    async def _kill(self, stage: _Stage) -> None:
        """Kill the group and return once it has ended."""
        if stage.child is None:
            await self._end_leftover(stage, grace=0)
            return
        stage.child.signal(signal.SIGKILL)
        if not await _ends(stage.child, _KILL_SECONDS):
            raise EngineUnavailable(f"{stage.record.name} is stuck: it survives SIGKILL")

    async def _end_leftover(self, stage: _Stage, grace: float) -> None:
        process = self._process(stage)
        if process is not None:
            await end_leftover(process, grace, _KILL_SECONDS)

    def _tell(self, kind: Literal["exited", "removed"], record: Record) -> None:
        for listener in self._listeners:
            _post(listener, EngineEvent(kind=kind, id=record.id, labels=record.labels))


def _env(plan: StagePlan) -> dict[str, str]:
    """Return all of a stage's environment. Its devices are the plan's, whatever the pipeline says."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **plan.env}
    return env | {"CUDA_VISIBLE_DEVICES": ",".join(plan.gpus)} if plan.gpus else env


def _found(record: Record, status: Literal["created", "running", "exited"]) -> Found:
    return Found(
        kind=record.kind, id=record.id, name=record.name, labels=record.labels, status=status
    )


async def _ends(child: Child, seconds: float) -> bool:
    done, _ = await asyncio.wait([child.ended], timeout=seconds)
    return bool(done)


def _exit_code(stage: _Stage) -> int | None:
    if stage.child is not None and stage.child.ended.done():
        return stage.child.ended.result()
    return stage.record.exit_code


def _published(plan: StagePlan) -> Address | None:
    if plan.publish is None:
        return None
    port = plan.port if plan.publish_port is None else plan.publish_port
    return Address(host=_ip_of(plan.network.id), port=port)


def _ip_of(network_id: str) -> str:
    return network_id.partition("-")[0]


def _random_ip() -> str:
    parts = (64 + secrets.randbelow(64), secrets.randbelow(255), 1 + secrets.randbelow(254))
    return "127.{}.{}.{}".format(*parts)


def _check_port(ip: str, port: int) -> None:
    """Bind a port and let it go. Raises `PortTaken` when somebody else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise PortTaken(f"port {port} of {ip} is in use") from exc
            raise StageRefused(f"port {port} of {ip} cannot be listened on") from exc


def _post(listener: asyncio.Queue[EngineEvent | None], event: EngineEvent | None) -> None:
    """Pass an event to a listener; one that does not read loses its oldest."""
    if listener.full():
        listener.get_nowait()
    listener.put_nowait(event)
