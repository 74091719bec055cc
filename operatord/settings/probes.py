# SPDX-License-Identifier: MIT
"""Settings about registered probes: where they may be."""

from __future__ import annotations

import functools

import msgspec

from operatord.core.destinations import PRIVATE, Destinations, parse
from operatord.core.sources.local import LocalPlaces, is_local, parse_place

LISTED = 32
"""Entries that are repeated at most to say how another one is added."""


class ProbeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a probe may be registered at."""

    allow: list[str] = msgspec.field(default_factory=lambda: list(PRIVATE))
    """Networks, with ports or without, as `operatord.core.destinations.parse` takes them; files and devices,
    as `operatord.core.sources.local.parse_place` does."""

    @property
    def destinations(self) -> Destinations:
        """The addresses that that allows."""
        return _destinations(tuple(self.allow))

    @property
    def places(self) -> LocalPlaces:
        """The files and devices that that allows."""
        return _places(tuple(self.allow))

    def line_that_allows(self, scheme: str, path: str) -> str | None:
        """Return the line of a settings file that allows a device, or a file with its folder, besides what is
        allowed now; None for what cannot be, or if that is too much for a line.
        """
        entry = f"{scheme}:{path.rpartition('/')[0] if scheme == 'file' else path}"
        try:
            parse_place(entry)
        except ValueError:
            return None
        if len(self.allow) > LISTED:
            return None
        entries = msgspec.json.encode([*self.allow, entry]).decode().replace('","', '", "')
        return f"probes: {{allow: {entries}}}"


@functools.lru_cache(maxsize=4)
def _destinations(allow: tuple[str, ...]) -> Destinations:
    return Destinations([parse(each) for each in allow if not is_local(each)])


@functools.lru_cache(maxsize=4)
def _places(allow: tuple[str, ...]) -> LocalPlaces:
    return LocalPlaces([parse_place(each) for each in allow if is_local(each)])


def probe_problems(settings: ProbeSettings) -> list[str]:
    """Return what is wrong, as sentences."""
    found = []
    for place, each in enumerate(settings.allow):
        try:
            (parse_place if is_local(each) else parse)(each)
        except ValueError as exc:
            found.append(f"probes.allow[{place}]: {exc}")
    return found
