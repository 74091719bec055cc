# SPDX-License-Identifier: MIT
"""Lines that are no requests: one error each, nothing executed, and the daemon goes on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest
from daemon_lab import Lab, Wire

START = '{"method":"session.start","params":%s}'
PARSE, REQUEST, METHOD, PARAMS = -32700, -32600, -32601, -32602

NOT_JSON = {
    "invalid UTF-8": b'{"method":"session.start","params":{"owner":"\xff\xfe"}}',
    "invalid UTF-8 in a key": b'{"method":"session.start","\xc3":1}',
    "a byte order mark": b'\xef\xbb\xbf{"method":"session.start"}',
    "NaN": b'{"method":"session.start","params":{"deadline":NaN}}',
    "Infinity": b'{"method":"session.start","params":{"deadline":-Infinity}}',
    "nested arrays": b'{"count":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "nested objects": b'{"env":' * 5000 + b"1" + b"}" * 5000,
    "single quotes": b"{'count': 5}",
    "a trailing comma": b'{"count":5,}',
    "two objects": b'{"count":5}{"count":5}',
    "half an object": b'{"count":',
    "a control character in a string": b'{"owner":"a\x01b"}',
    "a NUL": b'{"count":5}\x00',
    "a lone word": b"null1",
}
NO_REQUEST = {
    "a number": b"5",
    "a string": b'"session.start"',
    "null": b"null",
    "an empty batch": b"[]",
    "a batch": b'[{"method":"session.start"}]',
    "a method that is no string": b'{"method":5}',
    "a null method": b'{"method":null}',
    "another version": b'{"jsonrpc":"1.0","id":1,"method":"session.start"}',
    "no method": b'{"jsonrpc":"2.0","id":1}',
    "an unknown member": b'{"method":"session.start","parms":{}}',
    "an id that is an object": b'{"method":"session.start","id":{}}',
    "an id that is a fraction": b'{"method":"session.start","id":1.5}',
    "a duplicate method": b'{"method":"system.ping","method":"session.start"}',
    "a duplicate param": b'{"method":"session.start","params":{"count":5,"count":6}}',
    "a duplicate in a seed line": b'{"count":5,"count":6}',
    "a duplicate in disguise": b'{"count":5,"c\\u006funt":6}',
}
BAD_PARAMS: dict[str, tuple[str, str]] = {
    "count 0": ('{"count":0}', "params.count"),
    "count -1": ('{"count":-1}', "params.count"),
    "a count beyond 2^31-1": ('{"count":2147483648}', "params.count"),
    "a count in a string": ('{"count":"3"}', "params.count"),
    "a broken count": ('{"count":1.5}', "params.count"),
    "count true": ('{"count":true}', "params.count"),
    "count null": ('{"count":null}', "params.count"),
    "plain_stream in a string": ('{"plain_stream":"true"}', "params.plain_stream"),
    "plain_stream 1": ('{"plain_stream":1}', "params.plain_stream"),
    "an unknown member": ('{"cuont":3}', "params.cuont"),
    "both choices of a pipeline": (
        '{"plain_stream":true,"pipeline":"stream"}', "params.pipeline"),
    "a lease of nothing": ('{"lease":{"ttl":0}}', "params.lease.ttl"),
    "a lease of another kind": ('{"lease":"forever"}', "params.lease"),
    "a priority out of range": ('{"priority":11}', "params.priority"),
    "a deadline of 0": ('{"deadline":0}', "params.deadline"),
    "another format": ('{"format":"mp4"}', "params.format"),
    "env for no stage": ('{"env":{"nobody":{}}}', "params.env.nobody"),
    "env that is not allowed": (
        '{"env":{"probe":{"LD_PRELOAD":"/x.so"}}}', "params.env.probe.LD_PRELOAD"),
    "env of ours": ('{"env":{"probe":{"count":"9"}}}', "params.env.probe.count"),
    "env with a line break": ('{"env":{"probe":{"seed":"1\\nA=B"}}}', "params.env.probe.seed"),
    "env with an object": ('{"env":{"probe":{"seed":{}}}}', "params.env.probe.seed"),
}  # fmt: skip


async def nothing_happened(wire: Wire) -> None:
    """Check on the same connection that it works and that there is no session."""
    assert (await wire.ask('{"method":"system.ping","id":99}'))["id"] == 99
    assert (await wire.ask('{"method":"session.list"}'))["result"] == {"sessions": []}


async def opened(wire: Wire) -> None:
    """Get the rule about a connection's first byte out of play."""
    await wire.ask('{"method":"system.ping"}')


