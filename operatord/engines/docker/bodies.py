# SPDX-License-Identifier: MIT
"""Plans to what the Docker Engine API wants, and what it answers to our data. No I/O.

Field names are those of the Docker Engine API 1.41 (docs.docker.com/engine/api/v1.41). The answers
are read leniently: a field that is absent is absent in our data too.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from operatord.engines.base import (
    LABEL_HOLDER,
    LABEL_INSTANCE,
    LABEL_PLAN,
    LABEL_SESSION,
    SHIM,
    Address,
    EngineEvent,
    EngineInfo,
    Found,
    NetworkPlan,
    StagePlan,
    StageState,
    StageStats,
)
from operatord.engines.logs import MOST_LINES
from operatord.engines.options import Ulimit

from .values import options
from .values.cpu_weight import Conversion, cpu_shares
from .values.runtime import oci_runtime

Json = dict[str, Any]

NOBODY = "65534:65534"
_NOBODIES = ("65534", "nobody")
NO_NETWORK = "none"
"""The network of a container that is to have none; it counts as one, until disconnected from."""
_MEMORY_MIN = 6 * 1024**2
_OUR_LABELS = "operatord."
_EVENT_KINDS: Mapping[str, Literal["exited", "oom", "removed", "stopped", "started", "paused"]] = {
    "die": "exited",
    "oom": "oom",
    "destroy": "removed",
    "remove": "removed",  # as Podman calls it
    "kill": "stopped",  # with a deadly signal: it is told before the end
    "stop": "stopped",
    "restart": "stopped",  # Podman tells it before the end, and no "stop"; Docker after the new start
    "start": "started",
    "pause": "paused",
}
_STOP_TIMEOUT = 1
"""Seconds between SIGTERM and SIGKILL for whoever names none. Podman takes them over the removal of a stage
that runs, too: ten, unless it is told."""
_PODMAN = "Podman Engine"
"""The component by which Podman says who it is."""
_IMAGE_EVENTS = ("tag", "untag", "import", "load", "pull", "delete", "build")
"""The last one is Podman's, which tells of no tag that a build gives."""
_DEADLY = frozenset(["2", "3", "9", "15"])
"""Signals that are sent to end a program: interrupt, quit, kill and terminate."""
_STOPPING = "stopping"
_STATUS: Mapping[str, Literal["created", "running", "exited"]] = {
    "created": "created",
    "initialized": "created",  # this one and the next two are Podman's own
    _STOPPING: "running",  # its exit code is 0 until there is one
    "stopped": "exited",
    "running": "running",
    "paused": "running",
    "restarting": "running",
    "removing": "exited",
    "exited": "exited",
    "dead": "exited",
}


class Hardening(msgspec.Struct, frozen=True):
    """What every container gets, whatever its plan says.

    Measured on Engine 20.10 (two cores, ten rounds): neither ``init`` nor the log driver (json-file,
    local, none) moves the time of a start beyond its noise. So ``init`` is on: without a reaper as
    process 1 the image's program is process 1, for which the kernel ignores a SIGTERM that has no
    handler, and every stop takes its full grace (2 150 ms of 2 s, against 130 ms). In return, a
    program that is not in the image is not refused at the start, but ends at once with code 127.
    And the driver is json-file, which `docker logs` of every version reads.
    """

    init: bool = True
    log_driver: str = "json-file"
    log_size: str = "1m"
    log_files: int = 2
    tmp_size: str = "16m"
    open_files: int = 4096


def container_body(
    plan: StagePlan, user: str | None, hardening: Hardening, converted: Conversion
) -> Json:
    """Return the body of ``POST /containers/create``.

    ``user`` is who it runs as unless the plan says so; None leaves it to the image. ``converted`` is what is
    done to CPU shares.
    """
    body: Json = {
        "Image": plan.image_id or plan.image,
        "Env": [f"{key}={value}" for key, value in plan.env.items()],
        "Labels": dict(plan.labels),
        "Tty": False,
        "OpenStdin": plan.stdin,
        "StdinOnce": False,
        "StopTimeout": _STOP_TIMEOUT,
        "HostConfig": _host_config(plan, hardening) | _sizes(plan, converted) | _ports(plan),
    }
    if plan.command:
        body["Cmd"] = list(plan.command)
    if user is not None:
        body["User"] = user
    body |= options.option_members(plan.options)
    if plan.publish is not None:
        body["ExposedPorts"] = {_inside(plan): {}}
    if plan.join is None and not plan.connect_later:
        endpoint = {"Aliases": list(plan.aliases)}
        body["NetworkingConfig"] = {"EndpointsConfig": {plan.network.id: endpoint}}
    return body


