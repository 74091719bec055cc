# SPDX-License-Identifier: MIT
"""A stage's reports for the daemon, among its lines for people: JSON objects, one on a line. A stage may be
any program, so every line is safe to parse, in time proportional to its length.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

TO_DAEMON = ("waiting", "listening", "report")
"""By the ``type`` of the object that such a line is."""
LARGEST = 2**53 - 1
"""The largest count that every JSON reader reads exactly (RFC 8259, section 6)."""
MOST_DIGITS = 20
"""Digits of a whole number that are worth reading: as many as 64 bits have. More would take time."""


def object_in(line: str) -> dict[str, Any]:
    """Return the JSON object that a line is; empty for anything else."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line, parse_int=_whole, parse_float=_number, parse_constant=_none)
            return said if isinstance(said, dict) else {}
    return {}


def is_for_people(line: str) -> bool:
    """Tell whether a stage's line is none of those with which it speaks to the daemon."""
    return object_in(line).get("type") not in TO_DAEMON


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= MOST_DIGITS else None


def _number(text: str) -> float:
    """Return an int for ``812.0``, which is how some programs write 812."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= LARGEST else number


def _none(_name: str) -> None:
    """Stand in for ``NaN`` and ``Infinity``, which some programs write though JSON has no such numbers."""