@pytest.mark.parametrize("line", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json_is_a_parse_error(wire: Wire, line: bytes) -> None:
    await opened(wire)
    reply = await wire.ask(line)
    assert reply["error"]["code"] in (PARSE, REQUEST)
    assert reply["error"]["data"]["type"] == "parse_error"
    await nothing_happened(wire)


@pytest.mark.parametrize("line", NO_REQUEST.values(), ids=NO_REQUEST)
async def test_json_that_is_no_request_is_refused(wire: Wire, line: bytes) -> None:
    await opened(wire)
    assert (await wire.ask(line))["error"]["code"] == REQUEST
    await nothing_happened(wire)


@pytest.mark.parametrize(("params", "path"), BAD_PARAMS.values(), ids=BAD_PARAMS)
async def test_bad_params_are_refused_with_their_path(wire: Wire, params: str, path: str) -> None:
    error = (await wire.ask(START % params))["error"]
    assert (error["code"], error["data"]["path"]) == (PARAMS, path)
    await nothing_happened(wire)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e400", "1e999999999"])
async def test_huge_numbers_are_refused(wire: Wire, number: str) -> None:
    for line in ('{"count":%s}', '{"method":"system.ping","id":%s}', START % '{"deadline":%s}'):
        error = (await wire.ask(line % number))["error"]
        assert error["code"] in (PARSE, REQUEST, PARAMS)
    await nothing_happened(wire)


@pytest.mark.parametrize("params", ["[]", "[5]", "5", '"count"', "null"])
async def test_params_are_by_name(wire: Wire, params: str) -> None:
    if params == "[]":  # nothing by position is nothing by name
        assert "result" in await wire.ask('{"method":"session.list","params":[]}')
    else:
        error = (await wire.ask(START % params))["error"]
        assert error["code"] in (REQUEST, PARAMS)
    await nothing_happened(wire)


async def test_unknown_method_and_session(wire: Wire) -> None:
    assert (await wire.refusal("session.begin")).code == METHOD
    assert (await wire.refusal("session.get", session_id="0" * 16)).type == "not_found"
    assert (await wire.refusal("session.get", session_id="nonsense")).code == PARAMS
    assert (await wire.refusal("session.get")).code == PARAMS
    assert (await wire.refusal("session.start", pipeline="segmentd")).type == "not_found"
    assert (await wire.refusal("session.start", probe="nobody")).type == "not_found"
    await nothing_happened(wire)


async def test_errors_of_json_rpc_keep_the_id(wire: Wire) -> None:
    reply = await wire.ask('{"jsonrpc":"2.0","id":"k","method":"session.start","params":{"a":1}}')
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", "k")
    reply = await wire.ask('{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":NaN}}')
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", None)


async def test_oversized_line_closes_without_running_its_tail(lab: Lab, wire: Wire) -> None:
    tail = b'{"method":"system.drain"}\n{"count":5}\n'
    wire.writer.write(b'{"owner":"' + b"x" * 10 * 1024**2 + b'"}\n' + tail)
    reply = await wire.line()
    assert reply["error"]["code"] in (PARSE, REQUEST)
    assert "65536" in reply["error"]["message"]
    assert await wire.at_end()
    other = await lab.wire()
    assert (await other.call("system.status"))["draining"] is False
    await nothing_happened(other)


async def test_line_of_the_limit_is_accepted_and_one_byte_more_is_not(lab: Lab) -> None:
    for size, accepted in ((64 * 1024, True), (64 * 1024 + 1, False)):
        wire = await lab.wire()
        line = b'{"method":"system.ping"}'
        reply = await wire.ask(line + b" " * (size - len(line)))
        assert ("result" in reply) is accepted


async def test_requests_before_an_oversized_line_are_answered(lab: Lab, wire: Wire) -> None:
    wire.writer.write(b'{"method":"system.ping","id":1}\n' + b"{" * 70_000)
    assert (await wire.line())["id"] == 1
    assert (await wire.line())["error"]["code"] == PARSE
    assert await wire.at_end()


BROWSER = b"""POST / HTTP/1.1\r\nHost: 127.0.0.1:7733\r\nContent-Type: text/plain\r\n\r
{"count": 5}\n{"method":"system.drain"}\n"""
STRANGERS: dict[str, bytes] = {
    "POST": BROWSER,
    "GET": b"GET /?q= HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "OPTIONS": b"OPTIONS * HTTP/1.1\r\n\r\n" + b'{"count": 5}\n',
    "an SSH client": b"SSH-2.0-OpenSSH_9.2\r\n",
    "blank lines first": b"\r\n\r\n" + BROWSER,
}


STRANGERS |= {
    f"a request of the method {method!r}": method + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    b'{"count": 7}\n{"method":"system.drain"}\n'
    for method in (b"track", b"true", b"false", b"null", b"nop", b"1", b"0", b"-x", b'"str"', b"[1]", b"[]",
                   b"!", b"~", b"\x00", b"\x7f", b"\x80", b"\xe2\x82\xac", b"\xff", b"\x0b", b"\xa0", b"}",
                   b"{", b"{}x", b'{"count":7}')
} | {
    "HTTP/2": b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{"count": 7}\n',
    "the PROXY protocol": b'PROXY TCP4 127.0.0.1 127.0.0.1 1 7733\r\n{"count": 7}\n',
    "the PROXY protocol, binary": b'\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c{"count": 7}\n',
    "a Redis client": b'*1\r\n$4\r\nPING\r\n{"count": 7}\n',
    "SMTP": b'EHLO localhost\r\n{"count": 7}\n',
    "a number alone": b'7\n{"count": 7}\n',
    "a string alone": b'"system.drain"\n{"count": 7}\n',
    "true alone": b'true\n{"count": 7}\n',
    "a batch": b'[{"method":"system.drain"}]\n{"count": 7}\n',
}  # fmt: skip


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
async def test_strangers_get_one_error_and_the_door(lab: Lab, wire: Wire, said: bytes) -> None:
    """A4: a connection that does not begin with an object is closed, and nothing of it is executed."""
    wire.writer.write(said)
    assert (await wire.line())["error"]["code"] in (PARSE, REQUEST)
    assert await wire.at_end()
    other = await lab.wire()
    assert (await other.call("system.status"))["draining"] is False
    await nothing_happened(other)


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
async def test_strangers_that_send_byte_by_byte_get_the_door_as_well(
    lab: Lab, wire: Wire, said: bytes
) -> None:
    """A4: however the bytes are cut, what follows the first line is not executed."""
    raw = wire.writer.transport.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in said[:40]:
        wire.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    wire.writer.write(said[40:])
    assert (await wire.line())["error"]["code"] in (PARSE, REQUEST)
    assert await wire.at_end()
    await nothing_happened(await lab.wire())


async def test_slip_in_a_first_line_that_is_meant_as_an_object_is_forgiven(wire: Wire) -> None:
    """A4: whoever types at netcat gets an error and goes on."""
    for slip in ("{count: 5}", '{"count": 5', "{}}", "{"):
        assert (await wire.ask(slip))["error"]["code"] == PARSE
    await nothing_happened(wire)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "line by line"])
