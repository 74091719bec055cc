# SPDX-License-Identifier: MIT
from __future__ import annotations

import ipaddress
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.core.subnets import SubnetPool, SubnetsExhausted

RANGE = ipaddress.ip_network("10.213.0.0/24")
NETS = st.tuples(
    st.integers(int(RANGE[0]) - 512, int(RANGE[-1]) + 512), st.integers(20, 32)
).map(lambda pair: str(ipaddress.ip_network(pair, strict=False)))  # fmt: skip


@given(st.lists(st.booleans(), max_size=60), st.lists(NETS, max_size=5))
def test_what_is_held_never_overlaps(takes: list[bool], foreign: list[str]) -> None:
    pool, held = SubnetPool(str(RANGE)), []
    for take in takes:
        if take:
            try:
                held.append(pool.take(foreign))
            except SubnetsExhausted:
                continue
        elif held:
            pool.give_back(held.pop(0))
        assert pool.held == len(held)
    nets = [ipaddress.ip_network(subnet) for subnet in held]
    assert not any(a.overlaps(b) for a, b in combinations(nets, 2))
    others = [ipaddress.ip_network(net) for net in foreign]
    assert not any(net.overlaps(other) for net in nets for other in others)
    assert all(net.prefixlen == 28 and net.subnet_of(RANGE) for net in nets)


def test_a_range_holds_what_its_size_says_and_then_is_exhausted() -> None:
    pool = SubnetPool("10.213.0.0/24")
    assert pool.capacity == 16
    taken = {pool.take() for _ in range(16)}
    assert len(taken) == 16
    with pytest.raises(SubnetsExhausted, match=r"10\.213\.0\.0/24"):
        pool.take()
    pool.give_back("10.213.0.32/28")
    assert pool.take() == "10.213.0.32/28"


def test_a_subnet_just_freed_rests() -> None:
    pool = SubnetPool("10.213.0.0/24")
    first = pool.take()
    pool.give_back(first)
    assert pool.take() != first


def test_giving_back_is_idempotent() -> None:
    pool = SubnetPool("10.213.0.0/24")
    subnet = pool.take()
    pool.give_back(subnet)
    pool.give_back(subnet)
    assert pool.held == 0


def test_default_routes_and_ipv6_forbid_nothing() -> None:
    assert SubnetPool("10.213.0.0/28").take(["0.0.0.0/0", "fd00::/8"]) == "10.213.0.0/28"


def test_foreign_network_with_host_bits_counts() -> None:
    pool = SubnetPool("10.213.0.0/27")
    assert pool.take(["10.213.0.5/28"]) == "10.213.0.16/28"


@pytest.mark.parametrize(
    "routes",
    [["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["8.0.0.0/7"], ["8.0.0.0/5", "10.0.0.0/7"]],
)
def test_default_route_in_parts_forbids_nothing(routes: list[str]) -> None:
    """F3: VPNs for all traffic write it in halves, or smaller."""
    pool = SubnetPool("10.213.0.0/16")
    assert pool.usable(routes) == pool.capacity
    assert pool.obstacle(dict.fromkeys(routes, "a route")) is None
    pool.take(routes)


def test_who_leaves_nothing_over_is_named_widest_first() -> None:
    """F3"""
    pool = SubnetPool("10.213.0.0/27")
    assert pool.obstacle({"10.213.0.0/28": "the first half"}) is None
    halves = {"10.213.0.0/28": "the first half", "10.213.0.16/29": "a quarter"}
    assert pool.obstacle(halves | {"10.214.0.0/16": "elsewhere"}) is not None
    obstacle = pool.obstacle(halves | {"10.0.0.0/8": "the route 10.0.0.0/8 by tun0"})
    assert obstacle is not None
    assert "the route 10.0.0.0/8 by tun0 and the first half and a quarter;" in obstacle
    assert "elsewhere" not in obstacle


def test_sessions_that_hold_all_are_nobody_in_the_way() -> None:
    """F3: then one of them ends, and there is room."""
    pool = SubnetPool("10.213.0.0/27")
    held = {pool.take(): "a session's own", pool.take(): "another's"}
    assert pool.obstacle(held) is None
    assert pool.others([*held, "10.213.0.0/24"]) == ["10.213.0.0/24"]
    pool.give_back(next(iter(held)))
    assert pool.obstacle({"10.213.0.0/8": "a route"}) is not None
