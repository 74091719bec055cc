# SPDX-License-Identifier: MIT
"""`system.metrics`: what was counted, and how things are now. Nothing here looks at sessions one by one,
asks an engine or reads the journal: with a thousand sessions it takes as long as with one.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import get_args

from msgspec import UNSET

from operatord.access.identity import Identity
from operatord.core.scheduling.pressure import Kind
from operatord.engine_link.availability import State
from operatord.lifecycle.slot_kinds import SPARE, kind_of
from operatord.machine.own_process import own_use
from operatord.metering.families import FAMILIES, room_name
from operatord.metering.instruments import Counter, Distribution, Values
from operatord_protocol import messages as m

from .peer import Services

Readings = dict[str, list[m.MetricSample]]
"""Samples by the name of their family."""


def metrics(services: Services, who: Identity, params: m.NoParams) -> m.Metrics:
    """Return everything that is counted and measured; a family without numbers is left out."""
    found = _counted(services)
    for gauges in (_daemon, _scheduling, _room, _slots, _host, _engine):
        found |= gauges(services)
    return m.Metrics(
        metrics=[
            m.Metric(
                name=name,
                type=family.type,
                help=family.help,
                samples=samples,
                bounds=list(family.bounds) if family.bounds else UNSET,
            )
            for name, family in FAMILIES.items()
            if (samples := found.get(name))
        ]
    )


def _counted(services: Services) -> Readings:
    services.meters.sessions.expect(services.config.pipelines)
    found: Readings = {}
    for name, instrument in services.meters.instruments():
        read = _sums if isinstance(instrument, Counter) else _distribution
        found[name] = read(instrument)  # type: ignore[arg-type]
    return found


def _sums(counter: Counter) -> list[m.MetricSample]:
    return [
        m.MetricSample(labels=_labels(counter.labels, values), value=total)
        for values, total in counter.sums.items()
    ]


def _distribution(distribution: Distribution) -> list[m.MetricSample]:
    return [
        m.MetricSample(labels=_labels(distribution.labels, values), buckets=buckets, sum=total)
        for values, buckets, total in distribution.read()
    ]


def _labels(names: tuple[str, ...], values: Values) -> dict[str, str]:
    return dict(zip(names, values, strict=True))


def _one(value: float) -> list[m.MetricSample]:
    return [m.MetricSample(labels={}, value=value)]


def _each(name: str, label: str, values: Iterable[tuple[str, float]]) -> Readings:
    return {name: [m.MetricSample(labels={label: each}, value=value) for each, value in values]}


def _daemon(services: Services) -> Readings:
    labels = {
        "version": services.version,
        "daemon": services.instance,  # `instance` is Prometheus' own word for a target
        "engine": services.engine_name,
    }
    troubles = ((trouble.task, trouble.times) for trouble in services.troubles())
    return {
        "operatord_info": [m.MetricSample(labels=labels, value=1)],
        "operatord_settings_generation": _one(services.settings.generation),
        "operatord_connections": _one(services.connections()),
        **_each("operatord_task_failures_total", "task", troubles),
        **{f"operatord_process_{name}": _one(value) for name, value in own_use().items()},
    }


def _scheduling(services: Services) -> Readings:
    state = services.supervisor.admission.state
    kind = services.supervisor.admission.pressure
    pressure = ((each, float(each == kind)) for each in get_args(Kind) if each != "none")
    return {
        "operatord_draining": _one(int(state.draining)),
        "operatord_queue_length": _one(state.length),
        "operatord_queue_limit": _one(state.settings.queue),
        "operatord_attaching": _one(state.attaching),
        **_each("operatord_pressure", "kind", pressure),
    }


def _room(services: Services) -> Readings:
    admission = services.supervisor.admission
    room = {
        "capacity": admission.capacity(),
        "reserved": admission.reserved(),
        "free": admission.free(),
    }
    return {
        room_name(dimension, what): _one(amount)
        for what, amounts in room.items()
        for dimension, amount in amounts.items()
    }


def _slots(services: Services) -> Readings:
    slots = services.supervisor.slots
    made = Tally(kind_of(slot.plan) for slot in slots)
    status, spare = slots.status(), slots.spare_networks()
    targets = ((name, known["target"]) for name, known in status.items())
    return {
        "operatord_slots": [
            m.MetricSample(labels={"pipeline": name, "state": state}, value=count)
            for name, known in status.items()
            for state, count in _states(made[name], known["ready"])
        ],
        **_each("operatord_slots_target", "pipeline", targets),
        **_each("operatord_spare_networks", "state", _states(made[SPARE], spare["ready"])),
        "operatord_spare_networks_target": _one(spare["target"]),
    }


def _states(made: int, ready: int) -> list[tuple[str, float]]:
    return [("ready", ready), ("unready", made - ready)]


def _host(services: Services) -> Readings:
    """Return what the last look at the machine gave; nothing of another machine's."""
    sample = services.host.last
    if sample is None or not services.measures_engine:
        return {}
    return {
        "operatord_host_cpu_busy_ratio": _one(sample.cpu_busy),
        "operatord_host_memory_available_bytes": _one(sample.memory_available),
        "operatord_host_memory_stall_ratio": _one(sample.memory_stall),
        "operatord_host_disk_free_bytes": _one(sample.disk_free),
    }


def _engine(services: Services) -> Readings:
    meters, state = services.meters, services.supervisor.availability.state
    states = ((each, float(each == state)) for each in get_args(State))
    found = _each("operatord_engine_state", "state", states)
    if (seconds := meters.engine.since_answer) is not None:
        found["operatord_engine_last_answer_seconds"] = _one(seconds)
    found["operatord_orphans"] = _one(meters.reconciles.orphans)
    return found
