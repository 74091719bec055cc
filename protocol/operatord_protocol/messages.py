# SPDX-License-Identifier: MIT
"""The parameters and results of every method, as frozen types valid once constructed.

The same types decode the wire, are encoded onto it, and give the JSON Schemas of `system.describe`.
Absent members are `UNSET`, never null: a null where a member has a type is refused like any wrong type.
Times are RFC 3339 in UTC, durations seconds, sizes bytes.

Patterns end in ``(?!\n)$``: a bare ``$`` would let a newline pass at the end of a name, and names end up in
labels, file names and ``KEY=VALUE`` lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

COUNT_MAX = 2**31 - 1

Count = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(?!\n)$",
        description="letters and digits, and - _ . after the first",
    ),
]
SessionId = Annotated[
    str,
    Meta(pattern=r"^[0-9A-F]{16}(?!\n)$", description="16 hexadecimal digits in upper case"),
]
CLEAN = r"^[^\x00-\x1f\x7f-\x9f]*(?!\n)$"
"""A pattern for text that is passed on: to engines, logs and terminals, which obey control characters. In a
variable's value one would carry a second, unlisted variable through a shell shim."""
CLEAN_MEANS = "text without control characters"
Key = Annotated[str, Meta(min_length=1, max_length=256, pattern=CLEAN, description=CLEAN_MEANS)]
User = Annotated[str, Meta(min_length=1, max_length=64, pattern=CLEAN, description=CLEAN_MEANS)]
Label = Annotated[str, Meta(max_length=256, pattern=CLEAN, description=CLEAN_MEANS)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Tail = Annotated[int, Meta(ge=0, le=10_000)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Limit = Annotated[int, Meta(ge=1, le=10_000)]
Cursor = Annotated[str, Meta(min_length=1, max_length=512)]
Subscription = Annotated[int, Meta(ge=0, le=2**53)]
Id = Integer | Annotated[str, Meta(max_length=256)]

Phase = Literal["queued", "starting", "running", "stopping", "ended"]
Outcome = Literal["completed", "stopped", "failed", "expired", "refused"]
Cause = Literal[
    "done",
    "client",
    "lease",
    "idle",
    "unread",
    "max_age",
    "oom",
    "exit",
    "engine_lost",
    "restart",
    "start_timeout",
    "start_failed",
    "image_missing",
    "no_capacity",
    "disk",
    "probe",
    "deadline",
    "drain",
    "shutdown",
    "internal",
]
StreamFormat = Literal["json", "y4m"]
PHASES: tuple[Phase, ...] = ("queued", "starting", "running", "stopping", "ended")
EVENT_TYPES = (
    *(f"session.{phase}" for phase in PHASES),
    "session.expiring",
    "session.stalled",
    "session.held_up",
    "session.attached",
    "session.detached",
    "probe.up",
    "probe.down",
    "engine.lost",
    "engine.back",
    "pressure.changed",
    "drain.changed",
)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Root of all params: by name only, unknown members are refused."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Root of all results: members may be added by later versions, so readers ignore unknown ones."""


class NoParams(Params, frozen=True):
    """For methods without parameters."""


# --- system --------------------------------------------------------------------------------


class Pong(Result, frozen=True):
    pong: bool
    time: str


class DrainParams(Params, frozen=True):
    timeout: Seconds | UnsetType = UNSET


class Drained(Result, frozen=True):
    draining: bool
    waiting_for: list[str]
    """Ids of the sessions that still live."""


class Reloaded(Result, frozen=True):
    reloaded: bool
    changed: list[str]
    """The settings that are different now."""
    generation: int = 0
    """As in `Status`."""


class Description(Result, frozen=True):
    version: str
    protocol: int
    instance: str
    engine: dict[str, Any]
    methods: dict[str, Any]
    errors: dict[str, Any]
    capabilities: list[str]


class Trouble(Result, frozen=True):
    task: str
    times: int
    error: str
    since: str
    last: str


Role = Literal["viewer", "user", "operator"]
"""Roles; each may do what those before it may."""


class Status(Result, frozen=True):
    version: str
    instance: str
    engine: dict[str, Any]
    host: dict[str, Any]
    capacity: dict[str, Any]
    reserved: dict[str, Any]
    measured: dict[str, Any]
    pressure: str
    sessions: dict[str, int]
    queue: dict[str, Any]
    warm: dict[str, Any]
    draining: bool
    connections: int
    uptime: float
    generation: int = 0
    """Of the settings: 1 at the daemon's start, and one more with each reload; 0 where it is not said."""
    free: dict[str, Any] = {}
    """What a start could take now: the smaller of what is not reserved and what is measured to be free."""
    networks: dict[str, int] = {}
    troubles: list[Trouble] = []
    """Tasks of the daemon that broke and were started again."""
    role: Role | UnsetType = UNSET
    """What whoever asks may do."""
    warnings: list[str] = []
    """Security warnings: addresses that ask for no login."""


MetricType = Literal["counter", "gauge", "histogram"]


class MetricSample(Result, frozen=True):
    """One number of a metric, or one distribution."""

    labels: dict[str, str]
    value: float | UnsetType = UNSET
    """Of a counter or gauge."""
    buckets: list[int] | UnsetType = UNSET
    """Of a histogram: observations up to each of the metric's bounds, and at last all of them."""
    sum: float | UnsetType = UNSET
    """Of a histogram: what all observations add up to."""


class Metric(Result, frozen=True):
    name: str
    """As Prometheus has it: base units, and ``_total`` for counters."""
    type: MetricType
    help: str
    samples: list[MetricSample]
    bounds: list[float] | UnsetType = UNSET
    """Of a histogram: the largest observations that its buckets count, rising."""


class Metrics(Result, frozen=True):
    metrics: list[Metric]


# --- auth --------------------------------------------------------------------------------


class LoginParams(Params, frozen=True):
    token: Annotated[str, Meta(min_length=1, max_length=4096)]


class Login(Result, frozen=True):
    user: str
    role: str
    note: str | UnsetType = UNSET
    """That no logins are configured, so that the token proves nothing."""


# --- pipelines --------------------------------------------------------------------------------


class Pipelines(Result, frozen=True):
    pipelines: list[dict[str, Any]]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.pipelines)

    def __len__(self) -> int:
        return len(self.pipelines)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.pipelines[index]


# --- probes --------------------------------------------------------------------------------


Host = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9._:%-]+(?!\n)$",
        description="the name or the address of a host, without a port; a URL goes into url",
    ),
]