def at_home(image: Json, plan: StagePlan) -> StagePlan:
    """Return the plan with a home that can be written, if the stage is nobody, whose own is not there.

    What the image or the plan says stays, and so does the home of a user of their own, with what is in it.
    """
    config = image.get("Config") or {}
    is_nobody = runs_as_root(image) or _user(image) in _NOBODIES
    named = "HOME" in plan.env or any(
        str(each).startswith("HOME=") for each in config.get("Env") or ()
    )
    if named or not is_nobody or plan.options.user is not None:
        return plan
    return msgspec.structs.replace(plan, env={"HOME": options.SCRATCH, **plan.env})


def has_command(image: Json, plan: StagePlan) -> bool:
    """Tell whether a stage has a program to run, as far as the image's settings are told."""
    config = image.get("Config")
    return config is None or bool(plan.command or config.get("Cmd") or config.get("Entrypoint"))


def behind_shim(image: Json, command: Sequence[str]) -> Json:
    """Return the members of a create body that put a shell before the image's own program."""
    config = image.get("Config") or {}
    own = [*(config.get("Entrypoint") or ()), *(command or config.get("Cmd") or ())]
    return {"Entrypoint": ["sh", "-c", SHIM, "operatord-shim"], "Cmd": own}


def _host_config(plan: StagePlan, hardening: Hardening) -> Json:
    logs: Json = {"Type": hardening.log_driver, "Config": {}}
    if hardening.log_driver in ("json-file", "local"):
        logs["Config"] = {
            "max-size": hardening.log_size,
            "max-file": str(hardening.log_files),
        }
    scratch = f"rw,noexec,nosuid,nodev,mode=1777,size={hardening.tmp_size}"
    usual = {"nofile": Ulimit(hardening.open_files, hardening.open_files), "core": Ulimit(0, 0)}
    return {
        "NetworkMode": _network_mode(plan),
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": plan.options.read_only,
        "Tmpfs": options.tmpfs(plan.options, scratch),
        "IpcMode": "private",
        "Init": hardening.init and plan.options.init,
        "PidsLimit": plan.pids,
        "Ulimits": options.ulimits(plan.options, usual),
        "LogConfig": logs,
        "RestartPolicy": {"Name": "no"},
        **options.host_options(plan.options),
    }


def _network_mode(plan: StagePlan) -> str:
    if plan.connect_later:
        return NO_NETWORK
    return plan.network.id if plan.join is None else f"container:{plan.join}"


def _sizes(plan: StagePlan, converted: Conversion) -> Json:
    """Return what it is sure to get, what it never exceeds, and its devices."""
    sizes: Json = {
        "CpuShares": cpu_shares(plan.cpus, converted),
        "Memory": plan.memory,
        "MemorySwap": plan.memory,
    }
    if plan.cpu_limit is not None:
        sizes["NanoCpus"] = round(plan.cpu_limit * 1e9)
    if plan.memory_reservation:
        # The engine refuses less, and more than the limit.
        sizes["MemoryReservation"] = min(max(plan.memory_reservation, _MEMORY_MIN), plan.memory)
    if plan.gpus:
        device_ids = list(plan.gpus)
        sizes["DeviceRequests"] = [
            {"Driver": "nvidia", "DeviceIDs": device_ids, "Capabilities": [["gpu"]]}
        ]
    return sizes


def _ports(plan: StagePlan) -> Json:
    """Bind the published port; the engine itself picks a free one from a range ``first-last``."""
    if plan.publish is None:
        return {}
    ports = plan.publish.ports
    wanted = (
        "" if ports is None else str(ports[0]) if ports[0] == ports[1] else "{}-{}".format(*ports)
    )
    return {"PortBindings": {_inside(plan): [{"HostIp": plan.publish.host, "HostPort": wanted}]}}


def _inside(plan: StagePlan) -> str:
    return f"{plan.port if plan.publish_port is None else plan.publish_port}/tcp"


def ports_to_choose_from(answer: Json) -> int:
    """Return how many host ports there are for a container (as ``GET /containers/{id}/json``).

    0 when it publishes none, or any that is free.
    """
    bindings = (answer.get("HostConfig") or {}).get("PortBindings") or {}
    ranges = (binding.get("HostPort") for group in bindings.values() for binding in group or ())
    return max((_width(text) for text in ranges if text), default=0)


def _width(ports: str) -> int:
    first, _, last = ports.partition("-")
    return int(last or first) - int(first) + 1


