# SPDX-License-Identifier: MIT
"""Who is not talking to us is told what it has reached, and what to do."""

from __future__ import annotations

import pytest

from operatord.control.wire.strangers import stranger


@pytest.mark.parametrize(
    "begin, sentence",
    [
        (b"GET / HT", "does not speak HTTP: send JSON, a line each"),
        (b"POST /post/ HTTP/1.1\r\n", "does not speak HTTP: send JSON, a line each"),
        (b"{} / HTTP/1.1\r\n", "does not speak HTTP: send JSON, a line each"),
        (b"\x16\x03\x01\x02\x00", "not encrypted: connect without TLS, and send JSON"),
        (b"\xef\xbb\xbf{}", "send UTF-8 without a byte order mark"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "a connection begins with a JSON object on a line of its own"),
        (
            b'\x1b[A{"method":"system.ping"}\n',
            "; this one begins with a control character, which arrow keys",
        ),
        (b"\0\n", "a connection begins with a JSON object on a line of its own"),
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


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("version", [b"0.9", b"1.0", b"1.1", b"2", b"3"])
@pytest.mark.parametrize("method", [b"{", b"{}", b'{"count":7}'])
def test_request_of_http_is_none_of_ours_though_its_method_is_a_brace(
    method: bytes, version: bytes, end: bytes
) -> None:
    """A4"""
    refusal = stranger(method + b" / HTTP/" + version + end)
    assert refusal is not None
    assert "does not speak HTTP" in refusal.error.message


@pytest.mark.parametrize(
    "begin",
    [
        b'{"owner":"a HTTP/1.1"}\n', b"{ / HTTP/1.1", b'{"count":5}\n{ / HTTP/1.1\n',
        b"{ / HTTP/1.1}\n", b"{ / HTTP/x\n", b"{" + b" " * 90_000 + b"\n HTTP/1.1\n",
    ],
)  # fmt: skip
def test_object_is_ours_whatever_is_in_it(begin: bytes) -> None:
    """A4"""
    assert stranger(begin) is None


def test_batch_is_refused_as_clients_of_json_rpc_read_it() -> None:
    """A4"""
    refusal = stranger(b'[{"method":"system.ping"}]\n')
    assert refusal is not None
    assert (refusal.dialect, refusal.error.code) == ("rpc", -32600)
