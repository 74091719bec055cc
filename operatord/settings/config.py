# SPDX-License-Identifier: MIT
"""The settings: what they are, where they come from, and whether they make sense together.

Command line beats environment beats file beats defaults. A file is laid over the defaults key by key.
Whatever is unknown, of the wrong type or contradictory is one sentence with the setting's path; all of
them are found at once, and the daemon does not start.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from operatord.core import engine_address
from operatord.core.engine_kinds import EngineChoice, is_local
from operatord.core.pipelines import Pipeline, problems, shipped
from operatord.core.subnets import PREFIX
from operatord.core.units import Bytes, Duration, custom, plain
from operatord_protocol.checking import explain
from operatord_protocol.framing import LEAST_LINE_BYTES, LINE_BYTES, MOST_LINE_BYTES
from operatord_protocol.hosts import host_problem

from .listeners import Auth, ListenerSettings, OpenDoor, is_loopback, listener_problems

PREFIX_OF_VARIABLES = "OPERATORD_"
OTHER_VARIABLES = (
    "OPERATORD_CONFIG", "OPERATORD_ADDRESS", "OPERATORD_TOKEN", "OPERATORD_CA", "OPERATORD_CERT",
    "OPERATORD_KEY", "OPERATORD_SESSION", "OPERATORD_LATE_BIND",
    "OPERATORD_FAILPOINT", "OPERATORD_GUARD", "OPERATORD_NO_ENGINE_REASON",
)  # fmt: skip
"""Variables of ours that are no settings: for the command line, the client, stages and tests."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000)]
Share = Annotated[float, Meta(gt=0, le=1)]


# Without the comma and the white space that would make two devices of one.
_GPU_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9:._/=-]{0,127}\Z")
_NOT_FOR_NETWORKS = tuple(
    ipaddress.IPv4Network(each) for each in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
)
"""This network, loopback, and from multicast on (RFC 6890)."""
_UNQUOTED_TEXT = re.compile(r"expected str(?: \| null)?, got (?:bool|int|float)\Z")
_EXPECTED = {
    "gpus": "expected auto or a list such as [{id: GPU-1a2b3c4d, memory: 8GiB}]",
    "listen": "expected HOST:PORT such as 127.0.0.1:7733",
    "ports": "expected a range such as 20000-20999",
}
"""What is said of a setting whose type cannot say it."""


