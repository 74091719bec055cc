# SPDX-License-Identifier: MIT
"""Settings about registered probes: where they may be."""

from __future__ import annotations

import functools

import msgspec

from operatord.core.destinations import PRIVATE, Destinations, parse


class ProbeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which addresses a probe may be registered at."""

    allow: list[str] = msgspec.field(default_factory=lambda: list(PRIVATE))
    """Networks, with ports or without, as `operatord.core.destinations.parse` takes them."""

    @property
    def destinations(self) -> Destinations:
        """What that allows."""
        return _destinations(tuple(self.allow))


@functools.lru_cache(maxsize=4)
def _destinations(allow: tuple[str, ...]) -> Destinations:
    return Destinations([parse(each) for each in allow])


def probe_problems(settings: ProbeSettings) -> list[str]:
    """Return what is wrong, as sentences."""
    found = []
    for place, each in enumerate(settings.allow):
        try:
            parse(each)
        except ValueError as exc:
            found.append(f"probes.allow[{place}]: {exc}")
    return found