def runs_as_root(image: Json) -> bool:
    """Tell from an image's description whether its program would run as root."""
    return _user(image) in ("", "0", "root")


def _user(image: Json) -> str:
    return str((image.get("Config") or {}).get("User") or "").partition(":")[0]


def asking_body(image: str, instance: str, host_config: Json) -> Json:
    """Return the body of a container that is never started: whether it can be made is the answer."""
    return {
        "Image": image,
        "Cmd": ["true"],
        "Labels": {LABEL_INSTANCE: instance},
        "OpenStdin": True,
        "HostConfig": host_config,
    }


def is_podman(version: Json) -> bool:
    """Tell from ``GET /version`` who it is."""
    return any(part.get("Name") == _PODMAN for part in version.get("Components") or ())


def engine_info(version: Json, info: Json, api_version: str, endpoint: str = "") -> EngineInfo:
    """Read ``GET /version`` and ``GET /info``."""
    return EngineInfo(
        name="podman" if is_podman(version) else "docker",
        version=str(version.get("Version", "")),
        api_version=api_version,
        cpus=float(info.get("NCPU", 0)),
        memory=int(info.get("MemTotal", 0)),
        root_dir=str(info.get("DockerRootDir") or ""),
        cgroup_version=str(info.get("CgroupVersion") or ""),
        runtime=oci_runtime(version, info),
        endpoint=endpoint,
    )


def mark_name(instance: str) -> str:
    """Return the name of the volume that says whose an instance is."""
    return f"operatord-{instance}"


def mark_body(instance: str, holder: str) -> Json:
    """Return the arguments of ``POST /volumes/create``."""
    labels = {LABEL_INSTANCE: instance, LABEL_HOLDER: holder}
    return {"name": mark_name(instance), "labels": labels}


def marked_holder(volume: Json) -> str | None:
    """Read ``GET /volumes/{name}``: whose the instance is, by the label that the volume was made with."""
    holder = (volume.get("Labels") or {}).get(LABEL_HOLDER)
    return str(holder) if holder else None


def subnets(networks: list[Json]) -> list[str]:
    """Return every CIDR of a list of networks."""
    configs = [
        config for item in networks for config in (item.get("IPAM") or {}).get("Config") or ()
    ]
    return [config["Subnet"] for config in configs if config.get("Subnet")]


def overlaps(subnet: str, networks: list[Json]) -> bool:
    """Tell whether a CIDR overlaps with one of a list of networks."""
    wanted = ipaddress.ip_network(subnet)
    return any(
        wanted.version == other.version and wanted.overlaps(other)
        for other in (ipaddress.ip_network(each, strict=False) for each in subnets(networks))
    )


def is_planned(labels: Json | None, plan: StagePlan | NetworkPlan) -> bool:
    """Tell by its labels whether what is there is what is planned."""
    there = labels or {}
    return all(
        key in plan.labels and there.get(key) == plan.labels[key]
        for key in (LABEL_INSTANCE, LABEL_SESSION, LABEL_PLAN)
    )


def stage_state(answer: Json) -> StageState:
    """Read ``GET /containers/{id}/json``."""
    state = answer["State"]
    status = _STATUS.get(state.get("Status", ""), "exited")
    settings = answer.get("NetworkSettings") or {}
    return StageState(
        id=answer["Id"],
        status=status,
        exit_code=state.get("ExitCode") if status == "exited" else None,
        oom_killed=bool(state.get("OOMKilled")),
        began=_moment(state.get("StartedAt")),
        ended=_moment(state.get("FinishedAt")) if status == "exited" else None,
        start_failed=bool(state.get("Error")),
        published=_published(settings) if status == "running" else None,
        astray=status == "running" and not _is_where_asked(answer),
        ip=_ip(settings) if status == "running" and not _joins(answer) else None,
        paused=state.get("Status") == "paused",
        stopping=state.get("Status") == _STOPPING,
    )


def _moment(text: str | None) -> float | None:
    """Read an RFC 3339 time; the engine says the year 1 for never."""
    with contextlib.suppress(ValueError, TypeError):
        moment = datetime.fromisoformat(text or "")
        return moment.timestamp() if moment.year > 1 else None
    return None


def _published(settings: Json) -> Address | None:
    """Return where it is reachable from outside, which Podman goes on telling of one without an endpoint."""
    if not _has_endpoint(settings):
        return None
    for bindings in (settings.get("Ports") or {}).values():
        for binding in bindings or ():
            return Address(host=binding["HostIp"], port=int(binding["HostPort"]))
    return None


