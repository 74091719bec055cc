# SPDX-License-Identifier: MIT
"""What the daemon asks of an engine: the interface, its plain data and its errors.

An engine is where stages run: Docker, local processes, or the in-memory fake of the unit tests. The
rest of the daemon knows only this module, and one contract suite holds all engines to it.

Rules every engine keeps:

- Every call ends within ``call_timeout`` seconds of the engine's own, or raises `EngineUnavailable`.
- ``remove``, ``remove_network`` and ``stop`` are idempotent: what is already gone is a success.
- A cancelled call may still take effect; its caller afterwards removes, by name, what it planned.
- Nothing that an engine answers in prose reaches a client: errors are the classes below, and their
  messages are sentences of ours.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from .causes import words
from .options import Options

# Labels on every object that is made. They are written with the object, never after it, so that a
# restarted daemon, or a person with `docker ps --filter`, can tell whose it is.
LABEL_INSTANCE = "operatord.instance"
LABEL_SESSION = "operatord.session"
LABEL_STAGE = "operatord.stage"
LABEL_PLAN = "operatord.plan"
LABEL_IMAGE = "operatord.image"
"""The name of a stage's image, which the engine shows by its id."""
LABEL_HOLDER = "operatord.holder"
"""On the mark of an instance only: which state directory it belongs to."""

WayOut = Literal["none", "replies", "open"]
"""What leaves a network: nothing; only replies to whoever has connected from outside; or everything. Stages
can always reach each other and the host's address in the network."""


class Address(msgspec.Struct, frozen=True):
    """Where a stage listens, as seen by the session's other stages, or a published port."""

    host: str
    port: int


class Capabilities(msgspec.Struct, frozen=True):
    """What an engine can do that not every engine can. Until an engine has confirmed one of these, it is not
    used: starts take longer then, but none fails because of it.
    """

    adopts: bool = True
    """Stages go on when the daemon ends, and the next daemon takes them on."""
    joins_by_name: bool = False
    """A stage can be created before the stage that it joins and before its network; both have to exist when
    it is started."""
    connects_late: bool = False
    """A stage can be started before its network is there, and connected to it then."""
    holds_input: bool = True
    """The standard input of a stage can be attached over this engine's connection."""
    reaps: bool = True
    """A stage can have a reaper as its process 1. Without one, a program that does nothing about SIGTERM is
    stopped only when its grace is over."""
    takes_port_ranges: bool = True
    """The engine picks a free port of a range by itself."""
    takes_devices: bool = True
    """Devices can be asked for. An engine that ignores the request would run a stage without them."""
    bridges_at_once: bool = False
    """A network's gateway is an address of the engine's host as soon as the network is made, and not only
    when its first stage is started."""
    filters_events: bool = True
    """Events can be asked for by type and action."""
    one_shot_stats: bool = True
    """A stage's use can be read with a single request, without a second measurement to compare it with."""
    closes_networks: bool = True
    """A network can be made without a way out. Where that is refused, all of them are open."""
    needs_images: bool = True
    """A stage is made of an image even if it has a command of its own."""


class EngineInfo(msgspec.Struct, frozen=True):
    """What answered: facts for `system.status`, all as the engine reports them."""

    name: str
    version: str
    api_version: str = ""
    cpus: float = 0.0
    memory: int = 0
    """Bytes of memory that the engine sees."""
    cgroup_version: str = ""
    """``1`` or ``2``; empty where the engine has no control groups, or does not say."""
    runtime: str = ""
    """The program that starts its containers, with its version: ``runc 1.1.5``. Empty where there is none."""
    root_dir: str = ""
    """The directory that it writes to, whose disk must not fill up. Not for clients to read."""
    endpoint: str = ""
    """The address at which it answered. Not for clients to read."""


class NetworkPlan(msgspec.Struct, frozen=True):
    """A session's own network. ``name`` need not be unique on the engine; ids are used everywhere."""

    name: str
    subnet: str
    """CIDR, for example ``10.213.0.16/28``; an engine without networks of its own ignores it."""
    labels: Mapping[str, str]
    way_out: WayOut = "open"


class Network(msgspec.Struct, frozen=True):
    """A network that exists."""

    id: str
    name: str
    gateway: str | None = None
    """The host's address inside the network, where stages can reach a port of the daemon's; None
    where stages share the host's own addresses."""
    way_out: WayOut = "open"
    """What it was asked to have."""


