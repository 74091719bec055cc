# SPDX-License-Identifier: MIT
"""One session as the supervisor knows it, from the request to long after its end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from operatord.core import phases
from operatord.core.endings import Meddling
from operatord.core.plans import SessionPlan
from operatord.core.scheduling.learning import StageUse
from operatord.engines.base import Address, Input, LogLine, Network, StageState, WayOut
from operatord.gate.door import Door, Reach
from operatord.machine.clock import Clock
from operatord.streams.relay import Relay
from operatord.streams.reports import Report
from operatord.waking import Waiters
from operatord_protocol.errors import EngineUnavailable, WireError
from operatord_protocol.messages import Location, Outcome, Phase, SessionStartParams

from .moments import Written

ProgressListener = Callable[[dict[str, Any]], None]


FIRST_STEP = "queue"
"""What a request does before its start is begun."""


class Ending(NamedTuple):
    """Why a session is to end. The first one asked for counts."""

    outcome: Outcome
    cause: str
    reason: str
    error: WireError | None = None
    """What whoever still waits for the start is told."""
    stage: str | None = None
    """The stage at fault."""
    grace: float | None = None
    """Seconds that stages get after SIGTERM; None for the configured ones."""


class QueuePosition(NamedTuple):
    """Where a session stands in the queue."""

    position: int | None = None
    """1 is next."""
    reason: str | None = None
    """Why it waits."""
    starts_at: float | None = None
    """Moment at which it is expected to be started, on the monotonic clock."""
    estimate: float | None = None
    """Seconds until then, when somebody last asked."""


NOT_QUEUED = QueuePosition()


class Told(NamedTuple):
    """What a stage was sent on its standard input, and how much it had said by then."""

    held: Input
    spoken: int


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class Provisioned:
    """What a session has on the engine and the host. Only `provision` writes to it, and who restores it."""

    subnet: str | None = None
    network: Network | None = None
    way_out: WayOut = "open"
    """What its network is to have, before there is one."""
    relay: Relay | None = None
    doors: dict[str, Door] = field(default_factory=dict)
    """By stage, where it is found from other machines."""
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Where each stage, and a registered probe, is found by the session's stages."""
    upstream_address: str | None = None
    """The number at which the registered probe has answered: what its stages, or its relay, connect to."""
    source_at: tuple[str, int] | None = None
    """Where the adapter finds the source of a probe with a URL; None: where the URL says."""
    containers: dict[str, str] = field(default_factory=dict)
    gpus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For each stage that has any, the ids of the devices that it was given."""
    image_ids: dict[str, str] = field(default_factory=dict)
    """Which image each name of its stages stood for when its start began."""
    inputs: dict[str, Input] = field(default_factory=dict)
    """The standard input of each stage that waits."""
    told: dict[str, Told] = field(default_factory=dict)
    """Stages that have been sent what they wait for."""
    unused: list[str] = field(default_factory=list)
    """Containers of a claimed slot that the request has no use for."""
    published: Address | None = None
    """Where the last stage's port is published, when that is known beforehand."""
    late_binding: bool = False
    """Late binding: its stages start first and read their settings from standard input."""
    source_waits: bool = False
    """At least its adapter does, so that its URL is in no container's settings."""
    connect_later: bool = False
    """The namespace that its stages share is connected to its network only when they run."""


@dataclass(eq=False)
class Observed:
    """What was seen of a session's stages. Only `monitors` and the post-mortem write to it."""

    exits: dict[str, StageState] = field(default_factory=dict)
    runs: dict[str, float] = field(default_factory=dict)
    """By container id, when it was started: another moment later means that somebody restarted it."""
    ended: set[str] = field(default_factory=set)
    """Container ids of those whose end the engine has told while the session ran."""
    endpoints: dict[str, str] = field(default_factory=dict)
    """By container id, its address in the session's network: another one, or none, means that somebody has
    disconnected it."""
    by_others: dict[str, Meddling] = field(default_factory=dict)
    """By container id, what somebody has done to it without the daemon."""
    oom: set[str] = field(default_factory=set)
    """Stages in which the kernel has killed a process for lack of memory."""
    reports: dict[str, Report] = field(default_factory=dict)
    log_tails: dict[str, list[LogLine]] = field(default_factory=dict)
    usage: dict[str, StageUse] = field(default_factory=dict)
    """What each stage was seen to use; a stage that nobody has looked at is not there."""


