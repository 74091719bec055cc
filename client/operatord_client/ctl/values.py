# SPDX-License-Identifier: MIT
"""What people type, made into values of the protocol, or an `ArgumentTypeError` that argparse reports."""

from __future__ import annotations

from argparse import ArgumentTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading typing takes longer than reading a command line
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LEASES = ("pinned", "connection")


def _expecting(what: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Have what raises `ValueError` say what it expects, with an example."""

    def of(read: Callable[[str], T]) -> Callable[[str], T]:
        def checked(text: str) -> T:
            try:
                return read(text)
            except (ValueError, KeyError) as exc:
                raise ArgumentTypeError(f"expected {what}, got {text!r}") from exc

        checked.__doc__ = read.__doc__
        return checked

    return of


@_expecting("a time such as 90, 90s, 5m, 2h or 250ms")
def duration(text: str) -> float:
    """Return seconds: ``90``, ``90s``, ``5m``, ``2h``, ``250ms``."""
    number = text.rstrip("msdh")
    seconds = float(number) * UNITS[text[len(number) :] or "s"]
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


@_expecting("a time such as 90s or 5m, or end")
def until(text: str) -> float | None:
    """Return seconds, more than 0; for ``end`` None."""
    if text == "end":
        return None
    if (seconds := duration(text)) == 0:
        raise ValueError(text)
    return seconds


@_expecting("a session's id, or how it begins: 1 to 16 of the digits 0-9 and A-F, such as 7E11")
def session_id(text: str) -> str:
    """Return a session's id, or the beginning of one, in upper case."""
    if not 1 <= len(text) <= 16 or set(text.upper()) - set("0123456789ABCDEF"):
        raise ValueError(text)
    return text.upper()


@_expecting("pinned, connection, or a time such as ttl=30s")
def lease(text: str) -> str | dict[str, float]:
    """Return ``pinned``, ``connection``, or for ``ttl=30s`` the object that the protocol has for it."""
    if text in LEASES:
        return text
    name, _, ttl = text.partition("=")
    if name != "ttl" or not ttl:
        raise ValueError(text)
    return {"ttl": duration(ttl)}


@_expecting("STAGE.KEY=VALUE such as probe.fps=60")
def stage_variable(text: str) -> tuple[str, str, str]:
    """Return stage, key and value of ``stage.key=value``."""
    place, equals, value = text.partition("=")
    stage, dot, key = place.partition(".")
    if not (stage and dot and key and equals):
        raise ValueError(text)
    return stage, key, value


@_expecting("KEY=VALUE such as room=4")
def label(text: str) -> tuple[str, str]:
    """Return both sides of ``key=value``."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(text)
    return key, value


@_expecting(
    "HOST:PORT such as 192.168.1.20:12345 or [::1]:12345, or a URL such as rtsp://HOST/PATH"
)
def probe_address(text: str) -> tuple[str, int] | str:
    """Return both parts of ``host:port`` or ``[ipv6]:port``; a URL, or ``-``, as it is."""
    if "/" in text or text == "-":
        return text
    if "@" in text:  # a terminal and its history have the password already, an error's log not yet
        raise ArgumentTypeError(
            "a user and a password belong into a URL, such as rtsp://USER:PASSWORD@HOST/PATH"
        )
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(text)
    return host, int(port)


@_expecting("a whole number from 1 on, such as 100")
def count(text: str) -> int:
    """Return a number of things of which there is at least one."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


@_expecting("a rate above 0, up to 1000000, such as 25")
def rate(text: str) -> float:
    """Return frames per second."""
    if not 0 < (fps := float(text)) <= 1_000_000:
        raise ValueError(text)
    return fps


@_expecting("a whole number such as 100")
def whole(text: str) -> int:
    """Return a whole number."""
    return int(text)