class Publish(msgspec.Struct, frozen=True):
    """One port of a stage made reachable from outside the session's network."""

    host: str
    """Host address to bind, for example ``127.0.0.1``."""
    ports: tuple[int, int] | None = None
    """First and last host port to choose from; None lets the engine choose."""


class StagePlan(msgspec.Struct, frozen=True):
    """A complete description of a container that is to be created."""

    name: str
    """Unique container name, derived from the session id and the stage."""
    stage: str
    image: str
    """The name of its image, and what it is made of unless ``image_id`` says so."""
    network: Network
    env: Mapping[str, str]
    labels: Mapping[str, str]
    port: int
    """The port it listens on inside the session's network."""
    aliases: tuple[str, ...] = ()
    """Names under which the network's other members find it. With ``join``, the owner has them."""
    join: str | None = None
    """Id of the container whose network namespace is shared instead of an endpoint of its own; where the
    engine has `Capabilities.joins_by_name`, or its name."""
    connect_later: bool = False
    """Start without an endpoint, which `Engine.connect_stage` makes, where the engine has
    `Capabilities.connects_late`."""
    publish: Publish | None = None
    publish_port: int | None = None
    """The inside port to publish when it is not ``port`` (the namespace's owner publishes for all)."""
    command: tuple[str, ...] = ()
    """Arguments in place of the image's own command; for the process engine, the program itself."""
    cpus: float = 0.1
    """Cores that it is sure to get when the machine is busy."""
    cpu_limit: float | None = None
    """Cores that it never exceeds; None lets it use what is idle."""
    memory: int = 256 * 1024 * 1024
    """Bytes at which it is killed."""
    memory_reservation: int | None = None
    """Bytes that it is to keep when memory runs short; at most ``memory``."""
    gpus: tuple[str, ...] = ()
    """Ids of the devices that it gets to see."""
    pids: int = 128
    stdin: bool = False
    """Keep standard input open, for late binding."""
    shim: bool = False
    """Start a shell that reads the environment from standard input, and becomes the command then."""
    options: Options = Options()
    """What its image needs beyond that."""
    image_id: str | None = None
    """What the image's name stood for when the start began: it is made of that."""


SHIM = 'while IFS= read -r line; do [ -n "$line" ] || exec "$@" </dev/null; export "$line"; done; exit 0'
"""A script for ``sh -c SHIM name command…`` in any POSIX shell. It reads ``KEY=VALUE`` lines up to a blank
one, then becomes the command. If input ends without a blank line, the stage was not needed."""


class StageState(msgspec.Struct, frozen=True):
    """What the engine says about one container now."""

    id: str
    status: Literal["created", "running", "exited", "gone"]
    exit_code: int | None = None
    oom_killed: bool = False
    began: float | None = None
    """When it was started last, by the same clock as ``ended``: another value later means that it was
    restarted. None where nobody but the daemon can start it."""
    ended: float | None = None
    """When it exited, in seconds since the epoch by the engine's clock."""
    start_failed: bool = False
    """Whether the engine could not start it when it was told to do so last."""
    published: Address | None = None
    """Where the published port is reachable, once running."""
    astray: bool = False
    """Whether that is another address than the one that was asked for."""
    ip: str | None = None
    """Its address in the session's network, once running."""
    paused: bool = False
    """Whether somebody has frozen it: it runs, and does nothing."""
    stopping: bool = False
    """Whether it is being ended: it runs, and how it ends is not known yet."""

    def where_published(self) -> Address | None:
        """Return where it is published. Raises `NotOurAddress` if that is not the address asked for."""
        if self.astray:
            raise NotOurAddress(
                "the engine has published the stage on another address than the one that was asked for; "
                "write an address of the engine's host as `advertise_host`"
            )
        return self.published


class Found(msgspec.Struct, frozen=True):
    """An object of ours met in a relist."""

    kind: Literal["container", "network"]
    id: str
    name: str
    labels: Mapping[str, str]
    status: Literal["created", "running", "exited"] = "running"
    paused: bool = False
    """Whether somebody has frozen it: it runs, and does nothing."""


class LogLine(msgspec.Struct, frozen=True):
    """One line a stage wrote. ``time`` is RFC 3339 in UTC."""

    time: str
    stream: Literal["stdout", "stderr"]
    line: str


class StageStats(msgspec.Struct, frozen=True):
    """What one container uses now; None where the engine cannot tell."""

    cpu_seconds: float | None = None
    """Processor time since it started, in seconds."""
    memory: int | None = None
    """Bytes resident, page cache left out."""
    memory_limit: int | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    pids: int | None = None


