# SPDX-License-Identifier: MIT
"""Where a peer comes from, whichever notation its address has."""

from __future__ import annotations

import pytest

from operatord.access.backoff import FREE, Backoff
from operatord.access.origin import origin_at
from operatord.settings.listeners import is_loopback


@pytest.mark.parametrize(
    ("address", "shown", "network", "local"),
    [
        (("192.0.2.7", 5), "192.0.2.7 port 5", "192.0.2.7", False),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7 port 5", "192.0.2.7", False),
        (("127.0.0.1", 5), "127.0.0.1 port 5", "127.0.0.1", True),
        (("::ffff:127.0.0.1", 5, 0, 0), "127.0.0.1 port 5", "127.0.0.1", True),
        (("::1", 5, 0, 0), "::1 port 5", "::/64", True),
        (("2001:db8::7", 5, 0, 0), "2001:db8::7 port 5", "2001:db8::/64", False),
        (("fe80::7%eth0", 5, 0, 2), "fe80::7%eth0 port 5", "fe80::/64", False),
        (("a peer that has gone", None), "a peer that has gone", "a peer that has gone", True),
    ],
)
def test_a_peer_of_ipv4_is_one_on_a_listener_of_both_families(
    address: tuple[object, ...], shown: str, network: str, local: bool
) -> None:
    origin = origin_at(address)
    assert (str(origin), origin.network, origin.is_local) == (shown, network, local)


def test_one_peer_of_ipv4_does_not_keep_the_others_waiting() -> None:
    backoff = Backoff(lambda: 0.0)
    for _ in range(FREE + 1):
        backoff.failed(origin_at(("::ffff:192.0.2.7", 5, 0, 0)))
    assert backoff.seconds(origin_at(("192.0.2.7", 6))) > 0
    assert backoff.seconds(origin_at(("::ffff:192.0.2.8", 5, 0, 0))) == 0


@pytest.mark.parametrize(
    ("host", "alone"),
    [("::ffff:127.0.0.1", True), ("::1", True), ("::ffff:10.0.0.1", False), ("::", False)],
)
def test_loopback_is_loopback_in_the_notation_of_ipv6(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
