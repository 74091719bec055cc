# SPDX-License-Identifier: MIT
"""What `top` shows at one moment, as rows of text, however they are drawn: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from operatord_client.ctl import render
from operatord_client.ctl.fitting import GAP

UNITS = {"cpus": "cores", "sessions": "places", "gpus": "graphics cards"}
"""What the dimensions of room are called, where that is not their name."""
PHASES = ("stopping", "starting", "running", "queued")
"""Those that live, in the order in which they are shown."""
SESSION_COLUMNS = ("SESSION", "PIPELINE", "PHASE", "AGE", "OWNER", "")
SLOT_COLUMNS = ("SLOTS", "READY", "TARGET")


class Overview(NamedTuple):
    """Everything that is shown, as the daemon has told it."""

    status: Mapping[str, Any]
    sessions: list[Mapping[str, Any]]
    """Those that live; of very many the newest of each phase."""
    metrics: Mapping[str, Mapping[str, Any]]
    """By name."""
    now: str
    """The daemon's time, RFC 3339: ages go by its clock."""
    away: str = ""
    """Why there is no news, if there is none."""


class Gauge(NamedTuple):
    """One dimension of room."""

    name: str
    text: str
    share: float
    """0 to 1."""


def head(view: Overview) -> list[tuple[str, str]]:
    """Return what there is to say of daemon, engine and machine."""
    status = view.status
    engine = status["engine"]
    return [
        ("daemon", _daemon(status)),
        ("engine", _words(engine.get("name"), engine.get("version"), _state(engine))),
        ("machine", _machine(status)),
        ("sessions", _counts(status)),
        ("starts", _starts(view.metrics)),
        ("warning", _warnings(status)),
        ("no news", view.away),
    ]


def _words(*words: Any) -> str:
    return GAP.join(str(word) for word in words if word)


def _daemon(status: Mapping[str, Any]) -> str:
    up = f"up {render.span(status['uptime'])}"
    draining = "draining: no new sessions" if status["draining"] else ""
    return _words(f"operatord {status['version']}", status["instance"], up, draining)


def _state(engine: Mapping[str, Any]) -> str:
    reason = engine.get("reason")
    return f"{engine['state']}: {reason}" if reason else str(engine["state"])


def _machine(status: Mapping[str, Any]) -> str:
    measured, pressure = status["measured"], status["pressure"]
    words = [f"processor {measured['cpu_percent']:g} %"] if "cpu_percent" in measured else []
    if "load" in measured:
        words.append(f"load {' '.join(f'{load:g}' for load in measured['load'])}")
    if "memory_available" in measured:
        words.append(f"{render.size(measured['memory_available'])} of memory available")
    if "disk_free" in measured:
        words.append(f"{render.size(measured['disk_free'])} of disk free")
    if pressure != "none":
        words.append(f"SHORT OF {pressure.upper()}")
    return _words(*words)


def _counts(status: Mapping[str, Any]) -> str:
    counts = status["sessions"]
    words = [f"{counts.get(phase, 0)} {phase}" for phase in reversed(PHASES)]
    queue = status["queue"]
    if queue.get("reason"):
        words.append(f"nothing starts: {queue['reason']}")
    return _words(*words)


def _starts(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how many starts there were since the daemon's own, and how long they took on average."""
    found: dict[str, tuple[int, float]] = {}
    for sample in metrics.get("operatord_start_seconds", {}).get("samples", []):
        how = "warm" if sample["labels"].get("warm") == "true" else "cold"
        count, total = found.get(how, (0, 0.0))
        found[how] = count + sample["buckets"][-1], total + sample["sum"]
    return _words(
        *(
            f"{count} {how}, {total / count:.2f} s each"
            for how, (count, total) in found.items()
            if count
        )
    )


def _warnings(status: Mapping[str, Any]) -> str:
    troubles = [
        f"{each['task']} broke {each['times']} times" for each in status.get("troubles", [])
    ]
    return _words(*troubles)


def gauges(view: Overview) -> list[Gauge]:
    """Return what is taken of each dimension that is bounded, and is there at all."""
    status = view.status
    return [
        Gauge(
            UNITS.get(name, name),
            f"{_amount(name, status['reserved'].get(name, 0))} of {_amount(name, capacity)}",
            min(1.0, status["reserved"].get(name, 0) / capacity),
        )
        for name, capacity in status["capacity"].items()
        if capacity
    ]


def _amount(name: str, value: float) -> str:
    return render.quantity(name, round(value, 2) if name == "cpus" else value)


def slots(view: Overview) -> list[tuple[str, str, str]]:
    """Return a row for each pipeline with slots, and one for networks that are kept ready."""
    kept = {**view.status["warm"], "networks": view.status.get("networks", {})}
    return [
        (name, str(known.get("ready", 0)), str(known.get("target", 0)))
        for name, known in kept.items()
        if known.get("ready") or known.get("target")
    ]


def rows(view: Overview, most: int | None = None) -> list[tuple[str, ...]]:
    """Return a row for each session, at most so many; the last one then says how many more there are."""
    found = [_row(session, view.now) for session in _in_order(view.sessions)]
    lived = sum(view.status["sessions"].get(phase, 0) for phase in PHASES)
    if most is not None and lived > most:
        found = found[: most - 1]
    if (more := lived - len(found)) > 0:
        found.append((f"… {more} more", "", "", "", "", ""))
    return found


def _in_order(sessions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that end or begin first, the newest first; then the queue, in its own order."""
    return sorted(
        sessions, key=lambda session: (PHASES.index(session["phase"]), session.get("position", 0))
    )


def _row(session: Mapping[str, Any], now: str) -> tuple[str, ...]:
    warm = " (warm)" if session.get("warm") else ""
    degraded = " (degraded)" if session.get("degraded") else ""
    return (
        session["session_id"],
        session.get("pipeline", "-"),
        f"{session['phase']}{warm}{degraded}",
        _age(session, now),
        session.get("owner", "-"),
        _rest(session),
    )


def _age(session: Mapping[str, Any], now: str) -> str:
    since = session.get("started") or session.get("created") or now
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()
    return render.span(max(0.0, seconds))


def _rest(session: Mapping[str, Any]) -> str:
    """Where it is, or what it waits for."""
    words = [session.get("location", {}).get("url", ""), render.unread(session)]
    if session.get("position") is not None:
        words.append(f"{session['position']}.")
    if session.get("estimate") is not None:
        words.append(f"in about {render.span(session['estimate'])}")
    return _words(*words, session.get("reason"))


def plain(view: Overview) -> str:
    """Return all of it for a pipe, or a terminal without rich."""
    sections = [
        render.details([*head(view), *((each.name, each.text) for each in gauges(view))]),
        render.table(SLOT_COLUMNS, found) if (found := slots(view)) else "",
        render.table(SESSION_COLUMNS, found_rows) if (found_rows := rows(view)) else "",
    ]
    return "\n\n".join(filter(None, sections))