LEAST_PATIENCE, MOST_PATIENCE = 1.0, 600.0
"""Seconds. With less, an engine would be lost as soon as it is slow; with more, nobody would hear of one that
hangs."""


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` has one sentence for each reason.

    No sentence has a path of the host, for clients may read it: where the file itself is at fault,
    ``path`` names it.
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
    output_total: Bytes = Bytes(64 * 1024**2)
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
    """From where on nothing new starts, whatever is reserved; None: this is not looked at."""

    cpu: Share | None = None
    """Share of all cores that was busy, a moving average over half a minute. Not looked at unless that is
    wanted: reservations protect what runs, and other people's work may take all cores for hours."""
    memory_stall: Share | None = 0.2
    """Share of time in which all tasks waited for memory: the kernel's PSI, ``full avg10``."""


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """In which order waiting requests start."""

    ageing: Duration = Duration(60)
    """Waiting that counts as one level of priority; 0: none ever does."""
    deadline: Duration | None = Duration(300)
    """Longest wait of a request that says no deadline and cannot be told how it stands; None: for ever."""


class Slots(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sessions that are made before anybody asks; ``pipelines.<name>.warm`` says how many."""

    max_age: Duration = Duration(600)
    """After so long one is replaced by a new one."""
    networks: Annotated[int, Meta(ge=0, le=64)] = 0
    """Networks that are made beforehand for whichever sessions start without a slot."""


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a session is ended though its work is not done; None: never."""

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
    engine: EngineChoice = "auto"
    docker_host: str | None = None
    docker_context: str | None = None
    docker_tls_verify: bool | None = None
    docker_tls: bool | None = None
    docker_cert_path: str | None = None
    state_dir: str | None = None
    advertise_host: str | None = None
    subnets: str = "10.213.0.0/16"
    ports: str | None = None
    engine_patience: Duration = Duration(10)
    start_timeout: Duration = Duration(60)
    stop_grace: Duration = Duration(2)
    stall_timeout: Duration | None = Duration(30)
    on_shutdown: Literal["keep", "stop"] = "keep"
    shutdown_timeout: Duration = Duration(30)
    limits: Limits = Limits()
    system_reserved: SystemReserved = SystemReserved()
    gpus: Literal["auto"] | list[GpuSettings] = "auto"
    pressure: Pressure = Pressure()
    queue: Queue = Queue()
    lease: Lease = Lease()
    slots: Slots = Slots()
    defaults: Defaults = Defaults()
    history: History = History()
    log: Logging = Logging()
    pipelines: dict[str, Pipeline] = msgspec.field(default_factory=shipped)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def open_doors(self) -> list[OpenDoor]:
        """The TCP addresses where nobody has to say who they are."""
        doors = [
            OpenDoor(each.address)
            for each in self.listeners
            if each.auth == "none" and not each.is_unix
        ]
        return doors if self.auth.tokens is not None else [OpenDoor(self.listen), *doors]

    @property
    def port_range(self) -> tuple[int, int] | None:
        """First and last published port; None lets the engine choose."""
        if self.ports is None:
            return None
        first, _, last = self.ports.partition("-")
        return int(first), int(last or first)

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


def from_dict(data: Mapping[str, Any], overlays: Sequence[Mapping[str, Any]] = ()) -> Config:
    """Lay ``data`` and then ``overlays`` over the defaults. Raises `ConfigError`."""
    merged = to_dict(Config())
    for layer in (data, *overlays):
        merged = _lay_over(merged, layer)
    try:
        config = msgspec.convert(merged, Config, dec_hook=custom)
    except msgspec.ValidationError as exc:
        path, what = _problem(exc)
        raise ConfigError([f"{_named(path, merged)}: {what}"]) from exc
    if found := _contradictions(config):
        raise ConfigError(found)
    return config


def _problem(exc: msgspec.ValidationError) -> tuple[str, str]:
    path, what = explain(exc, Config, root="")
    path = path.lstrip(".")
    if _UNQUOTED_TEXT.match(what):
        what += ": text, in quotes"
    return path, _EXPECTED.get(path, what)


def _named(path: str, data: dict[str, Any]) -> str:
    """Return ``path`` with names for each ``[...]``, which is how msgspec writes any name in a mapping.

    The name is the first whose member, left alone in its mapping, is refused with the same path.
    """
    head, *rest = path.split("[...]")
    names = head.split(".")
    for tail in rest:
        inner = data
        for name in names:
            inner = inner[name]
        alone = (only for name in inner if _refused_at(only := _only(data, names, name)) == path)
        data = next(alone, {})
        if not data:
            return path
        inner = data
        for name in names:
            inner = inner[name]
        names += [*inner, *tail.split(".")[1:]]
    return ".".join(map(str, names))


def _only(data: dict[str, Any], names: Sequence[str], name: str) -> dict[str, Any]:
    """Return ``data`` with nothing but ``name`` in the mapping that ``names`` lead to."""
    if not names:
        return {name: data[name]}
    return {**data, names[0]: _only(data[names[0]], names[1:], name)}


def _refused_at(data: dict[str, Any]) -> str | None:
    try:
        msgspec.convert(data, Config, dec_hook=custom)
    except msgspec.ValidationError as exc:
        return _problem(exc)[0]
    return None


def load(
    path: Path | None, env: Mapping[str, str], options: Mapping[str, Any], *, again: bool = False
) -> Config:
    """Return the settings from file, environment and command line. Raises `ConfigError`.

    ``options`` maps settings to values; those that are None were not given. ``again``, by a daemon that
    serves: nothing is waited for, so the file has to be a regular one.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if slips := [said for name in _strange(env) if (said := _slip(name))]:
        raise ConfigError(slips)
    try:
        config = from_dict(_read(path, again=again) if path else {}, (_from_env(env), given))
    except ConfigError as exc:
        if exc.path is not None:
            raise
        told = [_with_variable(each, env, given) for each in exc.problems]
        raise ConfigError(told, path if told == exc.problems else None) from exc
    try:
        config.state_path  # noqa: B018
    except RuntimeError as exc:  # pathlib's, of ~
        what = "there is no home directory to keep it in; set it, or give --state-dir"
        raise ConfigError([f"state_dir: {what}"]) from exc
    return config


def not_settings(env: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings and are none, nor near to one."""
    return [name for name in _strange(env) if not _slip(name)]


def in_small_letters(env: Mapping[str, str]) -> list[str]:
    """Return the variables that would be settings, were they written in capital letters."""
    known = {*_variables(), *OTHER_VARIABLES}
    return sorted(name for name in env if name not in known and name.upper() in known)


def _strange(env: Mapping[str, str]) -> list[str]:
    """Return the variables that have our prefix and are known to nobody of ours.

    Orchestrators describe a service named operatord in variables of such names; those are not meant for us.
    """
    known = {*_variables(), *OTHER_VARIABLES}
    return sorted(
        name
        for name, value in env.items()
        if name.startswith(PREFIX_OF_VARIABLES)
        and name not in known
        and not name.startswith("OPERATORD_SERVICE_")
        and not (name.startswith("OPERATORD_PORT") and ("_TCP" in name or "://" in value))
    )


def _slip(name: str) -> str | None:
    """Return what was probably meant by an unknown variable, as a sentence; None if nobody can tell."""
    near = difflib.get_close_matches(name, [*_variables(), *OTHER_VARIABLES], n=1, cutoff=0.85)
    return f"{name}: there is no such setting; did you mean {near[0]}?" if near else None


def _variables() -> list[str]:
    return [_variable(path) for path in _scalars(to_dict(Config()))]


def _variable(path: Sequence[str]) -> str:
    return PREFIX_OF_VARIABLES + "_".join(path).upper()


def _read(path: Path, *, again: bool) -> dict[str, Any]:
    from . import file as settings_file  # noqa: PLC0415  # 10 ms that --help need not pay
    from . import yaml_text as settings_yaml  # noqa: PLC0415

    try:
        data = settings_file.read(path, again=again)
    except settings_yaml.Unusable as exc:
        raise ConfigError(exc.problems, path) from exc
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        what = "the settings file is to hold a mapping such as 'listen: 127.0.0.1:7733'"
        raise ConfigError([what], path)
    return data


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    """Read ``OPERATORD_LISTEN`` for listen, ``OPERATORD_LIMITS_SESSIONS`` for limits.sessions, …"""
    found: dict[str, Any] = {}
    for path in _scalars(to_dict(Config())):
        text = env.get(_variable(path))
        if text is None:
            continue
        place = found
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = _env_value(path, text)
    return found


def _env_value(path: tuple[str, ...], text: str) -> Any:
    from . import file as settings_file  # noqa: PLC0415  # 10 ms that --help need not pay
    from . import yaml_text as settings_yaml  # noqa: PLC0415  # 10 ms that --help need not pay

    try:
        return settings_file.value(text)
    except settings_yaml.Unusable as exc:
        raise ConfigError([f"{_variable(path)}: {each}" for each in exc.problems]) from exc


def _scalars(data: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all settings but pipelines."""
    paths: list[tuple[str, ...]] = []
    for key, value in data.items():
        if isinstance(value, dict) and key != "pipelines":
            paths += _scalars(value, (*prefix, key))
        elif key != "pipelines":
            paths.append((*prefix, key))
    return paths


def _lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it key by key; lists and scalars are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            _lay_over(below, value)
            if isinstance(below, dict) and isinstance(value, dict)
            else value
        )
    return merged


def _contradictions(config: Config) -> list[str]:
    found = [
        *_listen_problems(config),
        *listener_problems(config.listeners, config.auth),
        *_path_problems(config),
        *_network_problems(config),
        *_gpu_problems(config),
        *_lease_problems(config.lease),
        *_limit_problems(config.limits),
        *_stall_problems(config.stall_timeout),
        *_queue_problems(config.queue),
        *_patience_problems(config.engine_patience),
        *_engine_problems(config),
    ]
    for name, pipeline in config.pipelines.items():
        found += problems(name, pipeline)
    for needed in ("stream", "segmented"):
        if needed not in config.pipelines:
            found.append(f"pipelines.{needed}: is what plain_stream chooses and cannot be left out")
    return found


def _listen_problems(config: Config) -> list[str]:
    host, colon, port = config.listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        return [f"listen: expected HOST:PORT such as 127.0.0.1:7733, got {config.listen!r}"]
    if not is_loopback(host.strip("[]")):
        return [
            f"listen: {host} can be reached from other machines; put it into `listeners`, with tls and with "
            "auth: token or cert, or listen on 127.0.0.1"
        ]
    return []


def _path_problems(config: Config) -> list[str]:
    paths = {name: getattr(config, name) for name in ("unix", "state_dir", "docker_cert_path")}
    paths["auth.tokens"] = config.auth.tokens
    found = [
        f"{name}: a path has no control characters, and {path!r} has one"
        for name, path in paths.items()
        if path and not path.isprintable()
    ]
    if config.state_dir == "":
        found.append("state_dir: is empty; name a directory, or leave it out for the usual one")
    if (length := len(os.fsencode(config.unix or ""))) > engine_address.LONGEST_PATH:
        found.append(
            f"unix: the path of a socket has {engine_address.LONGEST_PATH} bytes at most, and this one "
            f"has {length}"
        )
    return found


def _network_problems(config: Config) -> list[str]:
    found = []
    try:
        net = ipaddress.IPv4Network(config.subnets)
        if other := next((each for each in _NOT_FOR_NETWORKS if net.overlaps(each)), None):
            found.append(
                f"subnets: {net} has addresses of {other}, which no network can have; choose a private range "
                "such as 10.213.0.0/16"
            )
        if net.prefixlen > PREFIX:
            found.append(f"subnets: {net} is smaller than one session's /{PREFIX}")
        elif 2 ** (PREFIX - net.prefixlen) < config.limits.sessions:
            found.append(
                f"subnets: {net} has {2 ** (PREFIX - net.prefixlen)} /{PREFIX} networks, fewer than "
                f"limits.sessions ({config.limits.sessions})"
            )
    except ValueError:
        found.append(f"subnets: expected a CIDR such as 10.213.0.0/16, got {config.subnets!r}")
    if config.ports is not None:
        found += _ports_problems(config)
    if config.advertise_host is not None:
        found += _advertised_problems(config.advertise_host, config.engine)
    return found


def _advertised_problems(host: str, engine: EngineChoice) -> list[str]:
    problem = host_problem(host)
    found = [f"advertise_host: {problem}"] if problem else []
    if is_local(engine) and not is_loopback(host):
        found.append("advertise_host: the process engine serves on loopback addresses only")
    return found


def _ports_problems(config: Config) -> list[str]:
    first, _, last = (config.ports or "").partition("-")
    last = last or first
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) <= 65535):
        return [f"ports: expected a range such as 20000-20999, got {config.ports!r}"]
    room = int(last) - int(first) + 1
    if room < config.limits.sessions:
        return [f"ports: {room} ports are fewer than limits.sessions ({config.limits.sessions})"]
    return []


def _gpu_problems(config: Config) -> list[str]:
    ids = [] if config.gpus == "auto" else [gpu.id for gpu in config.gpus]
    found = [
        f"gpus[{place}].id: expected a name such as GPU-1a2b3c4d, or a number in quotes, got {name!r}"
        for place, name in enumerate(ids)
        if not _GPU_ID.match(name)
    ]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    return found + [f"gpus: the id {name!r} is there more than once" for name in twice]


def _lease_problems(lease: Lease) -> list[str]:
    return [
        f"lease.{name}: is longer than 0, or null for no end"
        for name, seconds in msgspec.structs.asdict(lease).items()
        if seconds is not None and seconds <= 0
    ]


def _limit_problems(limits: Limits) -> list[str]:
    times = ("refused_linger", "line_timeout", "idle_timeout")
    return [
        f"limits.{name}: is longer than 0"
        for name in times
        if (seconds := getattr(limits, name)) is not None and seconds <= 0
    ]


def _stall_problems(seconds: Duration | None) -> list[str]:
    if seconds is None or seconds > 0:
        return []
    return ["stall_timeout: is longer than 0, or null for never"]


def _engine_problems(config: Config) -> list[str]:
    if not config.docker_host:
        return []
    if config.docker_context:
        return ["docker_context: names another engine than docker_host does; set one of them"]
    wrong = engine_address.problem(config.docker_host)
    return [f"docker_host: {wrong}"] if wrong else []


def _with_variable(problem: str, env: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """Return a sentence about a setting with the variable that it was read from, if it was."""
    setting = re.split(r"[:\[]", problem)[0]
    for path in _scalars(to_dict(Config())):
        variable = _variable(path)
        if setting == ".".join(path) and path[0] not in given and variable in env:
            return f"{variable}: {problem}"
    return problem


def _patience_problems(seconds: Duration) -> list[str]:
    if LEAST_PATIENCE <= seconds <= MOST_PATIENCE:
        return []
    return [
        f"engine_patience: expected {LEAST_PATIENCE:g} to {MOST_PATIENCE:g} seconds such as 10s, "
        f"got {seconds:g}"
    ]


def _queue_problems(queue: Queue) -> list[str]:
    if queue.deadline is None or queue.deadline > 0:
        return []
    return ["queue.deadline: is longer than 0, or null for no end"]
