# SPDX-License-Identifier: MIT
"""Whether settings make sense together: one sentence for each that does not, with its path."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from pathlib import Path

import msgspec

from operatord.core import engine_address
from operatord.core.engine_kinds import is_local
from operatord.core.pipelines import Pipeline, problems, warnings
from operatord.core.sources.adapters import adapter_problems, adapter_warnings, shipped_adapters
from operatord.core.subnets import PREFIX
from operatord.core.units import Duration
from operatord_protocol.hosts import host_problem

from .config import Config, Lease, Limits, Queue
from .http import http_problems
from .listeners import is_loopback, listener_problems
from .probes import probe_problems

# No comma or white space, which would make two devices of one.
_GPU_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9:._/=-]{0,127}\Z")
_NOT_FOR_NETWORKS = tuple(
    ipaddress.IPv4Network(each) for each in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
)
"""This network, loopback, and from multicast on (RFC 6890)."""
LEAST_PATIENCE, MOST_PATIENCE = 1.0, 600.0
"""Seconds. With less, an engine would be lost as soon as it is slow; with more, nobody would hear of one that
hangs."""


def contradictions(config: Config) -> list[str]:
    found = [
        *_listen_problems(config),
        *listener_problems(config.listeners, config.auth),
        *http_problems(config.http, config.auth),
        *probe_problems(config.probes),
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
    for scheme, adapter in config.sources.items():
        found += adapter_problems(scheme, adapter)
    for name, pipeline in config.pipelines.items():
        found += problems(name, pipeline)
    for needed in ("stream", "segmented"):
        if needed not in config.pipelines:
            found.append(
                f"pipelines.{needed}: is what plain_stream selects, and cannot be left out"
            )
    return found


def cautions(config: Config) -> list[str]:
    """Return a sentence for each thing that makes sense, and that its writer may not have meant. They may
    name paths of the engine's machine, so they are not for clients."""
    local = is_local(config.engine)
    found = _relative_warnings(config)
    shipped = shipped_adapters()
    for scheme, adapter in config.sources.items():
        if adapter != shipped.get(scheme):
            found += adapter_warnings(scheme, adapter, local=local)
    for name, pipeline in config.pipelines.items():
        found += warnings(name, pipeline, local=local)
        found += _warm_warnings(config, name, pipeline)
        found += _unreadable_warnings(config, name, pipeline)
    return found


def _relative_warnings(config: Config) -> list[str]:
    paths = {"state_dir": config.state_dir, "unix": config.unix, "auth.tokens": config.auth.tokens}
    return [
        f"{name}: {path} is another place wherever the daemon is started; write the whole path"
        for name, path in paths.items()
        if path and not Path(path).expanduser().is_absolute()
    ]


def _warm_warnings(config: Config, name: str, pipeline: Pipeline) -> list[str]:
    least, most = pipeline.warm_bounds[0], config.limits.sessions
    if least <= most:
        return []
    return [
        f"pipelines.{name}.warm: keeps {least} slots, more than the sessions that may run at once "
        f"(limits.sessions: {most})"
    ]


def _unreadable_warnings(config: Config, name: str, pipeline: Pipeline) -> list[str]:
    """Warn of a stream at the gate that its readers cannot open, because they cannot say a token."""
    remote = any(not each.is_unix and not is_loopback(each.tcp[0]) for each in config.listeners)
    serves = pipeline.stages[pipeline.location_stage].serves
    if serves == "stream" or config.streams.allow != "token" or not remote:
        return []
    return [
        f"pipelines.{name}: programs that speak {serves} cannot say a stream's token, so from other machines "
        "nobody can read it; set streams.allow to requester"
    ]


