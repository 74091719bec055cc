# SPDX-License-Identifier: MIT
"""What the daemon said, as text for people: results in, strings out, and no I/O.

Columns are padded with blanks, so that a table reads the same on a terminal and in a pipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .fitting import GAP, NOTHING, fitted, wrapped

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

SHORT_ID = 12
"""As container ids are shortened by the engine's own tools."""
NOT_FOR_PEOPLE = ("boot_time",)
BYTES = ("memory", "bytes", "disk", "swap", "rss")
"""Words that a name has when its number counts bytes."""
TOTAL = "total"
"""The timing that a start ends with; what comes after it was done to a session that ran."""
CREATED, CREATED_BRIEFLY = "CREATED (UTC)", "CREATED UTC"
LEAST = {"OWNER": 5, "PHASE": 7, "PIPELINE": 8, "OUTCOME": 7, CREATED_BRIEFLY: 11, "LOCATION": 8}
"""How short a session's columns may be for a narrow terminal, the least useful first; its id stays whole."""
LEAST_ROOM = 20
"""For the values beside names, on a terminal however narrow."""
UNREAD_SECONDS = 60.0
"""Seconds in which an unread session is not remarked on: its requester may be about to connect."""
SESSION_MEMBERS = frozenset(
    {"session_id", "pipeline", "phase", "network", "location", "outcome", "reason", "cause"}
    | {"owner", "created", "started", "ended", "expires", "position", "registered_probe"}
    | {"estimate", "plain_location", "timings", "warm", "degraded", "exit_codes", "count", "frames"}
    | {"post_mortem", "unread_since", "joined", "images"}
)
"""What the protocol itself names; a test holds it against `messages.Session`."""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in columns, each as wide as its widest cell."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_row(line, widths) for line in lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()


def details(pairs: Iterable[tuple[str, Any]], width: int | None = None) -> str:
    """Return names and values below each other; what is None or empty is left out.

    Values are broken into lines that fit into ``width`` columns, if that is given.
    """
    known = [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]
    names = max((len(name) for name, _ in known), default=0) + len(GAP)
    indent = "\n" + " " * names
    return "\n".join(
        name.ljust(names) + indent.join(_lines(value, width and width - names))
        for name, value in known
    )


def _lines(value: str, room: int | None) -> list[str]:
    lines = value.split("\n")
    if room is None:
        return lines
    return [part for line in lines for part in wrapped(line, max(room, LEAST_ROOM))]


# --- quantities ----------------------------------------------------------------------------------