async def test_lines_of_a_text_over_several_lines_are_not_carried_out(
    wire: Wire, at_once: bool
) -> None:
    """A4: whoever pastes what was printed for reading starts nothing, and may go on afterwards."""
    await opened(wire)
    lines = [
        "{", '"session":', '{"count":5}', ",",
        '"others": [', "{}", "{},", '{"method":"system.drain"}', "]", "}",
    ]  # fmt: skip
    if at_once:
        wire.send(*lines)
        replies = [await wire.line() for _ in lines]
    else:
        replies = [await wire.ask(line) for line in lines]
    assert {reply["error"]["code"] for reply in replies} == {PARSE}
    assert "whole in one line" in replies[2]["error"]["message"]
    assert (await wire.call("system.status"))["draining"] is False
    await nothing_happened(wire)


async def test_request_in_a_comment_over_several_lines_is_not_carried_out(wire: Wire) -> None:
    """A4: whoever pastes it is told what ends the comment, and goes on after that."""
    await opened(wire)
    assert (await wire.ask('{"count":5, /* before:'))["error"]["code"] == PARSE
    for _ in range(2):
        assert "send */" in (await wire.ask('{"method":"system.drain"}'))["error"]["message"]
    assert (await wire.ask('*/ "owner":"a"}'))["error"]["code"] == PARSE
    assert (await wire.call("system.status"))["draining"] is False
    await nothing_happened(wire)


ENCODED = {
    "a byte order mark": ("utf-8-sig", "UTF-8 with a byte order mark"),
    "UTF-16 with a mark": ("utf-16", "UTF-16"),
    "UTF-16LE": ("utf-16-le", "UTF-16"),
    "UTF-16BE": ("utf-16-be", "UTF-16"),
    "UTF-32": ("utf-32", "UTF-32"),
    "UTF-32LE": ("utf-32-le", "UTF-32"),
    "UTF-32BE": ("utf-32-be", "UTF-32"),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize(("encoding", "name"), ENCODED.values(), ids=ENCODED)
async def test_other_encodings_are_told_by_name_with_what_to_send(
    lab: Lab, wire: Wire, encoding: str, name: str, first: bool
) -> None:
    """F18: what PowerShell writes by default is told as what it is, and how to have it write UTF-8."""
    if not first:
        await opened(wire)
    wire.writer.write(('{"count":5}\r\n' * (2 if first else 1)).encode(encoding))
    error = (await wire.line())["error"]
    assert error["code"] == PARSE
    assert f"this is {name}: send UTF-8 without a byte order mark" in error["message"]
    assert "PowerShell" in error["message"]
    await nothing_happened(await lab.wire())


async def test_browser_that_sends_byte_by_byte_gets_the_door_as_well(lab: Lab, wire: Wire) -> None:
    wire.writer.write(b"P")
    assert "error" in await wire.line()
    wire.writer.write(BROWSER[1:])
    assert await wire.at_end()
    await nothing_happened(await lab.wire())


async def test_tls_client_is_turned_away(lab: Lab, wire: Wire) -> None:
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    side: Any = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    wire.writer.write(hello.read())
    assert "connect without TLS" in (await wire.line())["error"]["message"]
    assert await wire.at_end()


async def test_no_error_shows_a_traceback_or_a_path(wire: Wire) -> None:
    await opened(wire)
    for line in (*NOT_JSON.values(), *NO_REQUEST.values()):
        text = str(await wire.ask(line))
        assert "Traceback" not in text
        assert "/work/" not in text
        assert ".py" not in text
        assert "msgspec" not in text
