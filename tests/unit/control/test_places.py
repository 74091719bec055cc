# SPDX-License-Identifier: MIT
"""Where peers come from, and for whom there is room."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from operatord.access.origin import Origin, origin_of
from operatord.control.wire.places import RESERVE, TOLD_EVERY, Places
from operatord.settings.config import Limits
from operatord_protocol.errors import TooManyRequests


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


def test_which_addresses_are_this_machine() -> None:
    local = [Origin("127.0.0.2", 5), Origin("::1", 5), Origin("a Unix socket, uid 0")]
    assert all(each.is_local for each in local)
    assert not any(Origin(each, 5).is_local for each in ("192.0.2.1", "fe80::1%eth0"))


class Peer:
    """A connection."""

    def __init__(self, address: str, descriptor: int = 5) -> None:
        self.source, self.descriptor = Origin(address, 1), descriptor


class House:
    """Places, and who had to give way."""

    def __init__(self, descriptors: int = 10_000, **limits: Any) -> None:
        self.gone: list[Peer] = []
        self.seconds = 0.0
        self.places: Places[Peer] = Places(
            lambda: Limits(**limits), descriptors, self.gone.append, lambda: self.seconds
        )

    def come(self, *addresses: str, log_in: bool = False) -> list[Peer]:
        found = [Peer(each) for each in addresses]
        for each in found:
            self.places.take(each)
            if log_in:
                self.places.keep(each)
        return found


def test_nothing_is_kept_of_those_who_have_gone() -> None:
    house = House()
    peers = house.come("192.0.2.1", "192.0.2.1", "127.0.0.1")
    assert house.places.of("192.0.2.1") == 2
    for each in peers:
        house.places.free(each)
    assert not house.places._networks and not house.places._newcomers._by_network


def test_who_has_not_logged_in_gives_way_the_oldest_of_the_address_with_most() -> None:
    house = House(connections=4)
    [first, *_] = house.come("192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3")
    house.places.keep(first)
    house.come("192.0.2.4")
    assert [each.source.address for each in house.gone] == ["192.0.2.2"]
    house.come("192.0.2.5", "192.0.2.6", log_in=True)
    assert first not in house.gone and len(house.gone) == 3


def test_nobody_who_has_logged_in_gives_way() -> None:
    house = House(connections=2)
    house.come("192.0.2.1", "192.0.2.2", log_in=True)
    with pytest.raises(TooManyRequests, match=r"limits\.connections"):
        house.come("127.0.0.1")
    assert not house.gone


def test_some_places_are_for_this_machine_alone() -> None:
    house = House(connections=16)
    house.come(*["192.0.2.1"] * 14, log_in=True)
    with pytest.raises(TooManyRequests, match=r"the last 2 of limits\.connections"):
        house.come("192.0.2.2")
    house.come("127.0.0.1", "::1", log_in=True)
    with pytest.raises(TooManyRequests, match="there are 16 connections already"):
        house.come("127.0.0.1")


def test_address_with_all_its_connections_has_room_made_among_its_own() -> None:
    house = House(connections_per_address=2)
    mine, _ = house.come("192.0.2.1", "192.0.2.1", log_in=False)
    other = house.come("192.0.2.2")
    house.come("192.0.2.1", log_in=True)
    assert house.gone == [mine] and other[0] not in house.gone


def test_descriptors_are_kept_for_sessions() -> None:
    house = House(descriptors=1000)
    highest = 1000 - RESERVE - Limits().refused
    assert house.places.highest == highest
    with pytest.raises(TooManyRequests, match="open files"):
        house.places.take(Peer("127.0.0.1", highest))
    house.places.take(Peer("127.0.0.1", highest - 1))


def test_that_newcomers_are_refused_is_said_once_in_a_while_and_by_whom_places_are_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House(connections=3)
    house.come("127.0.0.1", "127.0.0.2", "127.0.0.1", log_in=True)
    assert (caplog.messages, house.places.crowding.warnings) == ([], [])

    def refused(times: int) -> int:
        for _ in range(times):
            with pytest.raises(TooManyRequests):
                house.come("127.0.0.3")
        return len(caplog.messages)

    assert refused(100) == 1
    [said] = caplog.messages
    assert "there are 3 connections already: close some, or raise limits.connections" in said
    assert said.endswith("; 2 of them are from 127.0.0.1")
    house.seconds += TOLD_EVERY / 2
    assert refused(1) == 1
    house.seconds += TOLD_EVERY / 2
    assert "connections are refused" in house.places.crowding.warnings[0]
    assert refused(2) == 2
    house.seconds += TOLD_EVERY
    assert house.places.crowding.warnings == []
