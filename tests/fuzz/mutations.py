# SPDX-License-Identifier: MIT
"""Lines that are nearly requests: known ones, with pieces of JSON and arbitrary bytes put into them."""

from __future__ import annotations

import random

import json_lines

PIECES = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"'", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x00",
    b"\xff", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"null", b"true", b"false", b"NaN", b"-", b"0",
    b"1e999",
    b"1e-9", b"9" * 20, b"-1", b"0.5", b'""', b"{}", b"[]", b"\\ud800", b"\\u0000", b"\\n", b"/*",
    b"*/", b"//", b"#",
    b"--", b'"jsonrpc":"2.0",', b'"id":1,', b'"id":null,', b'"method":', b'"params":', b"[" * 70,
    b'{"a":' * 30,
    b"a" * 300, b"session.", b"system.", b'"probe"', b'"env"', b'"lease"', b'{"ttl":1}', b'"connection"',
    b"GET / HTTP/1.1",
]  # fmt: skip
REQUESTS = [
    b'{"count":5}',
    b'{"count":100000,"plain_stream":false}',
    b'{"jsonrpc":"2.0","id":7,"method":"session.start","params":{"plain_stream":true,"wait":"accepted"}}',
    b'{"jsonrpc":"2.0","method":"session.start","params":{"lease":"connection"}}',
    b'{"method":"session.start","id":"k","params":{"request_key":"k","env":{"probe":{"fps":"5"}}}}',
    b'{"method":"session.plan","params":{"pipeline":"stream","priority":3,"deadline":1.5}}',
    b'{"method":"session.get","params":{"session_id":"EE705B6538693C50"}}',
    b'{"method":"session.stop","params":{"session_id":"EE705B6538693C50","grace":0}}',
    b'{"method":"session.wait","params":{"session_id":"EE705B6538693C50","phase":"ended","timeout":1}}',
    b'{"method":"session.logs","params":{"session_id":"EE705B6538693C50","tail":5}}',
    b'{"method":"session.list","params":{"phase":"ended","limit":2}}',
    b'{"method":"probe.list"}',
    b'{"method":"probe.remove","params":{"name":"a"}}',
    b'{"method":"pipeline.list"}',
    b'{"method":"auth.login","params":{"token":"a"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe","params":{"types":["engine.lost"]}}',
    b'{"method":"events.unsubscribe","params":{"subscription":1}}',
    b'{"jsonrpc":"2.0","method":"request.cancel","params":{"id":7}}',
    b'{"method":"system.drain","params":{"timeout":1}}',
    b'{"method":"system.undrain"}',
    b'{"method":"system.status"}',
    b'{"method":"system.reload"}',
    b'{"jsonrpc":"2.0","id":null,"method":"system.ping"}',
]
SHORT = 400
"""Bytes of a row of the table that is worth being changed."""
KNOWN = [*REQUESTS, *(line.text for line in json_lines.lines() if len(line.text) <= SHORT)]


class Mutations:
    """Makes lines, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def lines(self, count: int) -> list[bytes]:
        """Return so many lines."""
        return [self._line() for _ in range(count)]

    def cuts(self, count: int, end: int) -> list[int]:
        """Return up to ``count`` places, in order, where what is sent is cut."""
        return sorted(self._random.randrange(end) for _ in range(self._random.randrange(count + 1)))

    def _line(self) -> bytes:
        pick = self._random
        line = pick.choice(REQUESTS if pick.random() < 0.5 else KNOWN)
        for _ in range(pick.choice((0, 1, 1, 1, 2, 3, 8))):
            line = self._changed(line)
        return line

    def _changed(self, line: bytes) -> bytes:
        pick = self._random
        at = pick.randrange(len(line) + 1)
        to = min(len(line), at + pick.choice((0, 0, 1, 1, 2, 5, 20)))
        chance = pick.random()
        if chance < 0.6:
            piece = pick.choice(PIECES)
        elif chance < 0.8:
            piece = pick.randbytes(pick.randrange(4))
        else:
            piece = line[at : at + pick.randrange(40)]
        return line[:at] + piece + line[to:]
