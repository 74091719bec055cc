# SPDX-License-Identifier: MIT
"""What a stage says of itself on its standard output, read in one place and held against what can be.

A stage's program is anybody's. A member that is no value of its range is as good as not said: it is left
out by itself, and the rest of the report counts. Nothing else of a report is kept or passed on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from operatord.engines.base import LogLine
from operatord_protocol import stage_lines

LARGEST = 2**53 - 1
"""The largest count that every reader of JSON takes for exactly what it is (RFC 8259, section 6)."""
LONGEST_SILENCE = 86_400.0
"""Seconds between two reports that a stage can promise at most: a day."""
MOST_DIGITS = 20
"""Digits of a whole number that are worth reading: as many as 64 bits have. More would take time."""

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Seconds = Annotated[float, Meta(gt=0, le=LONGEST_SILENCE)]
Share = Annotated[float, Meta(ge=0, le=1)]
Peer = Annotated[str, Meta(pattern=r"^[0-9A-Za-z.:_%\[\]-]{1,64}\Z")]
"""An address, as a stage names who has connected."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stage's counters, each None where it has not said a value of that range.

    A further member of reports is a further line here.
    """

    frames: Count | None = None
    """Frames passed on."""
    dropped: Count | None = None
    consumers: Count | None = None
    blocked: Count | None = None
    """Of the consumers, those that everybody waits for."""
    every: Seconds | None = None
    """Longest time in seconds between two reports while it has a consumer; None if it promises nothing."""
    dice_mean: Share | None = None
    """How well its masks agree with the truth of its probe."""
    held_up_by: Peer | None = None
    """The consumer that everybody has waited for longest …"""
    held_up_for: Seconds | None = None
    """… and for how many seconds it has taken nothing."""

    def figures(self) -> dict[str, float]:
        """Return what it has counted, as the wire has it: neither promises nor names."""
        said: dict[str, float] = msgspec.to_builtins(self)
        return {name: number for name, number in said.items() if name not in _NO_FIGURES}


_NO_FIGURES = {"every", "held_up_by", "held_up_for"}


def report_in(line: LogLine) -> Report | None:
    """Return the report that a stage's line is; None when it is none."""
    said = _said(line)
    return checked(said) if said.get("type") == "report" else None


def is_listening(line: LogLine) -> bool:
    """Tell whether a stage says in this line that it listens."""
    return _said(line).get("type") == "listening"


def is_for_people(line: LogLine) -> bool:
    """Tell whether a line is none of those with which a stage speaks to the daemon."""
    return line.stream != "stdout" or stage_lines.is_for_people(line.line)


def newest_report(lines: list[LogLine]) -> Report | None:
    """Return the last report among ``lines``."""
    return next((said for line in reversed(lines) if (said := report_in(line)) is not None), None)


def checked(said: Mapping[str, Any]) -> Report:
    """Return what of ``said`` is a value of its member's range."""
    found: dict[str, Any] = {}
    for name in Report.__struct_fields__:
        if isinstance(value := said.get(name), int | float | str):
            with contextlib.suppress(msgspec.ValidationError, UnicodeEncodeError):
                found[name] = getattr(msgspec.convert({name: value}, Report), name)
    return Report(**found)


def _said(line: LogLine) -> dict[str, Any]:
    """Return the JSON object that a line on standard output is; empty for anything else."""
    if line.stream == "stdout" and line.line.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(
                line.line, parse_int=_whole, parse_float=_number, parse_constant=_none
            )
            return said if isinstance(said, dict) else {}
    return {}


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= MOST_DIGITS else None


def _number(text: str) -> float:
    """Return an int for ``812.0``, which is how some programs write 812."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= LARGEST else number


def _none(_name: str) -> None:
    """Stand in for ``NaN`` and ``Infinity``, which some programs write though JSON has no such numbers."""
