# SPDX-License-Identifier: MIT
"""Where a registered probe is: at an address, where it serves the stream format, or behind a URL, which an
adapter reads.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from operatord.core.sources.url import TCP, SourceUrl, parse_source, scheme_of
from operatord_protocol.absent import given
from operatord_protocol.errors import InvalidParams
from operatord_protocol.hosts import host_problem
from operatord_protocol.messages import ProbeRegisterParams


class Target(NamedTuple):
    """Either an address, or a URL."""

    host: str
    """Empty for what is on the engine's machine."""
    port: int
    source: SourceUrl | None = None

    @property
    def shown(self) -> str:
        """The URL, without credentials."""
        if self.source is not None:
            return self.source.shown
        where = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TCP}://{where}:{self.port}"

    @property
    def param(self) -> str:
        """The member of a request that says it."""
        return "params.host" if self.source is None else "params.url"


def target_of(params: ProbeRegisterParams) -> Target:
    """Return where a probe is, of params that have been checked."""
    if (url := given(params.url)) is None:
        return Target(given(params.host, ""), given(params.port, 0))
    source = parse_source(url, [scheme_of(url)])
    return Target(source.host, source.port, source)


def checked(params: ProbeRegisterParams, schemes: Collection[str]) -> ProbeRegisterParams:
    """Return params with one form for each place: ``tcp://`` is a host and a port.

    ``schemes`` are those that have adapters. Raises `InvalidParams`, whose text has no credentials.
    """
    url = given(params.url)
    if url is None:
        _check_address(params)
        return params
    if given(params.host) is not None or given(params.port) is not None:
        raise _invalid("url", "give either url, or host and port, not both")
    try:
        source = parse_source(url, schemes)
    except ValueError as exc:
        raise _invalid("url", str(exc)) from None  # the cause may repeat the URL
    if source.scheme == TCP:
        return replace(params, host=source.host, port=source.port, url=UNSET)
    return params


def _check_address(params: ProbeRegisterParams) -> None:
    host, port = given(params.host), given(params.port)
    if host is None and port is None:
        raise _invalid("url", "give a url, or host and port")
    if host is None or port is None:
        raise _invalid("host" if host is None else "port", "is required")
    if problem := host_problem(host):
        raise _invalid("host", problem)


def _invalid(name: str, problem: str) -> InvalidParams:
    return InvalidParams(f"params.{name}: {problem}", path=f"params.{name}")
