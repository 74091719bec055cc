# SPDX-License-Identifier: MIT
"""What a session is to be on an engine: its containers with their names, labels and environments. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from operatord.core.destinations import Destinations
from operatord.core.pipelines import PROBE, Stage
from operatord.core.plans import SessionPlan, Source, stage_env
from operatord.core.sources.adapters import SHOWN as SOURCE_SHOWN
from operatord.core.sources.adapters import URL as SOURCE_URL
from operatord.engines import base
from operatord.session.record import SessionRecord
from operatord.streams.hello import Rules

from .stage_options import engine_options

LATE_COMER = {"policy": "live", "attached": "True"}
"""Variables for a stage that attaches to a running stream, which it must never hold up; ``policy`` for stages
that know only that."""


class StartSettings(NamedTuple):
    """What a start needs from the configuration."""

    instance: str
    advertise_host: str
    """What locations have: a name, or an address."""
    ports: tuple[int, int] | None
    timeout: float
    published_on: str
    """The address that this is, which ports are bound to."""
    rules: Rules = Rules(Destinations(()))
    """Where registered probes may be; without them, nowhere."""

    def shown(self, address: str) -> str:
        """Return what a location has for an address that a stage is published on."""
        return self.advertise_host if address == self.published_on else address

    def way_out(self, plan: SessionPlan) -> base.WayOut:
        """Return what the network of a session has to have.

        Published on loopback, stages are reached from the network's own host, so it can be closed: a
        registered probe outside comes in by a relay. Otherwise they have to reply to other machines, and the
        relay may have no address that they reach.
        """
        if plan.reaches_out:
            return "open"
        if ipaddress.ip_address(self.published_on).is_loopback:
            return "none"
        is_outside = plan.upstream is not None or (plan.source and not plan.source.parsed.is_local)
        return "open" if is_outside else "replies"


def stage_plan(
    record: SessionRecord, name: str, join: str | None, settings: StartSettings
) -> base.StagePlan:
    """Return the container of the stage called ``name``.

    It joins the one that is called, or has the id, ``join``; with None it has an endpoint of its own, and in
    a shared namespace is the one to join.
    """
    plan = record.plan
    stage, late = plan.stages[name], name in record.missing
    owner = plan.network == "shared" and join is None and not late
    waiting = waits(record, name)
    return base.StagePlan(
        name=container_name(record, name),
        stage=name,
        image=stage.image,
        network=network_of(record),
        env=_first_environment(record, name),
        labels=labels(record, settings.instance, name),
        port=stage.port,
        aliases=record.stages if owner else (name,),
        join=join,
        connect_later=owner and record.provisioned.connect_later,
        publish=base.Publish(settings.published_on, settings.ports)
        if _is_published(record, name)
        else None,
        command=tuple(stage.command),
        cpus=stage.cpus,
        cpu_limit=stage.cpu_limit,
        memory=int(stage.most_memory),
        memory_reservation=int(stage.memory),
        gpus=tuple(record.provisioned.gpus.get(name, ())),
        pids=stage.pids,
        stdin=waiting,
        shim=waiting and stage.late_bind == "shim",
        image_id=record.provisioned.image_ids.get(stage.image),
        options=engine_options(stage, plan.source if name == PROBE else None),
    )


def _first_environment(record: SessionRecord, name: str) -> dict[str, str]:
    """Return what a container is created with: all, unless it is told the rest by a line later."""
    if not waits(record, name):
        return environment(record, name)
    env: dict[str, str] = {}
    if record.provisioned.addresses and not record.warm:
        # For people who inspect a late-binding container, without credentials; a slot has none yet.
        env = environment(record, name)
        env.pop(SOURCE_URL, None)
    if record.plan.stages[name].late_bind == "native":
        env["OPERATORD_LATE_BIND"] = "1"
    return env


def waits(record: SessionRecord, name: str) -> bool:
    """Tell whether the stage called ``name`` reads its settings from standard input."""
    provisioned = record.provisioned
    if name in record.missing:
        return False
    return provisioned.late_binding or (name == PROBE and provisioned.source_waits)


def environment(record: SessionRecord, name: str) -> dict[str, str]:
    """Return the whole environment of the stage called ``name``."""
    env = stage_env(record.plan, name, record.provisioned.addresses, record.id)
    if _is_published(record, name):
        # Only the daemon knows the location before it is proven.
        env.setdefault("checked", "True")
    else:
        # Only stages connect to it, as consumers, so it need not wait for a client's first word.
        env.setdefault("visitors", "False")
    if name == PROBE and record.plan.source is not None:
        env[SOURCE_URL] = _source_url(record.plan.source, record.provisioned.source_at)
        env[SOURCE_SHOWN] = record.plan.source.parsed.shown
    return env | LATE_COMER if name in record.missing else env


def _source_url(source: Source, at: tuple[str, int] | None) -> str:
    return source.url if at is None else source.parsed.at(*at)


def labels(record: SessionRecord, instance: str, stage: str | None = None) -> dict[str, str]:
    """Return what everything of a session carries; ``stage`` is None for its network."""
    found = {
        base.LABEL_INSTANCE: instance,
        base.LABEL_SESSION: record.id,
        base.LABEL_PLAN: record.plan.digest(),
    }
    if stage is None:
        return found
    return found | {base.LABEL_STAGE: stage, base.LABEL_IMAGE: record.plan.stages[stage].image}


def container_name(record: SessionRecord, stage: str) -> str:
    """Return the name of a stage's container, which no other has."""
    return f"operatord_{record.id}_{stage}"


def network_of(record: SessionRecord) -> base.Network:
    """Return the session's network; before it is created, as far as it is known."""
    planned = base.Network("", record.network_name, way_out=record.provisioned.way_out)
    return record.provisioned.network or planned


def _is_published(record: SessionRecord, name: str) -> bool:
    """Tell whether requesters, and not only other stages, connect to a stage."""
    return name in (record.stages[-1], *record.missing)


def late_line(stage: Stage, env: Mapping[str, str]) -> bytes:
    """Return what tells a waiting stage its environment."""
    if stage.late_bind == "native":
        return msgspec.json.encode({"env": env}) + b"\n"
    lines = [f"{key}={value}" for key, value in env.items()]
    return "\n".join([*lines, "", ""]).encode()
