# SPDX-License-Identifier: MIT
"""Fixtures: scanners and adapters that are gone when the test is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from igtl_lab import HOST, Adapter, Scanner


@pytest.fixture
def left() -> Iterator[ExitStack]:
    """What is closed at the end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def scanner(left: ExitStack) -> Callable[..., Scanner]:
    """Start a server that sends these bytes to the first client, the next to the second …"""
    return lambda *scripts: left.enter_context(closing(Scanner(*scripts)))


@pytest.fixture
def igtl_in(left: ExitStack) -> Callable[..., Adapter]:
    """Start openigtlink-in on a URL."""

    def start(url: str, **env: object) -> Adapter:
        own = {"probe_ip": HOST, "probe_port": 0, "unread": "hold"}  # no picture is dropped
        return left.enter_context(closing(Adapter("openigtlink-in", source_url=url, **own, **env)))

    return start


@pytest.fixture
def igtl_out(left: ExitStack) -> Callable[..., Adapter]:
    """Start openigtlink-out behind a port."""

    def start(upstream: int, **env: object) -> Adapter:
        before = {"segmentation_ip": HOST, "segmentation_port": upstream}
        own = {"openigtlink_ip": HOST, "openigtlink_port": 0}
        return left.enter_context(closing(Adapter("openigtlink-out", **before, **own, **env)))

    return start
