# SPDX-License-Identifier: MIT
"""Durations and sizes as people write them: ``30s``, ``5m``, ``128MiB``, or bare seconds and bytes."""

from __future__ import annotations

import re
from typing import Any

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\Z", re.ASCII)
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)\Z", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_DURATION_MAX = 10 * 365 * 86400


class Duration(float):
    """Seconds."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read seconds or text such as ``500ms``. Raises `ValueError` with what is wanted."""
        seconds = _scaled(value, _DURATION, _SECONDS)
        if seconds is None or not 0 <= seconds <= _DURATION_MAX:
            raise ValueError(f"expected seconds or a duration such as 30s, 5m or 2h, got {value!r}")
        return cls(seconds)


class Bytes(int):
    """A size in bytes."""

    @classmethod
    def parse(cls, value: object) -> Bytes:
        """Read bytes or text such as ``128MiB``. Raises `ValueError` with what is wanted."""
        size = _scaled(value, _SIZE, _BYTES)
        if size is None or not 0 <= size < 2**60 or size != int(size):
            raise ValueError(f"expected bytes or a size such as 128MiB or 2GiB, got {value!r}")
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


def _scaled(value: object, pattern: re.Pattern[str], units: dict[str, Any]) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 2**63 else None
    match = pattern.match(value) if isinstance(value, str) else None
    return float(match[1]) * units[match[2]] if match else None