# No blanks and control characters: it becomes a variable of a stage.
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2048,
        pattern=r"^[^\x00-\x20\x7f]+(?!\n)$",
        description="a URL without blanks and control characters; a blank in it is written %20",
    ),
]


class ProbeRegisterParams(Params, frozen=True):
    """Either ``url``, or ``host`` and ``port``."""

    name: Name
    host: Host | UnsetType = UNSET
    port: Port | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    """With credentials, if it needs any; nobody is shown them."""
    labels: dict[Name, Label] = {}
    lease: Literal["pinned", "connection"] = "pinned"


class ProbeParams(Params, frozen=True):
    name: Name


class Probe(Result, frozen=True, kw_only=True):
    name: str
    host: str | UnsetType = UNSET
    """Of all but what is on the engine's machine, such as files and devices."""
    port: int | UnsetType = UNSET
    url: str | UnsetType = UNSET
    """Without credentials; ``tcp://HOST:PORT`` of a probe that serves the stream format itself."""
    state: str
    """``up``, ``down``, or ``unknown`` while nobody has connected to it yet."""
    labels: dict[str, str] = {}
    lease: str = "pinned"
    owner: str | UnsetType = UNSET
    frame: dict[str, Any] | UnsetType = UNSET
    """The probe's own hello: width, height, format, fps, count; of a URL, what its source says."""
    error: str | UnsetType = UNSET
    sessions: list[str] = []


class ProbeListParams(Params, frozen=True):
    limit: Limit | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET


class Probes(Result, frozen=True):
    probes: list[Probe]
    next: str | UnsetType = UNSET
    """The cursor of what comes after these, if anything does."""

    def __iter__(self) -> Iterator[Probe]:
        return iter(self.probes)

    def __len__(self) -> int:
        return len(self.probes)

    def __getitem__(self, index: int) -> Probe:
        return self.probes[index]


# --- sessions --------------------------------------------------------------------------------


class Ttl(Params, frozen=True):
    ttl: PositiveSeconds


Lease = Literal["pinned", "connection"] | Ttl
EnvText = Annotated[str, Meta(max_length=4096, pattern=CLEAN, description=CLEAN_MEANS)]
EnvName = Annotated[
    str,
    Meta(
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(?!\n)$",
        description="letters, digits and _, and no digit first",
    ),
]
EnvValue = EnvText | Integer | float | bool
# Bounded before any name is looked at: to match each of the thousands that a line can hold takes 5 ms.
StageEnv = Annotated[dict[EnvName, EnvValue], Meta(max_length=64)]
StagesEnv = Annotated[dict[Name, StageEnv], Meta(max_length=16)]


class SessionStartParams(Params, frozen=True):
    plain_stream: bool | UnsetType = UNSET
    pipeline: Name | UnsetType = UNSET
    count: Count | UnsetType = UNSET
    probe: Name | UnsetType = UNSET
    format: StreamFormat = "json"
    request_key: Key | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0
    owner: User | UnsetType = UNSET
    lease: Lease = "pinned"
    on_shortage: Literal["queue", "refuse", "degrade"] = "queue"
    deadline: PositiveSeconds | UnsetType = UNSET
    wait: Literal["ready", "accepted"] = "ready"
    env: StagesEnv = {}


class Location(Result, frozen=True):
    host: str
    port: int
    url: str
    """``tcp://HOST:PORT``, or ``tls://HOST:PORT``."""
    format: str
    tls: bool | UnsetType = UNSET
    """TLS is spoken there, with the certificate of the daemon's listener."""
    token: str | UnsetType = UNSET
    """What a consumer says first: ``{"type":"open","token":…}``. It is the session's alone."""


