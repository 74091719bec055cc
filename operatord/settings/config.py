# SPDX-License-Identifier: MIT
"""What settings there are: their names, types, limits and defaults."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from operatord.core.engine_kinds import EngineChoice
from operatord.core.pipelines import Pipeline, shipped
from operatord.core.sources.adapters import Adapter, Scheme, shipped_adapters
from operatord.core.units import Bytes, Duration, plain
from operatord_protocol.framing import LEAST_LINE_BYTES, LINE_BYTES, MOST_LINE_BYTES

from .http import HttpSettings
from .listeners import Auth, ListenerSettings, OpenDoor, is_loopback
from .probes import ProbeSettings

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000)]
Share = Annotated[float, Meta(gt=0, le=1)]


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` has one sentence for each reason.

    No sentence has a path of the host, since clients may read it: where the file itself is at fault, ``path``
    names it.
    """

    def __init__(self, problems: Sequence[str], path: Path | None = None) -> None:
        self.problems = list(problems)
        self.path = path
        super().__init__("\n".join(self.problems))


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much of anything there may be at once."""

    sessions: Positive = 32
    sessions_per_owner: Positive | None = None
    queue: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    connections: Positive = 1000
    connections_per_address: Positive | None = None
    refused: Annotated[int, Meta(ge=1, le=1000)] = 16
    refused_linger: Duration = Duration(5)
    line_bytes: Annotated[int, Meta(ge=LEAST_LINE_BYTES, le=MOST_LINE_BYTES)] = LINE_BYTES
    line_timeout: Duration = Duration(30)
    idle_timeout: Duration | None = None
    in_flight: Positive = 64
    subscriptions: Positive = 64
    starts_per_minute: Positive | None = None
    output_bytes: Bytes = Bytes(4 * 1024**2)
    output_total: Bytes = Bytes(24 * 1024**2)
    probes: Positive = 1000
    label_bytes: Annotated[int, Meta(ge=0, le=64 * 1024)] = 4096
    log_followers: Positive = 256


class SystemReserved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What sessions never get. ``cpus`` in cores; the rest must also stay free by measurement."""

    cpus: Annotated[float, Meta(ge=0, le=1024)] = 0.0
    memory: Bytes = Bytes(256 * 1024**2)
    disk: Bytes = Bytes(512 * 1024**2)


class GpuSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device that stages may be given, under the name that the engine knows it by."""

    id: str
    memory: Bytes


class Pressure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Thresholds from which nothing new starts, whatever is reserved; None: not measured."""

    cpu: Share | None = None
    """Share of all cores that was busy, a moving average over half a minute. Off by default: reservations
    protect running sessions, and other people's work may take all cores for hours."""
    memory_stall: Share | None = 0.2
    """Share of time in which all tasks waited for memory: the kernel's PSI, ``full avg10``."""


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """In which order waiting requests start."""

    ageing: Duration = Duration(60)
    """Waiting that counts as one level of priority; 0: none ever does."""
    deadline: Duration | None = Duration(300)
    """Longest wait of a request without a deadline whose requester gets no notifications; None: for ever."""


