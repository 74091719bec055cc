# SPDX-License-Identifier: MIT
"""What people type, made into values of the protocol. Each raises `ValueError` for argparse to report."""

from __future__ import annotations

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LEASES = ("pinned", "connection")


def duration(text: str) -> float:
    """Return seconds: ``90``, ``90s``, ``5m``, ``2h``, ``250ms``."""
    number = text.rstrip("msdh")
    seconds = float(number) * UNITS[text[len(number) :] or "s"]
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def session_id(text: str) -> str:
    """Return a session's id, or the beginning of one, in upper case."""
    if not 1 <= len(text) <= 16 or set(text.upper()) - set("0123456789ABCDEF"):
        raise ValueError(text)
    return text.upper()


def lease(text: str) -> str | dict[str, float]:
    """Return ``pinned``, ``connection``, or for ``ttl=30s`` the object that the protocol has for it."""
    if text in LEASES:
        return text
    name, _, ttl = text.partition("=")
    if name != "ttl":
        raise ValueError(text)
    return {"ttl": duration(ttl)}


def stage_variable(text: str) -> tuple[str, str, str]:
    """Return stage, key and value of ``stage.key=value``."""
    place, equals, value = text.partition("=")
    stage, dot, key = place.partition(".")
    if not (stage and dot and key and equals):
        raise ValueError(text)
    return stage, key, value


def label(text: str) -> tuple[str, str]:
    """Return both sides of ``key=value``."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(text)
    return key, value


def host_port(text: str) -> tuple[str, int]:
    """Return both parts of ``host:port`` or ``[ipv6]:port``."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(text)
    return host, int(port)


# What argparse calls a value that was refused: "invalid duration (90, 90s, 5m, 2h) value: 'x'".
duration.__name__ = "duration (90, 90s, 5m, 2h)"
session_id.__name__ = "session id"
lease.__name__ = "lease (pinned, connection, ttl=30s)"
stage_variable.__name__ = "stage.key=value"
label.__name__ = "key=value"
host_port.__name__ = "host:port"