class Peak(Result, frozen=True):
    """The most that a stage was seen to use."""

    cpus: float
    """Cores, as an average between two looks."""
    memory: int


class PostMortem(Result, frozen=True):
    """What there is to know about a session that has ended."""

    phases: dict[str, str]
    """When it came into each of its phases."""
    stage: str | UnsetType = UNSET
    """The stage at fault."""
    advice: str | UnsetType = UNSET
    """What to do about the cause; absent where there is nothing to be done."""
    usage: dict[str, Peak] = {}
    """By stage, without stages that were gone before they could be inspected."""
    log: dict[str, list[str]] = {}
    """Last lines by stage, oldest first, the stage at fault first."""


class ImageUsed(Result, frozen=True):
    name: str
    id: str


class Session(Result, frozen=True):
    session_id: str
    pipeline: str
    phase: Phase
    network: str | UnsetType = UNSET
    location: Location | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    created: str = ""
    started: str | UnsetType = UNSET
    ended: str | UnsetType = UNSET
    expires: str | UnsetType = UNSET
    unread_since: str | UnsetType = UNSET
    """Since when it runs and nobody has read from it; absent once somebody has, or if nobody knows."""
    position: int | UnsetType = UNSET
    estimate: float | UnsetType = UNSET
    """Seconds after which it is expected to leave the queue."""
    plain_location: Location | UnsetType = UNSET
    """The plain stream's location, once a degraded session has its missing stage."""
    registered_probe: str | UnsetType = UNSET
    timings: dict[str, float] | UnsetType = UNSET
    warm: bool | UnsetType = UNSET
    degraded: bool | UnsetType = UNSET
    exit_codes: dict[str, int | None] | UnsetType = UNSET
    count: int | UnsetType = UNSET
    """Frames that were asked for; absent when the registered probe decides."""
    frames: int | UnsetType = UNSET
    """Frames that were delivered, once the session has ended."""
    joined: bool | UnsetType = UNSET
    """True in the answer to a start that started nothing: an earlier one had its ``request_key``."""
    post_mortem: PostMortem | UnsetType = UNSET
    """Only for an ended session that is asked for by its id, not in lists."""
    images: dict[str, ImageUsed] | UnsetType = UNSET
    """By stage, what its container is made of; not in lists."""
    stages: dict[str, str] = {}
    """Container id by stage. On the wire these are members of the session itself."""


class PlanResult(Result, frozen=True):
    decision: Literal["start", "queue", "refuse"]
    explanation: dict[str, Any]


class SessionParams(Params, frozen=True):
    session_id: SessionId


class SessionListParams(Params, frozen=True):
    phase: Phase | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    limit: Limit | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET


class Sessions(Result, frozen=True):
    sessions: list[Session]
    next: str | UnsetType = UNSET
    """The cursor of what comes after these, if anything does."""

    def __iter__(self) -> Iterator[Session]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)

    def __getitem__(self, index: int) -> Session:
        return self.sessions[index]


class SessionStopParams(Params, frozen=True):
    session_id: SessionId
    grace: Seconds | UnsetType = UNSET


class SessionWaitParams(Params, frozen=True):
    session_id: SessionId
    phase: Phase = "ended"
    timeout: Seconds | UnsetType = UNSET


class SessionExtendParams(Params, frozen=True):
    session_id: SessionId
    ttl: PositiveSeconds


class SessionLogsParams(Params, frozen=True):
    session_id: SessionId
    stage: Name | UnsetType = UNSET
    tail: Tail = 100
    follow: bool = False


class StageLine(Result, frozen=True):
    stage: str
    time: str
    line: str


class Logs(Result, frozen=True):
    lines: list[StageLine]
    subscription: int | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET


class Stats(Result, frozen=True):
    session_id: str
    stages: dict[str, dict[str, Any]]


# --- events --------------------------------------------------------------------------------


class SubscribeParams(Params, frozen=True):
    session_id: SessionId | UnsetType = UNSET
    types: list[str] | UnsetType = UNSET
    since: Annotated[int, Meta(ge=0, le=2**53)] | UnsetType = UNSET


class Subscribed(Result, frozen=True):
    subscription: int
    seq: int
    """The newest event when the subscription began."""


class UnsubscribeParams(Params, frozen=True):
    subscription: Subscription


class Unsubscribed(Result, frozen=True):
    subscription: int


class CancelParams(Params, frozen=True):
    id: Id


class CancelResult(Result, frozen=True):
    cancelled: bool


def session_to_wire(session: Session) -> dict[str, Any]:
    """Return the session with its stages as members of its own."""
    wire: dict[str, Any] = msgspec.to_builtins(session)
    stages = wire.pop("stages", {})
    return {**wire, **stages}


def session_from_wire(wire: dict[str, Any]) -> Session:
    """Return the session that was flattened: members it does not know are stages' container ids."""
    known = Session.__struct_fields__
    fields = {key: value for key, value in wire.items() if key in known and key != "stages"}
    fields["stages"] = {
        key: value for key, value in wire.items() if key not in known and isinstance(value, str)
    }
    return msgspec.convert(fields, Session)
