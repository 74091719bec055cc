# SPDX-License-Identifier: MIT
"""Lines of the PROXY protocol, version 1, by its text: what is one, and what is none."""

from __future__ import annotations

import pytest

from operatord.daemon.passage import LONGEST, announced

LONG = "ffff:f..f:ffff".replace("f..f", ":".join(["ffff"] * 6))


@pytest.mark.parametrize(
    ("line", "source", "port", "place"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "192.0.2.1", 56324, "198.51.100.2"),
        (b"PROXY TCP4 255.255.255.255 255.0.0.1 65535 65535\r\n", "255.255.255.255", 65535, "255.0.0.1"),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 0 0\r\n", "127.0.0.1", 0, "127.0.0.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 5000\r\n", "2001:db8::1", 4711, "::1"),
        (f"PROXY TCP6 {LONG} {LONG} 65535 65535\r\n".encode(), LONG, 65535, LONG),
    ],
)  # fmt: skip
def test_line_that_is_one(line: bytes, source: str, port: int, place: str) -> None:
    assert len(line) <= LONGEST
    said = announced(line)
    assert (said.source.address, said.source.port, said.place) == (source, port, place)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r\n",
        b"PROXY\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 ::1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 lab-7 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5\xc2\xb2 443\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n",
    ],
)
def test_line_that_is_none(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        announced(line)
