# SPDX-License-Identifier: MIT
"""All that is counted and measured, as one literal table: name, type, labels, and a sentence each.

Names are those that Prometheus sees, by its conventions: base units, ``_total`` for what only grows.
`protocol/PROTOCOL.md` and the dashboard in docs/ are held against this table.
"""

from __future__ import annotations

from typing import NamedTuple

from operatord_protocol.messages import EVENT_TYPES, MetricType

from .instruments import Counter, Distribution


class Family(NamedTuple):
    """One name, and what its numbers say."""

    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Of a histogram, in seconds."""
    known: tuple[tuple[str, ...], ...] = ()
    """Label values that are told from the beginning, though nothing was counted yet."""


QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
START = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
WAIT = (0.01, 0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

COLD_STEPS = ("probe", "images", "turn", "network", "create", "start", "verify")
WARM_STEPS = ("probe", "bind", "verify")
REFUSALS = ("no_capacity", "queue_full", "deadline_exceeded", "draining", "never_fits")
LEFT = ("started", "stopped", "refused", "expired", "failed")

_DIMENSIONS = {
    "cpus": ("cpu", "_cores", "Processor cores"),
    "memory": ("memory", "_bytes", "Bytes of memory"),
    "gpus": ("gpus", "", "Graphics cards"),
    "sessions": ("places", "", "Places for sessions (limits.sessions)"),
    "subnets": ("subnets", "", "Subnets"),
    "ports": ("ports", "", "Published ports"),
}
"""For each dimension of room its name here, the end of the name, and what is counted."""
_ROOM = {
    "capacity": "that sessions may take together.",
    "reserved": "that sessions and slots have taken.",
    "free": "that a start could take now.",
}


def room_name(dimension: str, what: str) -> str:
    """Return the name of the family for ``what`` (capacity, reserved, free) of a dimension."""
    name, unit, _ = _DIMENSIONS[dimension]
    return f"operatord_{name}_{what}{unit}"


def _room() -> dict[str, Family]:
    return {
        room_name(dimension, what): Family("gauge", f"{things} {rest}")
        for dimension, (_, _, things) in _DIMENSIONS.items()
        for what, rest in _ROOM.items()
    }


FAMILIES: dict[str, Family] = {
    "operatord_info": Family(
        "gauge", "Always 1; what runs is in the labels.", ("version", "daemon", "engine")
    ),
    "operatord_settings_generation": Family(
        "gauge", "How often settings were read: 1 at the start, one more with each reload."
    ),
    "operatord_draining": Family("gauge", "1 while no new sessions are admitted."),
    "operatord_sessions": Family("gauge", "Sessions that have not ended.", ("pipeline", "phase")),
    "operatord_sessions_ended_total": Family(
        "counter", "Sessions that have ended.", ("pipeline", "outcome", "cause")
    ),
    "operatord_starts_refused_total": Family(
        "counter",
        "Requests that were refused at once, and never became a session.",
        ("type",),
        known=tuple((each,) for each in REFUSALS),
    ),
    "operatord_start_failures_total": Family(
        "counter",
        "Starts that failed, by the step that did not work.",
        ("step",),
        known=tuple((each,) for each in (*COLD_STEPS, "bind")),
    ),
    "operatord_start_seconds": Family(
        "histogram",
        "Time for a start, from leaving the queue to the proven location.",
        ("pipeline", "warm"),
        START,
    ),
    "operatord_start_step_seconds": Family(
        "histogram",
        "Time for each step of a start that worked.",
        ("step", "warm"),
        QUICK,
        known=(
            *((each, "false") for each in COLD_STEPS),
            *((each, "true") for each in WARM_STEPS),
        ),
    ),
    "operatord_queue_length": Family("gauge", "Requests that wait in the queue."),
    "operatord_queue_limit": Family("gauge", "Requests that may wait (limits.queue)."),
    "operatord_attaching": Family("gauge", "Degraded sessions that wait for their last stage."),
    "operatord_queue_wait_seconds": Family(
        "histogram",
        "Time from the request to leaving the queue: started, or the outcome without a start.",
        ("left",),
        WAIT,
        known=tuple((each,) for each in LEFT),
    ),
    "operatord_slots": Family(
        "gauge",
        "Prepared slots that exist: ready, or being made or removed.",
        ("pipeline", "state"),
    ),
    "operatord_slots_target": Family(
        "gauge", "Prepared slots that there should be.", ("pipeline",)
    ),
    "operatord_spare_networks": Family("gauge", "Networks that are kept ready.", ("state",)),
    "operatord_spare_networks_target": Family("gauge", "Networks that should be kept ready."),
    **_room(),
    "operatord_host_cpu_busy_ratio": Family(
        "gauge", "Share of the machine's processor time in use, 0 to 1, in the last second."
    ),
    "operatord_host_memory_available_bytes": Family("gauge", "Available memory of the machine."),
    "operatord_host_memory_stall_ratio": Family(
        "gauge", "Share of time in which all work waited for memory (PSI), 0 to 1."
    ),
    "operatord_host_disk_free_bytes": Family("gauge", "Free space on the engine's disk."),
    "operatord_pressure": Family("gauge", "1 for what the machine is short of.", ("kind",)),
    "operatord_engine_state": Family("gauge", "1 for the state of the engine.", ("state",)),
    "operatord_engine_last_answer_seconds": Family(
        "gauge", "Seconds since the engine last answered anything."
    ),
    "operatord_engine_call_seconds": Family(
        "histogram", "Time for calls to the engine, failed ones too.", ("operation",), QUICK
    ),
    "operatord_engine_errors_total": Family(
        "counter", "Calls to the engine that failed.", ("operation", "error")
    ),
    "operatord_reconcile_seconds": Family(
        "histogram",
        "Time for comparing sessions with the engine.",
        ("result",),
        QUICK,
        known=(("done",), ("failed",)),
    ),
    "operatord_orphans": Family(
        "gauge", "Objects on the engine that no session has, when last compared."
    ),
    "operatord_orphans_removed_total": Family(
        "counter",
        "Objects that were removed because no session had them.",
        ("kind",),
        known=(("container",), ("network",)),
    ),
    "operatord_connections": Family("gauge", "Connections to the control port."),
    "operatord_events_total": Family(
        "counter",
        "Events that were published.",
        ("type",),
        known=tuple((each,) for each in EVENT_TYPES),
    ),
    "operatord_events_lost_total": Family(
        "counter", "Events that subscribers were told they have missed, over all subscribers."
    ),
    "operatord_task_failures_total": Family(
        "counter", "Times that a task of the daemon broke and was restarted.", ("task",)
    ),
    "operatord_loop_lag_seconds": Family(
        "histogram", "How late the event loop was, looked at once a second.", (), QUICK
    ),
    "operatord_process_resident_memory_bytes": Family("gauge", "Memory of the daemon itself."),
    "operatord_process_cpu_seconds_total": Family(
        "counter", "Processor time of the daemon itself."
    ),
    "operatord_process_open_fds": Family("gauge", "File descriptors that the daemon has open."),
    "operatord_process_max_fds": Family("gauge", "File descriptors that it may have open."),
    "operatord_process_start_time_seconds": Family(
        "gauge", "When the daemon was started, in seconds since 1970."
    ),
}
"""By name, in the order in which they are told."""


def counter(name: str) -> Counter:
    """Return a counter for a family."""
    found = Counter(*FAMILIES[name].labels)
    for values in FAMILIES[name].known:
        found.begin(*values)
    return found


def distribution(name: str) -> Distribution:
    """Return a distribution for a family."""
    family = FAMILIES[name]
    found = Distribution(family.bounds, *family.labels)
    for values in family.known:
        found.begin(*values)
    return found
