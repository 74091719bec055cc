# SPDX-License-Identifier: MIT
"""What a line is to be answered, worked out a second time, with nothing of operatord's: slow and plain.

It is written from protocol/PROTOCOL.md, sections 1 and 2, on Python's own reader of JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

PARSE, REQUEST, UNDERSTOOD, SEED, SILENCE = "parse", "request", "understood", "seed", "silence"
"""What becomes of a line: no JSON; JSON and no request; a request, whatever comes of it; an object that names
no method, which starts a session or is told as a slip; a notification."""
LEVELS = 64
ID_LETTERS, ID_BOUND = 256, 2**63
ENVELOPE = {"jsonrpc", "id", "method", "params"}
SURROGATE = re.compile("[\ud800-\udfff]")


class Expected(NamedTuple):
    """What a line is to be answered."""

    kinds: frozenset[str]
    """Mostly one. It is open which of two faults of a line is found first."""
    id: Any = None
    """The id that the reply has, for `UNDERSTOOD`."""
    subscribes: bool = False
    """Whether it is a notification that may begin a subscription, of which no reply tells."""


class _Faults:
    """What is wrong with a text though it follows the grammar."""

    def __init__(self) -> None:
        self.twice = self.out_of_range = self.half_letters = False

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        self.twice |= len(found) < len(pairs)
        self.half_letters |= any(_has_half_letters([name, value]) for name, value in pairs)
        return found

    def number(self, text: str) -> float:
        value = float(text)
        self.out_of_range |= value in (float("inf"), float("-inf"))
        return value


def expected(line: bytes) -> Expected:
    """Return what is due to a line, without its end, that is not blank."""
    faults = _Faults()
    text = line.decode("utf-8", "surrogateescape")  # what is no UTF-8 becomes half letters
    try:
        value = json.loads(
            text,
            object_pairs_hook=faults.pairs,
            parse_float=faults.number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError):
        return _of(PARSE, REQUEST) if faults.out_of_range else _of(PARSE)
    if faults.out_of_range:
        return _of(PARSE, REQUEST)
    if faults.half_letters or _has_half_letters([text, value]) or _depth(value) > LEVELS:
        return _of(PARSE)
    return _of(REQUEST) if faults.twice else _of_value(value)


def _of(*kinds: str) -> Expected:
    return Expected(frozenset(kinds))


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _of_value(value: Any) -> Expected:
    if not isinstance(value, dict):
        return _of(REQUEST)
    if not {"jsonrpc", "method"} & set(value):
        return _of(SEED)
    is_rpc = "jsonrpc" in value
    is_good = (
        set(value) <= ENVELOPE
        and isinstance(value.get("method"), str)
        and (not is_rpc or value["jsonrpc"] == "2.0")
        and ("id" not in value or _is_id(value["id"]))
    )
    if not is_good:
        return _of(REQUEST)
    if is_rpc and "id" not in value:
        return Expected(frozenset((SILENCE,)), subscribes=value["method"] == "events.subscribe")
    return Expected(frozenset((UNDERSTOOD,)), value.get("id"))


def _is_id(value: Any) -> bool:
    if type(value) is int:
        return -ID_BOUND <= value < ID_BOUND
    return isinstance(value, str) and len(value) <= ID_LETTERS


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while containers := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [deeper for each in containers for deeper in _inner(each)]
    return depth


def _has_half_letters(value: Any) -> bool:
    if isinstance(value, str):
        return SURROGATE.search(value) is not None
    return isinstance(value, list) and any(map(_has_half_letters, value))
