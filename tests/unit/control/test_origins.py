# SPDX-License-Identifier: MIT
"""Where peers come from."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from operatord.access.origin import origin_of
from operatord.control.wire.origins import Origins


def transport(family: int, peer: Any) -> Any:
    said = {"socket": SimpleNamespace(family=family), "peername": peer}
    return SimpleNamespace(get_extra_info=said.__getitem__)


@pytest.mark.parametrize(
    ("family", "peer", "expected"),
    [
        (socket.AF_INET, ("192.0.2.7", 5), "192.0.2.7"),
        (socket.AF_INET6, ("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (socket.AF_INET6, ("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (socket.AF_INET, None, "a peer that has gone"),
        (socket.AF_INET6, None, "a peer that has gone"),
    ],
)
def test_peers_of_one_address_or_network_are_one(family: int, peer: Any, expected: str) -> None:
    assert origin_of(transport(family, peer)).network == expected


def test_nothing_is_kept_of_those_who_have_gone() -> None:
    origins = Origins()
    origins.add("a")
    origins.add("a")
    origins.remove("a")
    assert origins["a"] == 1
    origins.remove("a")
    assert origins["a"] == 0
    assert not origins._counts
