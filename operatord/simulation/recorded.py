# SPDX-License-Identifier: MIT
"""A trace in a file: one JSON object on each line, in the order of coming.

    {"at":0.0,"owner":"a","seconds":12.5,"priority":0,"need":{"cpus":0.5,"memory":"96MiB"}}

``at`` is in seconds from the beginning, or a moment as of RFC 3339, all lines alike; the first such moment
is the beginning. ``seconds`` is how long the stream lasts, and ``estimate``, where it differs, how long the
scheduler was told that it would (null: nothing). In ``need``, ``cpus`` are cores, ``memory`` bytes or text
such as ``96MiB``, the rest pieces; ``sessions`` is 1 unless it is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeGuard

from operatord.core.resources import DIMENSIONS, MILLI, Vector
from operatord.core.units import Bytes

from .trace import Job

LINE_BYTES = 64 * 1024
LONGEST = 10 * 365 * 86400.0
"""Seconds; more is a mistake."""
MOST = 2**60
"""Of anything."""
PRIORITY = 10
"""Priorities are from minus this to this, as on the wire."""


class TraceError(Exception):
    """A trace cannot be used; the text says which line is wrong and why."""


class _Bad(Exception):
    """What is wrong with one line."""


def read(path: Path, line_bytes: int = LINE_BYTES) -> Iterator[Job]:
    """Yield the jobs of a file as they are read. Raises `TraceError`."""
    try:
        with path.open("rb") as file:
            yield from _jobs(file, path, line_bytes)
    except OSError as exc:
        raise TraceError(f"{path}: {exc.strerror or exc}") from exc


def write(path: Path, jobs: Iterable[Job]) -> int:
    """Write ``jobs`` and return how many there were. Raises `TraceError`."""
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for job in jobs:
                file.write(to_line(job))
                count += 1
    except OSError as exc:
        raise TraceError(f"{path}: {exc.strerror or exc}") from exc
    return count


def to_line(job: Job) -> str:
    """Return a job as its line. Reading it gives the same job again."""
    need: dict[str, float | int] = {
        name: amount / MILLI if name == "cpus" else amount
        for name, amount in zip(DIMENSIONS, job.need, strict=True)
        if amount or name == "sessions"
    }
    line: dict[str, Any] = {"at": job.at, "owner": job.owner, "seconds": job.seconds}
    line |= {"priority": job.priority, "need": need}
    if job.estimate != job.seconds:
        line["estimate"] = job.estimate
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def _jobs(file: IO[bytes], path: Path, line_bytes: int) -> Iterator[Job]:
    reader = _Reader()
    number = 0
    while line := file.readline(line_bytes + 1):
        number += 1
        if len(line) > line_bytes:
            raise TraceError(f"{path}: line {number}: longer than {line_bytes} bytes")
        if line.isspace():
            continue
        try:
            yield reader.job(line)
        except _Bad as exc:
            raise TraceError(f"{path}: line {number}: {exc}") from None
    if reader.last is None:
        raise TraceError(f"{path}: there is no job in it")


class _Reader:
    """Reads lines; remembers where the time began and which amounts were met."""

    def __init__(self) -> None:
        self.last: float | None = None
        self._beginning: datetime | None = None
        self._met: dict[Vector, Vector] = {}
        """Equal amounts are one object, so that a long queue of them needs little memory."""

    def job(self, line: bytes) -> Job:
        found = _members(_parse(line), _MEMBERS, "", {"at", "owner", "seconds", "need"})
        amounts = {"sessions": 1} | _members(found["need"], _NEED, "need.", set())
        need = Vector(**amounts)
        return Job(
            self._seconds(found["at"]),
            found["owner"],
            self._met.setdefault(need, need),
            found["seconds"],
            found.get("priority", 0),
            found.get("estimate", found["seconds"]),
        )

    def _seconds(self, at: float | datetime) -> float:
        """Return the seconds from the beginning."""
        if self.last is None and isinstance(at, datetime):
            self._beginning = at
        if isinstance(at, datetime) != (self._beginning is not None):
            raise _Bad("at: either all lines have seconds, or all have moments")
        if isinstance(at, datetime):
            assert self._beginning is not None
            at = (at - self._beginning).total_seconds()
        if self.last is not None and at < self.last:
            raise _Bad("at: earlier than the line before")
        self.last = at
        return at


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        text = exc.msg if isinstance(exc, json.JSONDecodeError) else type(exc).__name__
        raise _Bad(f"not JSON: {text}") from None


def _refuse_constant(name: str) -> None:
    raise _Bad(f"{name} is not a number")


def _members(
    value: object, known: dict[str, Callable[[Any], Any]], where: str, needed: set[str]
) -> dict[str, Any]:
    """Return the members of an object, each read by its own function."""
    if not isinstance(value, dict):
        raise _Bad(f"{where.rstrip('.') or 'the line'}: expected an object")
    for name in value:
        if name not in known:
            raise _Bad(f"{where}{name}: unknown; known are {', '.join(known)}")
    if missing := [name for name in known if name in needed and name not in value]:
        raise _Bad(f"{where}{missing[0]}: missing")
    found = {}
    for name, member in value.items():
        try:
            found[name] = known[name](member)
        except ValueError as exc:
            raise _Bad(f"{where}{name}: {exc}") from None
    return found


def _at(value: object) -> float | datetime:
    if not isinstance(value, str):
        return _seconds(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"expected a moment such as 2024-05-01T12:00:00Z, got {value!r}") from None
    if moment.tzinfo is None:
        raise ValueError(f"a moment needs its offset from UTC, such as {value}Z")
    return moment


def _seconds(value: object) -> float:
    if not _is_number(value) or not 0 <= value <= LONGEST:
        raise ValueError(f"expected seconds from 0 to {LONGEST:.0f}, got {value!r}")
    return float(value)


def _estimate(value: object) -> float | None:
    return None if value is None else _seconds(value)


def _owner(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a name, got {value!r}")
    return value


def _priority(value: object) -> int:
    if not _is_whole(value) or not -PRIORITY <= value <= PRIORITY:
        raise ValueError(f"expected a whole number from -{PRIORITY} to {PRIORITY}, got {value!r}")
    return value


def _cores(value: object) -> int:
    if not _is_number(value) or not 0 <= value < MOST / MILLI:
        raise ValueError(f"expected cores, got {value!r}")
    # Never less than what was asked for: a thousandth is the least there is.
    return math.ceil(round(value * MILLI, 6))


def _pieces(value: object) -> int:
    if not _is_whole(value) or not 0 <= value < MOST:
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


_MEMBERS: dict[str, Callable[[Any], Any]] = {
    "at": _at,
    "owner": _owner,
    "seconds": _seconds,
    "priority": _priority,
    "need": lambda value: value,
    "estimate": _estimate,
}
_NEED: dict[str, Callable[[Any], Any]] = {
    "cpus": _cores,
    "memory": Bytes.parse,
    "gpus": _pieces,
    "sessions": _pieces,
    "subnets": _pieces,
    "ports": _pieces,
}
