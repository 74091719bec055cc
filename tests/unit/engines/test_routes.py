# SPDX-License-Identifier: MIT
"""The kernel's table of routes, read as it is written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operatord.machine.routes import Route, parse_routes

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
TABLE = HEAD + "\n".join(
    [
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
        "tun0\t00000000\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0",
        "tun0\t00000080\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0",
        "tun1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0",
        "br-1\t1000D50A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0",
        "*\t0000000B\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0",
        "down\t0000000C\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0",
        "short\t0000000D",
        "odd\tXYZ\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0",
        "large\t0D000000000D\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0",
        "",
    ]
)


def test_routes_are_those_that_lead_somewhere() -> None:
    """F3: with the device that each is reached by; lines of another shape are none."""
    assert parse_routes(TABLE) == [
        Route("0.0.0.0/0", "eth0"),
        Route("0.0.0.0/1", "tun0"),
        Route("128.0.0.0/1", "tun0"),
        Route("10.0.0.0/8", "tun1"),
        Route("10.213.0.16/28", "br-1"),
    ]


@given(st.text("0123456789ABCDEFabcxyz \t\n-", max_size=200))
def test_no_table_is_too_odd(text: str) -> None:
    """F3"""
    parse_routes(HEAD + text)