def _listen_problems(config: Config) -> list[str]:
    host, colon, port = config.listen.rpartition(":")
    if not colon or "/" in host or not port.isdigit() or int(port) > 65535:
        return [f"listen: expected HOST:PORT such as 127.0.0.1:7733, got {config.listen!r}"]
    if not is_loopback(host.strip("[]")):
        return [
            f"listen: {host or 'every address'} can be reached from other machines; put it into `listeners`, "
            "with tls and with auth: token or cert, or listen on 127.0.0.1"
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


def _like_cidr(text: str) -> str:
    """Return the network that an address in it was likely meant to be, else an example."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Network(text, strict=False))
    return "10.213.0.0/16"


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
        found.append(
            f"subnets: expected a CIDR such as {_like_cidr(config.subnets)}, got {config.subnets!r}"
        )
    found += _ports_problems("ports", config.ports, config.limits.sessions)
    found += _ports_problems("gate_ports", config.gate_ports, config.limits.sessions)
    if not found and config.port_range and config.gate_port_range:
        (first, last), (gate_first, gate_last) = config.port_range, config.gate_port_range
        if first <= gate_last and gate_first <= last:
            found.append(
                f"gate_ports: {config.gate_ports} has ports of `ports` ({config.ports}), where the engine "
                "publishes; choose another range"
            )
    if config.advertise_host not in (None, "auto"):
        found += _advertised_problems(config.advertise_host)
    return found


def _advertised_problems(host: str) -> list[str]:
    if problem := host_problem(host):
        return [f"advertise_host: {problem}; or write auto"]
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return [
                f"advertise_host: {host} is not an address to connect to; write auto, or the name by "
                "which other machines reach this one"
            ]
    return []


def _ports_problems(name: str, ports: str | None, sessions: int) -> list[str]:
    if ports is None:
        return []
    first, dash, last = ports.partition("-")
    ends = [first, last if dash else first]
    if not all(end.isascii() and end.isdigit() for end in ends):
        return [f"{name}: expected a range such as 20000-20999, got {ports!r}"]
    for which, end in zip(("begins", "ends"), ends, strict=True):
        if not 0 < int(end[:6]) <= 65535:
            where = f"it {which} with {end[:20]}, which" if dash else end[:20]
            return [f"{name}: {where} is not a port from 1 to 65535; a range is 20000-20999"]
    room = int(ends[1]) - int(ends[0]) + 1
    if room <= 0:
        return [f"{name}: {ports} ends before it begins; write {ends[1]}-{ends[0]}"]
    if room < sessions:
        found = "one port is" if room == 1 else f"{room} ports are"
        return [f"{name}: {found} fewer than limits.sessions ({sessions}); write a longer range"]
    return []


def _gpu_problems(config: Config) -> list[str]:
    ids = [] if config.gpus == "auto" else [gpu.id for gpu in config.gpus]
    found = [
        f"gpus[{place}].id: expected a name such as GPU-1a2b3c4d, or a number in quotes, got {name!r}"
        for place, name in enumerate(ids)
        if not _GPU_ID.match(name)
    ]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    return found + [f"gpus: the id {name!r} is listed more than once" for name in twice]


def _lease_problems(lease: Lease) -> list[str]:
    return [
        f"lease.{name}: must be longer than 0, or null for no end"
        for name, seconds in msgspec.structs.asdict(lease).items()
        if seconds is not None and seconds <= 0
    ]


def _limit_problems(limits: Limits) -> list[str]:
    times = ("refused_linger", "line_timeout", "idle_timeout")
    return [
        f"limits.{name}: must be longer than 0"
        for name in times
        if (seconds := getattr(limits, name)) is not None and seconds <= 0
    ]


def _stall_problems(seconds: Duration | None) -> list[str]:
    if seconds is None or seconds > 0:
        return []
    return ["stall_timeout: must be longer than 0, or null for never"]


def _queue_problems(queue: Queue) -> list[str]:
    if queue.deadline is None or queue.deadline > 0:
        return []
    return ["queue.deadline: must be longer than 0, or null for no end"]


def _patience_problems(seconds: Duration) -> list[str]:
    if LEAST_PATIENCE <= seconds <= MOST_PATIENCE:
        return []
    return [
        f"engine_patience: expected {LEAST_PATIENCE:g} to {MOST_PATIENCE:g} seconds such as 10s, "
        f"got {seconds:g}"
    ]


def _engine_problems(config: Config) -> list[str]:
    if not config.docker_host:
        return []
    if config.docker_context:
        return ["docker_context: names another engine than docker_host does; set one of them"]
    wrong = engine_address.problem(config.docker_host)
    return [f"docker_host: {wrong}"] if wrong else []
