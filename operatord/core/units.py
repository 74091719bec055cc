# SPDX-License-Identifier: MIT
"""Durations and sizes as people write them: ``30s``, ``5m``, ``128MiB``, or bare seconds and bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\Z", re.ASCII)
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)\Z", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_DURATION_MAX = 10 * 365 * 86400
_LIKE_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])(i?)(b?)\Z", re.ASCII | re.IGNORECASE)
_LIKE_DURATION = re.compile(
    r"(\d+(?:\.\d+)?)\s*(?:(?P<ms>ms|msecs?|milliseconds?)|(?P<s>s|secs?|seconds?)|(?P<m>m|mins?|minutes?)"
    r"|(?P<h>h|hrs?|hours?)|(?P<d>d|days?))\Z",
    re.ASCII | re.IGNORECASE,
)
"""Spellings that other programs have."""


class Duration(float):
    """Seconds."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read seconds or text such as ``500ms``. Raises `ValueError` with what is wanted."""
        seconds = _scaled(value, _DURATION, _SECONDS)
        if seconds is None or not 0 <= seconds <= _DURATION_MAX:
            raise ValueError(
                f"expected seconds or a duration such as 30s, 5m or 2h, {_got(value, _meant_duration)}"
            )
        return cls(seconds)


class Bytes(int):
    """A size in bytes."""

    @classmethod
    def parse(cls, value: object) -> Bytes:
        """Read bytes or text such as ``128MiB``. Raises `ValueError` with what is wanted."""
        size = _scaled(value, _SIZE, _BYTES)
        if size is None or not 0 <= size < 2**60 or size != int(size):
            raise ValueError(
                f"expected bytes or a size such as 128MiB or 2GiB, {_got(value, _meant_size)}"
            )
        return cls(size)


def custom(type_: type, value: object) -> object:
    """Read a duration or a size, for decoders. Raises `ValueError`, `NotImplementedError`."""
    if type_ in (Duration, Bytes):
        return type_.parse(value)
    raise NotImplementedError(type_)


def plain(value: object) -> object:
    """Return a duration or a size as a bare number, for encoders. Raises `NotImplementedError`."""
    if isinstance(value, Duration):
        return float(value)
    if isinstance(value, Bytes):
        return int(value)
    raise NotImplementedError(type(value))


def _got(value: object, meant: Callable[[str], str | None]) -> str:
    """Return what was found instead, in words of YAML and JSON, and what was likely meant by it."""
    if isinstance(value, list | dict):
        return "got a list" if isinstance(value, list) else "got a mapping"
    if value is None or isinstance(value, bool):
        return f"got {'null' if value is None else str(value).lower()}"
    hint = meant(value) if isinstance(value, str) else None
    return f"got {value!r}" + (f"; did you mean {hint}?" if hint else "")


def _meant_size(text: str) -> str | None:
    """Return a size with the unit that is likely meant: a letter alone is a power of 1024, as for Docker."""
    if (match := _LIKE_SIZE.match(text)) is None:
        return None
    number, letter, small_i, b = match.groups()
    return f"{number}{letter.upper()}{'B' if b and not small_i else 'iB'}"


def _meant_duration(text: str) -> str | None:
    match = _LIKE_DURATION.match(text)
    return f"{match[1]}{match.lastgroup}" if match else None


def _scaled(value: object, pattern: re.Pattern[str], units: dict[str, Any]) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 2**63 else None
    match = pattern.match(value) if isinstance(value, str) else None
    return float(match[1]) * units[match[2]] if match else None
