# SPDX-License-Identifier: MIT
"""Who is not talking to us is told what it has reached, and what to do."""

from __future__ import annotations

import pytest

from operatord.control.strangers import stranger


@pytest.mark.parametrize(
    "begin, sentence",
    [
        (b"GET / HT", "does not speak HTTP: send JSON, a line each"),
        (b"POST /post/ HTTP/1.1\r\n", "does not speak HTTP: send JSON, a line each"),
        (b"{} / HTTP/1.1\r\n", "does not speak HTTP: send JSON, a line each"),
        (b"\x16\x03\x01\x02\x00", "not encrypted: connect without TLS, and send JSON"),
        (b"\xef\xbb\xbf{}", "send UTF-8 without a byte order mark"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "a connection begins with a JSON object on a line of its own"),
        (b"status\n", "a connection begins with a JSON object on a line of its own"),
    ],
)
def test_stranger_is_told_what_to_do(begin: bytes, sentence: str) -> None:
    refusal = stranger(begin)
    assert refusal is not None
    assert sentence in refusal.error.message
    assert refusal.error.message.endswith("; the connection is closed")


@pytest.mark.parametrize("begin", [b"{", b"{}", b'{"method":"system.ping"}\n', b"{'"])
def test_who_begins_with_an_object_is_none(begin: bytes) -> None:
    assert stranger(begin) is None