def _is_where_asked(answer: Json) -> bool:
    """Tell whether all that is published is on an address that was asked for."""
    asked = _host_ips((answer.get("HostConfig") or {}).get("PortBindings"))
    return not asked or _host_ips((answer.get("NetworkSettings") or {}).get("Ports")) <= asked


def _host_ips(ports: Json | None) -> set[str]:
    return {binding["HostIp"] for group in (ports or {}).values() for binding in group or ()}


def _joins(answer: Json) -> bool:
    """Tell whether it is in another container's namespace; Podman tells of its endpoints as its own."""
    mode = (answer.get("HostConfig") or {}).get("NetworkMode") or ""
    return bool(mode.startswith("container:"))


def _has_endpoint(settings: Json) -> bool:
    endpoints = (settings.get("Networks") or {}).values()
    return any(each.get("IPAddress") or each.get("GlobalIPv6Address") for each in endpoints)


def _ip(settings: Json) -> str | None:
    endpoints = (settings.get("Networks") or {}).values()
    return next((e["IPAddress"] for e in endpoints if e.get("IPAddress")), None)


def found_container(item: Json) -> Found:
    """Read one member of ``GET /containers/json``."""
    names = item.get("Names") or [""]
    return Found(
        kind="container",
        id=item["Id"],
        name=names[0].removeprefix("/"),
        labels=item.get("Labels") or {},
        status=_STATUS.get(item.get("State", ""), "exited"),
        paused=item.get("State") == "paused",
    )


def found_network(item: Json) -> Found:
    """Read one member of ``GET /networks``."""
    labels = item.get("Labels") or {}
    return Found(kind="network", id=item["Id"], name=item["Name"], labels=labels)


def stage_stats(answer: Json) -> StageStats:
    """Read ``GET /containers/{id}/stats``, of either cgroup version.

    A container in another's network namespace is said to have sent and received what that one has.
    """
    memory = answer.get("memory_stats") or {}
    cpu = ((answer.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    links = list((answer.get("networks") or {}).values())
    return StageStats(
        cpu_seconds=None if cpu is None else cpu / 1e9,
        memory=_without_cache(memory),
        memory_limit=memory.get("limit"),
        rx_bytes=sum(link["rx_bytes"] for link in links) if links else None,
        tx_bytes=sum(link["tx_bytes"] for link in links) if links else None,
        pids=(answer.get("pids_stats") or {}).get("current"),
    )


def _without_cache(memory: Json) -> int | None:
    if "usage" not in memory:
        return None
    detail = memory.get("stats") or {}
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    return max(0, int(memory["usage"]) - int(cache))


def log_query(tail: int, *, follow: bool = False, since: str = "") -> dict[str, str]:
    """Return the query of ``GET /containers/{id}/logs``: ``tail`` lines, those at most that are kept.

    With ``since``, a line's time, those since its second: all engines understand whole seconds.
    """
    query = {"stdout": "1", "stderr": "1", "timestamps": "1"}
    query["tail"] = str(min(max(tail, 0), MOST_LINES))
    if follow:
        query["follow"] = "1"
    if since:
        query["since"] = str(int(datetime.fromisoformat(since).timestamp()))
    return query


def event_query(since: float, *, filtered: bool = True) -> dict[str, str]:
    """Return the query of ``GET /events``; ``since`` is seconds since the epoch.

    A filter by label would leave out images, which have none of ours.
    """
    if not filtered:
        return {"since": f"{since:.6f}"}
    events = [*_EVENT_KINDS, *_IMAGE_EVENTS]
    filters = {"type": ["container", "image"], "event": events}
    return {"filters": msgspec.json.encode(filters).decode(), "since": f"{since:.6f}"}


def engine_event(line: str, instance: str) -> EngineEvent | None:
    """Read one line of ``GET /events``; None for what is not a hint for this instance."""
    try:
        event = msgspec.json.decode(line)
        if event["Type"] == "image":
            return EngineEvent(kind="image", id=event["Actor"]["ID"], labels={})
        kind = _EVENT_KINDS.get(event["Action"])
        actor = event["Actor"]
        if event["Action"] == "kill" and actor["Attributes"].get("signal") not in _DEADLY:
            return None
        labels = {k: v for k, v in actor["Attributes"].items() if k.startswith(_OUR_LABELS)}
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    if kind is None or labels.get(LABEL_INSTANCE) != instance:
        return None
    return EngineEvent(kind=kind, id=actor["ID"], labels=labels)
