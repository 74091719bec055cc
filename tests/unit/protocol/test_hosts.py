# SPDX-License-Identifier: MIT
"""What can be connected to is told from what cannot, before anybody tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord_protocol.hosts import host_problem

HOSTS = [
    "a", "localhost", "scope-3.ward.example", "scope.local.", "operatord_EE70_probe", "_stream.example",
    "3com.example", "xn--bcher-kva.example", "1.2.3.x4", "a" * 63, ".".join(["a" * 49] * 5), "127.0.0.1",
    "192.0.2.7", "::1", "2001:db8::7", "::ffff:192.0.2.7", "fe80::1", "fe80::1%eth0", "fe80::1%3",
]  # fmt: skip
NO_HOSTS = [
    "", ".", "..", "a..b", ".a", "a..", "a.b..", "a" * 64, f"b.{'a' * 64}.c",
    ".".join(["a" * 49] * 5) + ".abcd", "-a", "a-", "a.-b.c", "a b", "a\n", "a/b", "a:b", "user@a",
    "b\u00fccher.example", "\ud800", "a\x00", "[::1]", "::1]", "[a]", "1", "127.1", "0x7f.1", "0x7f000001",
    "2130706433", "1.2.3", "1.2.3.4.5", "1.2.3.4.", "256.0.0.1", "010.0.0.1", "1.2.3.0x4", "0.0.0.0", "::",
    "224.0.0.1", "ff02::1", "255.255.255.255", "::1%eth0", "fe80::1%", "fe80::1%a b",
    "fe80::1%" + "e" * 16, "1:2", "::1:7733:", "12345::", ":", "%",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_host_that_can_be_connected_to(host: str) -> None:
    """A3"""
    assert host_problem(host) is None


@pytest.mark.parametrize("host", NO_HOSTS, ids=lambda host: ascii(host)[:20])
def test_host_that_is_none_is_told_in_a_sentence(host: str) -> None:
    """A3"""
    problem = host_problem(host)
    assert problem is not None
    assert problem.isprintable()
    assert len(problem) < 120


@given(st.text("aA0-_.%:[]x", max_size=70) | st.text(max_size=70))
def test_no_name_that_passes_breaks_who_looks_it_up(host: str) -> None:
    """A3: law: what passes can be handed to the system, whatever that makes of it."""
    if host_problem(host) is None:
        host.encode("idna")