def size(count: float) -> str:
    """Return bytes in the largest binary unit that keeps one digit before the point."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def span(seconds: float) -> str:
    """Return a time span in its two largest units."""
    whole = int(seconds)
    for length, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= length:
            return f"{whole // length}{name} {whole % length // part}{part_name}"
    return f"{whole // 60}m {whole % 60}s" if whole >= 60 else f"{seconds:.1f}s"


def to_the_second(time: str) -> str:
    """Return an RFC 3339 time without its fractions and zone, for columns."""
    return time[:19].replace("T", " ") or NOTHING


def to_the_minute(time: str) -> str:
    """Return an RFC 3339 time without its year and seconds, too."""
    return to_the_second(time)[-14:-3] or NOTHING


def quantity(name: str, value: Any) -> str:
    """Return a value of the daemon's maps by its name: percents, bytes, and plain numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _flat(value)
    if name.endswith("percent"):
        return f"{value:g} %"
    if any(word in name for word in BYTES):
        return size(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return f"({members(value)})"
    if isinstance(value, list):
        items = [quantity("", item) for item in value]
        return ("; " if any(" " in each for each in items) else " ").join(items) or "-"
    return str(value) or "-"


def members(values: Mapping[str, Any]) -> str:
    """Return a map on one line."""
    return ", ".join(f"{name} {quantity(name, value)}" for name, value in values.items())


# --- sessions --------------------------------------------------------------------------------------


def stages_of(session: Mapping[str, Any]) -> dict[str, str]:
    """Return container ids by stage: those members of a session that the protocol does not name."""
    return {
        name: value
        for name, value in session.items()
        if name not in SESSION_MEMBERS and isinstance(value, str)
    }


def session(info: Mapping[str, Any]) -> str:
    """Return all there is to know of a session; of one that has ended, with its post-mortem."""
    last = info.get("post_mortem", {})
    sections = (_facts(info, last), *_logs(last))
    return "\n\n".join(sections)


def _facts(info: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    location = info.get("location", {})
    return details(
        [
            ("session", info["session_id"]),
            ("phase", _phase(info)),
            ("outcome", _outcome(info)),
            ("reason", info.get("reason")),
            ("at fault", last.get("stage")),
            ("advice", last.get("advice")),
            ("location", GAP.join(filter(None, (location.get("url"), location.get("format"))))),
            ("plain", info.get("plain_location", {}).get("url")),
            ("pipeline", info.get("pipeline")),
            ("probe", info.get("registered_probe")),
            ("owner", info.get("owner")),
            *([("phases", _phases(last["phases"]))] if "phases" in last else _times(info)),
            ("expires", info.get("expires")),
            ("timings", _timings(info.get("timings", {}))),
            ("frames", info.get("frames")),
            ("network", info.get("network")),
            ("stages", _stages(info)),
            ("peak use", _peaks(last.get("usage", {}))),
        ]
    )


def _times(info: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, info.get(name)) for name in ("created", "started", "ended")]


def _phases(phases: Mapping[str, str]) -> str:
    width = max(map(len, phases), default=0)
    return "\n".join(f"{phase.ljust(width)}{GAP}{time}" for phase, time in phases.items())


def _peaks(usage: Mapping[str, Any]) -> str:
    width = max(map(len, usage), default=0)
    return "\n".join(
        f"{stage.ljust(width)}{GAP}{peak.get('cpus', 0):.2f} cores, {size(peak.get('memory', 0))}"
        for stage, peak in usage.items()
    )


def _logs(last: Mapping[str, Any]) -> list[str]:
    """Return a section for each stage, its last lines below its name, where something went wrong."""
    if "advice" not in last:
        return []
    return [
        "\n".join((_log_heading(stage, last), *(f"{GAP}{line}".rstrip() for line in lines)))
        for stage, lines in last.get("log", {}).items()
    ]


def _log_heading(stage: str, last: Mapping[str, Any]) -> str:
    return (
        f"log of {stage}, the stage at fault" if stage == last.get("stage") else f"log of {stage}"
    )


def unread(info: Mapping[str, Any]) -> str:
    """Return for how long nobody has read a running session, if that is long enough to mention."""
    if (since := info.get("unread_since")) is None:
        return ""
    from datetime import UTC, datetime  # noqa: PLC0415 - not for --help

    seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    return f"unread for {span(seconds)}" if seconds >= UNREAD_SECONDS else ""


def _phase(info: Mapping[str, Any]) -> str:
    marks = [mark for mark in ("warm", "degraded") if info.get(mark)]
    if said := unread(info):
        marks.append(said)
    if info.get("position") is not None:
        marks.append(f"position {info['position']}")
    if info.get("estimate") is not None:
        marks.append(f"in about {span(info['estimate'])}")
    return str(info["phase"]) + (f" ({', '.join(marks)})" if marks else "")


def _outcome(info: Mapping[str, Any]) -> str:
    outcome, cause = info.get("outcome", ""), info.get("cause", "")
    return f"{outcome} ({cause})" if outcome and cause else outcome or cause


def _timings(timings: Mapping[str, float]) -> str:
    """Return the total and what it is made of; steps within a step, such as start.probe, stay out."""
    first, _ = start_and_later(timings)
    whole = {step: value for step, value in first.items() if "." not in step}
    steps = ", ".join(f"{step} {value:.1f}" for step, value in whole.items() if value >= 0.1)
    total = timings.get(TOTAL, sum(whole.values()))
    return f"{total:.1f} ms" + (f" ({steps})" if steps else "") if timings else ""


def start_and_later(timings: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the steps of a session's start, and those that came after its total."""
    names = list(timings)
    end = names.index(TOTAL) if TOTAL in timings else len(names)
    return {n: timings[n] for n in names[:end]}, {n: timings[n] for n in names[end + 1 :]}


def _stages(info: Mapping[str, Any]) -> str:
    exits = info.get("exit_codes", {})
    stages = stages_of(info)
    names = [*stages, *(name for name in exits if name not in stages)]
    width = max(map(len, names), default=0)
    return "\n".join(
        f"{name.ljust(width)}{GAP}{stages.get(name, '-')[:SHORT_ID]}{_exit(exits.get(name))}"
        for name in names
    )


def _exit(code: int | None) -> str:
    return "" if code is None else f"{GAP}exit {code}"


def sessions(result: Mapping[str, Any], width: int | None = None) -> str:
    """Return a table of sessions; shortened where need be, if it is for a terminal of that ``width``."""
    headings, rows = _session_columns(result["sessions"], CREATED, to_the_second)
    whole = table(headings, rows)
    if width is None or max(map(len, whole.split("\n"))) <= width:
        return whole
    headings, rows = _session_columns(result["sessions"], CREATED_BRIEFLY, to_the_minute)
    return table(*fitted(headings, rows, LEAST, width))


def _session_columns(
    infos: Iterable[Mapping[str, Any]], created: str, written: Callable[[str], str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    headings = ("SESSION", "PIPELINE", "PHASE", "OUTCOME", created, "OWNER", "LOCATION")
    return headings, [
        (
            info["session_id"],
            info.get("pipeline", NOTHING),
            _phase(info),
            _outcome(info) or NOTHING,
            written(info.get("created", "")),
            info.get("owner", NOTHING),
            info.get("location", {}).get("url", NOTHING),
        )
        for info in infos
    ]


def plan(result: Mapping[str, Any]) -> str:
    """Return a decision and what it rests on."""
    reasons = [(name, _status_value(name, v)) for name, v in result["explanation"].items()]
    return details([("decision", result["decision"]), *reasons])


def stats(result: Mapping[str, Any]) -> str:
    """Return a table with a row for each stage and a column for each thing that any reports."""
    stages = result["stages"]
    columns = list(dict.fromkeys(name for values in stages.values() for name in values))
    rows = (
        (stage, *(quantity(name, values.get(name)) for name in columns))
        for stage, values in stages.items()
    )
    return table(("STAGE", *(name.upper() for name in columns)), rows)


# --- everything else -----------------------------------------------------------------------------


def status(result: Mapping[str, Any], width: int | None = None) -> str:
    """Return the state of the daemon and its machine, in lines of at most ``width`` if that is given."""
    return details(((name, _status_value(name, value)) for name, value in result.items()), width)


def _status_value(name: str, value: Any) -> str:
    if name == "uptime":
        return span(value)
    if name == "warm" and isinstance(value, Mapping):
        return ", ".join(f"{pipeline} {_warm(slots)}" for pipeline, slots in value.items())
    if isinstance(value, Mapping):
        return members({key: value[key] for key in value if key not in NOT_FOR_PEOPLE})
    return quantity(name, value)


def _warm(slots: Any) -> str:
    if isinstance(slots, Mapping):
        return f"{slots.get('ready', 0)}/{slots.get('target', 0)}"
    return str(slots)


def metrics(result: Mapping[str, Any]) -> str:
    """Return a table of all that is counted and measured, a row for each sample."""
    rows = (
        (metric["name"], _labels(sample["labels"]), _sample(sample))
        for metric in result["metrics"]
        for sample in metric["samples"]
    )
    return table(("METRIC", "OF", "VALUE"), rows)


def _labels(labels: Mapping[str, str]) -> str:
    return GAP.join(f"{name} {value}" for name, value in labels.items()) or "-"


def _sample(sample: Mapping[str, Any]) -> str:
    """Return a number as it is; of a distribution how many there were, and their mean."""
    if "buckets" not in sample:
        return f"{sample['value']:.12g}"
    count = sample["buckets"][-1]
    return f"{count}, mean {sample['sum'] / count:.4g}" if count else "0"


def drained(result: Mapping[str, Any]) -> str:
    """Return whether sessions are admitted, and whom a drain waits for."""
    if not result["draining"]:
        return "admitting sessions"
    waiting = result.get("waiting_for", [])
    return "draining; " + (f"waiting for {', '.join(waiting)}" if waiting else "nothing runs")


def reloaded(result: Mapping[str, Any]) -> str:
    """Return what a new configuration changed."""
    changed = "\n".join(result.get("changed", [])) or "nothing has changed"
    return f"{changed}\ngeneration {result['generation']}" if "generation" in result else changed


def pipelines(result: Mapping[str, Any]) -> str:
    """Return a table of the configured pipelines."""
    rows = (
        (entry.get("name", "-"), _stage_names(entry.get("stages")), _warm(entry.get("warm", "-")))
        for entry in result["pipelines"]
    )
    return table(("PIPELINE", "STAGES", "WARM"), rows)


def _stage_names(stages: Any) -> str:
    if isinstance(stages, Mapping):
        return ", ".join(stages)
    if isinstance(stages, list):
        return ", ".join(s.get("name", "?") if isinstance(s, Mapping) else str(s) for s in stages)
    return "-"


def probe(info: Mapping[str, Any]) -> str:
    """Return all there is to know of a probe."""
    return details(
        [
            ("probe", info["name"]),
            ("address", _probe_address(info)),
            ("state", info["state"]),
            ("error", info.get("error")),
            ("frame", members(info.get("frame", {}))),
            ("lease", info.get("lease")),
            ("owner", info.get("owner")),
            ("labels", ", ".join(f"{k}={v}" for k, v in info.get("labels", {}).items())),
            ("sessions", ", ".join(info.get("sessions", []))),
        ]
    )


def _probe_address(info: Mapping[str, Any]) -> str:
    """Return a URL, or without its ``tcp://`` the address of a probe that serves the stream format."""
    url = str(info.get("url") or f"{info['host']}:{info['port']}")
    return url.removeprefix("tcp://")


def probes(result: Mapping[str, Any]) -> str:
    """Return a table of probes."""
    rows = (
        (p["name"], _probe_address(p), p["state"], str(len(p.get("sessions", []))))
        for p in result["probes"]
    )
    return table(("PROBE", "ADDRESS", "STATE", "SESSIONS"), rows)


def log_line(line: Mapping[str, Any], *, times: bool = False) -> str:
    """Return a stage's line behind the stage's name."""
    time = f"{line.get('time', '')} " if times else ""
    return f"{time}{line.get('stage', '')} | {line.get('line', '')}"


def event(params: Mapping[str, Any]) -> str:
    """Return an event on one line."""
    kind = params.get("type", "events.lost")
    rest = {
        name: value
        for name, value in params.items()
        if name not in ("subscription", "seq", "time", "type", "session_id") and value is not None
    }
    seq = params.get("seq")
    words = (params.get("time"), None if seq is None else str(seq), kind, params.get("session_id"))
    return GAP.join(filter(None, (*words, members(rest))))