class EngineEvent(msgspec.Struct, frozen=True):
    """A hint that something changed. It may be missing: a relist is the truth."""

    kind: Literal["exited", "oom", "removed", "stopped", "started", "paused", "image"]
    """``stopped``: somebody, maybe the daemon, has asked the engine to end it. ``image``: a name may refer to
    another image now; this hint belongs to no container and has no labels."""
    id: str
    labels: Mapping[str, str]


class Pulled(msgspec.Struct, frozen=True):
    """How far a pull is: bytes that have come, and that there are, of the layers known so far."""

    done: int
    total: int


PullWords = AsyncGenerator[Pulled, None]


class EngineError(Exception):
    """Root of what an engine raises. ``str()`` is a sentence that may be shown to a requester."""

    stage: str | None = None
    """The stage at fault, noted by whoever knows."""


def in_full(exc: BaseException) -> str:
    """Return an error for the log: its sentence, and the engine's own words, or the operating system's."""
    return f"{exc} ({words(exc.__cause__)})" if exc.__cause__ is not None else str(exc)


class EngineUnavailable(EngineError):
    """The engine does not answer, or stopped answering in the middle of a call."""


class EngineSilent(EngineUnavailable):
    """The engine was asked, and its answer has not come; it may still do what it was asked for."""


class EngineFailed(EngineUnavailable):
    """The engine answers, but only that it could not do what it was asked for."""


class ImageMissing(EngineError):
    """An image is not there. ``image`` names it."""

    def __init__(self, image: str, message: str | None = None) -> None:
        self.image = image
        super().__init__(message or f"the image {image} is not on this engine")


class PullFailed(ImageMissing):
    """An image could not be pulled; the message says why, and what to do."""


class ProgramMissing(ImageMissing):
    """The image is not among those whose programs can be run as local processes."""

    def __init__(self, image: str) -> None:
        super().__init__(
            image,
            f"a local process runs a program and no image, and for {image} none is known: give the stage a "
            "`command`, or use a container engine",
        )


class SubnetTaken(EngineError):
    """The subnet overlaps with another network: take the next one."""


class PortTaken(EngineError):
    """Every host port that may be published is in use by somebody else."""


class DiskFull(EngineError):
    """The engine's disk has no space left for what was asked of it."""


DESCRIPTORS_GONE = frozenset((errno.EMFILE, errno.ENFILE))
"""Error numbers of a process, or machine, that has no file descriptor left."""


class NoDescriptors(EngineSilent):
    """This process has no file descriptor left to ask the engine with. The engine itself may be fine."""

    def __init__(self) -> None:
        super().__init__(
            "the daemon has no file descriptor left: raise its limit on open files (LimitNOFILE, ulimit -n), "
            "or run fewer sessions at once"
        )


class NotThere(EngineError):
    """The container or network that was named is gone."""


class StageRefused(EngineError):
    """The engine will not create or start this stage as planned (a bad command, a bad limit)."""


class OutOfMemory(StageRefused):
    """The stage has a memory limit that is too low to start it."""


class NotOurAddress(StageRefused):
    """The address to publish on is not one of the engine's host."""


class NotConnected(EngineError):
    """The stage could not be connected late. An ordinary start may avoid the cause, or reports it."""


class NotOurs(EngineError):
    """The engine has this instance marked as another holder's: another daemon's objects have the same
    label."""


class Input(Protocol):
    """The standard input of a stage that waits for its settings (late binding)."""

    @property
    def closed(self) -> bool:
        """Whether the stage has ended, or was let go of."""
        ...

    @property
    def stirred(self) -> asyncio.Event | None:
        """Set whenever the stage writes something, which is a hint; None where that cannot be told."""
        ...

    @property
    def spoken(self) -> int:
        """How often the stage has been heard to write something so far; it only grows."""
        ...

    def send(self, data: bytes) -> None:
        """Send a few lines, without waiting. Raises `NotThere`."""
        ...

    def close(self) -> None:
        """Release it. Idempotent."""
        ...