@dataclass(eq=False)
class SessionRecord:
    """State of one session. Only the supervisor and the task that lives the session write to it."""

    id: str
    plan: SessionPlan
    params: SessionStartParams
    owner: str
    phases: dict[Phase, float]
    """When it came into each phase, by the wall clock; ``queued`` when it is made."""
    phase: Phase = "queued"
    reach: Reach | None = None
    """Where whoever asked for it is to find it; None for one on this machine."""
    restored: bool = False
    """It was begun by an earlier daemon, which may have made more than it could write down."""

    moments: dict[Phase, float] = field(default_factory=dict)
    """When it was ``queued`` and came to be ``running``, on the monotonic clock."""
    written: Written | None = None
    """The moments of one of an earlier life, as they were written down."""

    end: float | None = None
    """When it ends at the latest, on the monotonic clock …"""
    expires: float | None = None
    """… and by the wall clock, as it was then or was put right since."""
    ttl: float | None = None
    lease_end: float | None = None
    """When its lease of ``ttl`` seconds ends, on the monotonic clock."""
    unread_limit: float | None = None
    """Seconds for which it may run without ever having been read; None when it may for ever, or was read."""
    unread: bool = False
    """Nobody has read from it yet, by what its last stage says."""
    place: QueuePosition = NOT_QUEUED
    """Where it stands in the queue."""
    missing: tuple[str, ...] = ()
    """Stages that it has to do without for now: it is served plain."""
    attached: tuple[str, ...] = ()
    """Stages that came later, when there was room for them."""
    attaching: asyncio.Task[None] | None = None
    """What starts them, while it does."""
    expected_seconds: float | None = None
    """How long its stream lasts, by the plan, or by what its header says."""
    fps: float = 0.0
    """Frames per second, by its header; 0 for as fast as they are taken."""

    step: str = FIRST_STEP
    timings: dict[str, float] = field(default_factory=dict)
    location: Location | None = None
    plain_location: Location | None = None
    """Where the plain stream is, when the location is that of an attached stage."""

    warm: bool = False
    """It was, or is, a slot that was made before anybody asked."""

    provisioned: Provisioned = field(default_factory=Provisioned)
    observed: Observed = field(default_factory=Observed)

    result: Ending | None = None
    ending: asyncio.Future[Ending] = field(default_factory=_future)
    wish: Ending | None = None
    """The end that somebody has asked for since, if it is not about a stage; see `go_on`."""

    listeners: list[ProgressListener] = field(default_factory=list)
    holders: int = 0
    """Connections that it ends with, all together."""
    at_end: list[Callable[[], object]] = field(default_factory=list)
    """Called once it has ended."""
    orphaned: bool = False
    """The connection that bounds it broke when the earlier daemon died."""
    for_operators: str | None = None
    """Why its probe cannot be used, where its owner may not be one to know."""
    waiters: int = 0
    """Requests that wait for the answer to its start."""
    was_answered: bool = False
    """Some request for it was answered: whoever made that knows of it, and may want it."""
    given_up: bool = False
    """It will not become ready, though it may take long until it is removed."""
    _changes: Waiters = field(default_factory=Waiters)

    def __post_init__(self) -> None:
        self.expected_seconds = self.plan.expected_seconds

    @property
    def network_name(self) -> str:
        """The name of its network, as the original system made them."""
        return f"network_{self.id[:5]}"

    @property
    def created(self) -> float:
        """When it was asked for, by the wall clock."""
        return self.phases["queued"]

    @property
    def started(self) -> float | None:
        """When its location was proven."""
        return self.phases.get("running")

    @property
    def ended(self) -> float | None:
        """When all of it was gone."""
        return self.phases.get("ended")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that it has, or is to have now, in the order of the stream."""
        return tuple(name for name in self.plan.stages if name not in self.missing)

    @property
    def base_stages(self) -> tuple[str, ...]:
        """The stages that it was started with."""
        return tuple(name for name in self.stages if name not in self.attached)

    @property
    def is_attaching(self) -> bool:
        """Whether its missing stages are being started."""
        return self.attaching is not None and not self.attaching.done()

    def close_inputs(self) -> None:
        """Release the stages' standard inputs."""
        for held in self.provisioned.inputs.values():
            held.close()
        self.provisioned.inputs.clear()

    def locations(self) -> dict[str, Location]:
        """Return where it delivers, by the stage that is published there."""
        plain = self.plain_location or self.location
        found = {} if plain is None else {self.base_stages[-1]: plain}
        if self.plain_location is not None and self.location is not None:
            found |= dict.fromkeys(self.attached, self.location)
        return found

    def join(self, name: str, location: Location) -> None:
        """The missing stage ``name`` is there, and delivers at ``location``."""
        self.plain_location, self.location = self.location, location
        self.attached, self.missing = (name,), ()

    def set_aside(self, name: str) -> None:
        """The attached stage ``name`` is not to be counted with any more."""
        self.attached, self.missing = (), (name,)
        if self.plain_location is not None:
            self.location, self.plain_location = self.plain_location, None

    def advance(self, to: Phase, wall: float) -> None:
        """Go to the phase ``to`` and wake whoever waits. Raises `phases.IllegalTransition`."""
        self.phase = phases.advance(self.phase, to)
        self.phases[to] = wall
        self._changes.wake()
        if to == "ended":
            while self.at_end:
                self.at_end.pop()()

    async def wait_for(self, phase: Phase) -> None:
        """Return once the session is in ``phase`` or past it."""
        while not phases.reached(self.phase, phase):
            await self._changes.wait()

    async def moved(self) -> None:
        """Return when something has changed."""
        await self._changes.wait()

    async def started_stages(self) -> None:
        """Return once its stages run, so that they can be listened to, or never will."""
        while self.phase == "queued" or (self.phase == "starting" and self.step != "verify"):
            await self._changes.wait()

    def give_up(self) -> None:
        """Answer everybody who waits for it to be ready: it will not be."""
        self.given_up = True
        self._changes.wake()

    async def ready(self) -> None:
        """Return once the session runs, or never will."""
        while not self.given_up and self.phase != "ended":
            if self.location is not None and phases.reached(self.phase, "running"):
                return
            await self._changes.wait()

    def hand_out(self, stages: Iterable[str], gpus: tuple[str, ...]) -> None:
        """Note which of the devices each stage has; they come in the order of the stages."""
        left = iter(gpus)
        for name in stages:
            if wanted := self.plan.stages[name].gpus:
                self.provisioned.gpus[name] = tuple(itertools.islice(left, wanted))

    def give_up_start(self, reason: str) -> None:
        """Fail the start because the engine does not answer. Requesters do not wait for the removal."""
        if self.phase == "starting":
            error = EngineUnavailable(reason, session_id=self.id, retry_after=1)
            self.ask_end(Ending("failed", "engine_lost", reason, error))
        if self.phase in ("starting", "stopping") and self.started is None:
            self.give_up()

    def ask_end(self, ending: Ending) -> None:
        """Ask the session to end; only the first reason counts."""
        if not self.ending.done():
            self.ending.set_result(ending)
        elif self.wish is None and ending.stage is None:
            self.wish = ending

    def go_on(self) -> None:
        """Forget the end of a stage, because the session goes on without it; an end that somebody asked for
        still counts."""
        if self.ending.done() and self.ending.result().stage is not None:
            self.ending = _future()
            if self.wish is not None:
                self.ask_end(self.wish)

    def progress(self, step: str) -> None:
        """Tell those who wait for the start what is being done."""
        self.step = step
        self._changes.wake()
        self.tell({"stage": step})

    def tell_reason(self, reason: str) -> None:
        """Tell those who wait for the start what its step waits for."""
        self.tell({"stage": self.step, "reason": reason})

    def tell(self, fields: dict[str, Any]) -> None:
        """Send a progress notification with ``fields`` to every listener."""
        for listener in tuple(self.listeners):
            listener({"session_id": self.id, **fields})

    @property
    def frames(self) -> int | None:
        """Frames that the last stage says it has delivered."""
        report = self.observed.reports.get(self.base_stages[-1])
        return None if report is None else report.frames

    def set_end(self, end: float | None, clock: Clock) -> None:
        """Set ``end``, on the monotonic clock, as its end at the latest."""
        self.end, self.expires = end, None if end is None else clock.wall_of(end)

    def unread_since(self, clock: Clock) -> float | None:
        """Return since when it runs without being read; None when it was read, or nobody knows."""
        if not self.unread or self.phase != "running" or self.started is None:
            return None
        return clock.put_right(self.started, self.moments["running"])

    def put_right(self, clock: Clock) -> None:
        """Say when it ends by the wall clock as it is now."""
        if self.end is not None and self.expires is not None:
            self.expires = clock.put_right(self.expires, self.end)