class Slots(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sessions that are made before anybody asks; ``pipelines.<name>.warm`` says how many."""

    max_age: Duration = Duration(600)
    """After so long one is replaced by a new one."""
    networks: Annotated[int, Meta(ge=0, le=64)] = 0
    """Networks that are made in advance for sessions that start without a slot."""


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a session is ended before its work is done; None: never."""

    unread_timeout: Duration | None = Duration(600)
    """Since its stream was there, nobody has ever read it; not for leases that end otherwise."""
    idle_timeout: Duration | None = None
    max_age: Duration | None = None


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many ended sessions stay readable, and for how long; whichever is reached first."""

    rows: Positive = 1000
    days: Annotated[float, Meta(gt=0, le=36_500)] = 30


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is remembered of sessions that have ended. A bare number means so many rows."""

    keep: Kept | Positive = Kept()

    @property
    def kept(self) -> Kept:
        """Rows and days."""
        return Kept(rows=self.keep) if isinstance(self.keep, int) else self.keep


class Streams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may read a stream from another machine."""

    allow: Literal["token", "requester", "any"] = "token"


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request that does not say gets."""

    count: Count = 100_000


class Logging(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the daemon says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting. operatord.yaml shows each with its default and what it is for."""

    listen: str = "127.0.0.1:7733"
    unix: str | None = None
    listeners: list[ListenerSettings] = []
    auth: Auth = Auth()
    http: HttpSettings = HttpSettings()
    engine: EngineChoice = "auto"
    docker_host: str | None = None
    docker_context: str | None = None
    docker_tls_verify: bool | None = None
    docker_tls: bool | None = None
    docker_cert_path: str | None = None
    state_dir: str | None = None
    advertise_host: str | None = "auto"
    subnets: str = "10.213.0.0/16"
    ports: str | None = None
    gate_ports: str | None = None
    streams: Streams = Streams()
    engine_patience: Duration = Duration(10)
    start_timeout: Duration = Duration(60)
    stop_grace: Duration = Duration(2)
    stall_timeout: Duration | None = Duration(30)
    on_shutdown: Literal["keep", "stop"] = "keep"
    shutdown_timeout: Duration = Duration(30)
    limits: Limits = Limits()
    probes: ProbeSettings = ProbeSettings()
    system_reserved: SystemReserved = SystemReserved()
    gpus: Literal["auto"] | list[GpuSettings] = "auto"
    pressure: Pressure = Pressure()
    queue: Queue = Queue()
    lease: Lease = Lease()
    slots: Slots = Slots()
    defaults: Defaults = Defaults()
    history: History = History()
    log: Logging = Logging()
    sources: dict[Scheme, Adapter] = msgspec.field(default_factory=shipped_adapters)
    pipelines: dict[str, Pipeline] = msgspec.field(default_factory=shipped)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def open_doors(self) -> list[OpenDoor]:
        """The TCP addresses without a login."""
        doors = [
            OpenDoor(each.address)
            for each in self.listeners
            if each.auth == "none" and not each.is_unix
        ]
        if self.http.listen is not None and not self.http.asks(self.auth):
            doors.append(OpenDoor(f"http://{self.http.listen}"))
        return doors if self.auth.tokens is not None else [OpenDoor(self.listen), *doors]

    @property
    def clear_doors(self) -> list[str]:
        """The addresses that tokens of other machines go to in clear, each in a sentence."""
        found = [
            f"tokens go to {each.address} in clear: set tls there"
            for each in self.listeners
            if not (each.is_unix or each.tls or is_loopback(each.tcp[0]))
        ]
        http = self.http
        if http.listen is not None and http.tls is None and not is_loopback(http.address[0]):
            found.append(f"tokens go to {http.listen} in clear: set http.tls")
        return found

    @property
    def has_roles(self) -> bool:
        """Whether somebody may be less than an operator."""
        return self.auth.tokens is not None or any(each.auth != "none" for each in self.listeners)

    @property
    def port_range(self) -> tuple[int, int] | None:
        """First and last published port; None lets the engine choose."""
        return _range(self.ports)

    @property
    def gate_port_range(self) -> tuple[int, int] | None:
        """First and last port of the gate; None lets the system choose."""
        return _range(self.gate_ports)

    @property
    def state_path(self) -> Path:
        """Where the daemon keeps what must outlive it."""
        if self.state_dir is not None:
            return Path(self.state_dir).expanduser()
        if os.geteuid() == 0:
            return Path("/var/lib/operatord")
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(home).expanduser() / "operatord"


def to_dict(config: Config) -> dict[str, Any]:
    """Return the settings as plain data."""
    data: dict[str, Any] = msgspec.to_builtins(config, enc_hook=plain)
    return data


def _range(ports: str | None) -> tuple[int, int] | None:
    if ports is None:
        return None
    first, _, last = ports.partition("-")
    return int(first), int(last or first)