class Engine(Protocol):
    """Where stages run. All calls are safe to use concurrently from one event loop."""

    name: str

    @property
    def capabilities(self) -> Capabilities:
        """What may be used: the last assumption, minus what the engine has refused since."""
        ...

    def assume(self, capabilities: Capabilities) -> None:
        """Use these capabilities from now on."""
        ...

    async def find_out(self) -> Capabilities | None:
        """Ask the engine what it can do, and leave nothing behind; None while there is nothing to ask with.

        Leftovers of a killed call carry the instance's label, but no session's. Raises `EngineError`.
        """
        ...

    async def connect(self) -> EngineInfo:
        """Make sure that the engine answers. Raises `EngineUnavailable`."""
        ...

    async def alive(self) -> None:
        """Send the engine its cheapest request and return when it has answered. Raises
        `EngineUnavailable`."""
        ...

    async def image_ids(self, images: Sequence[str]) -> dict[str, str]:
        """Return the id of the image that each name refers to now, or did after the call; names without an
        image are left out."""
        ...

    def pull(self, image: str, platform: str | None = None) -> PullWords:
        """Have the engine pull an image; yield how far it is, until it is there. Closed, the pull ends.

        The registry may be silent for any time. Raises `PullFailed`, `DiskFull`, `EngineUnavailable`.
        """
        ...

    async def subnets_in_use(self) -> list[str] | None:
        """Return the CIDRs of all networks on the engine, ours or not; None if it takes no subnets."""
        ...

    def address(self, network: Network, stage: str, port: int) -> Address:
        """Return the address at which other stages will find ``stage``. No I/O."""
        ...

    async def create_network(self, plan: NetworkPlan) -> Network:
        """Create it. Raises `SubnetTaken`, `DiskFull`, `EngineUnavailable`."""
        ...

    async def remove_network(self, network_id: str) -> None:
        """Remove it, disconnecting whatever foreign endpoint still holds on to it."""
        ...

    async def create(self, plan: StagePlan) -> str:
        """Create the container without starting it and return its id.

        A container of the same name, session and plan labels (an earlier call whose answer got
        lost) is adopted. Raises `ImageMissing`, `StageRefused`, `DiskFull`, `NotThere`,
        `EngineUnavailable`.
        """
        ...

    async def start(self, container_id: str) -> None:
        """Start it.

        Raises `PortTaken`, `StageRefused`, `DiskFull`, `NotThere`, `EngineUnavailable`.
        """
        ...

    async def connect_stage(
        self, container_id: str, network: Network, aliases: Sequence[str]
    ) -> None:
        """Make the endpoint of a running stage that was planned with ``connect_later``.

        Raises `NotConnected`, `NotThere`, `EngineUnavailable`.
        """
        ...

    async def attach_stdin(self, container_id: str) -> Input:
        """Hold the standard input of a running stage that was planned with ``stdin``.

        Raises `NotThere`, `StageRefused` where that cannot be done, `EngineUnavailable`.
        """
        ...

    async def inspect(self, container_id: str) -> StageState:
        """Return its state; status ``gone`` when there is no such container."""
        ...

    async def stop(self, container_id: str, grace: float) -> None:
        """Ask it to end (SIGTERM), and after ``grace`` seconds kill it. Returns once it is dead."""
        ...

    async def remove(self, container_id: str) -> None:
        """Kill it if it runs, remove it, and return once the engine says that it is gone."""
        ...

    async def logs(self, container_id: str, tail: int) -> list[LogLine]:
        """Return its last ``tail`` lines, oldest first; empty when it is gone."""
        ...

    def follow_logs(self, container_id: str, tail: int) -> AsyncGenerator[LogLine, None]:
        """Yield the last ``tail`` lines and then new ones until the container ends."""
        ...

    async def stats(self, container_id: str) -> StageStats:
        """Return what it uses now. Raises `NotThere`."""
        ...

    async def claim(self, holder: str) -> str:
        """Mark the instance on the engine as ``holder``'s, if it has no mark yet; return the holder.

        An engine that only its own daemon can reach need not mark anything. Raises `EngineUnavailable`.
        """
        ...

    async def holder(self) -> str | None:
        """Return the holder that the mark names; None if there is no mark. Raises `EngineUnavailable`."""
        ...

    async def release(self) -> None:
        """Remove the mark, whichever holder it names. Idempotent."""
        ...

    async def list_objects(self, instance: str) -> list[Found]:
        """Return everything that carries this instance's label, whatever its state."""
        ...

    def events(self) -> AsyncGenerator[EngineEvent, None]:
        """Yield hints until the engine is lost, then raise `EngineUnavailable`."""
        ...

    def be_patient(self, seconds: float) -> None:
        """Set how long the engine may be silent: no call ends by itself before much longer than that."""
        ...

    async def close(self) -> None:
        """Release threads, sockets and files. Containers stay. Idempotent."""
        ...
