# SPDX-License-Identifier: MIT
"""Requests of HTTP: what they start and are answered, and what no client of ours would send."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import PATIENCE, Json, Wire, until
from gateway_lab import JSON, Gatewayed, answer, gatewayed

from operatord.gateway.process.patience import MOST
from operatord_protocol.methods import METHODS

SAMPLE = """
import requests

url = "http://127.0.0.1:5000/post/"

payload="{\\"count\\": 100000,\\"plain_stream\\":false}\\n"
headers = {
  'Content-Type': 'application/json'
}

response = requests.request("POST", url, headers=headers, data=payload)

print(response.text)
"""
"""The original system's description shows this as its sample call."""


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Gatewayed]:
    async with gatewayed(tmp_path / "state") as running:
        yield running


async def test_the_originals_sample_call_word_for_word(daemon: Gatewayed) -> None:
    program = SAMPLE.replace("127.0.0.1:5000", f"127.0.0.1:{daemon.http.address[1]}")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        await asyncio.to_thread(exec, program, {})
    said = json.loads(out.getvalue())
    assert re.fullmatch("[0-9A-F]{16}", said["session_id"])
    assert said["network"] == f"network_{said['session_id'][:5]}"
    assert {"probe", "stream", "segmentation"} <= said.keys()
    assert said["location"]["host"] == "127.0.0.1"
    assert said["count"] == 100_000


async def test_a_start_is_answered_as_the_seed_line_on_the_socket(daemon: Gatewayed) -> None:
    wire = await daemon.lab.wire()
    there = await wire.ask({"count": 5, "plain_stream": True})
    here = await daemon.http.post("/post/", {"count": 5, "plain_stream": True})
    assert (here.status, here.headers["content-type"]) == (200, "application/json")
    assert here.json.keys() == there.keys()
    assert here.json["phase"] == "running"


NO_STARTS = [
        (b"{'count': 5}", 400, "parse_error", "the body is not JSON"),
        (b'{"count": 5}{"count": 6}', 400, "parse_error", "the body is not JSON"),
        (b'{"count": 5},"id":7', 400, "parse_error", "the body is not JSON"),
        (b'{"count": 5, "count": 6}', 400, "invalid_request", "'count' is given twice"),
        (b'{"count": "5"}', 400, "invalid_params", "params.count"),
        (b'{"method": "session.stop"}', 400, "invalid_request", "POST /api/v1/METHOD"),
        (b'{"metod": "session.stop"}', 400, "invalid_request", "did you mean 'method'?"),
        (b'{"lease": "connection"}', 400, "invalid_params", "GET /api/v1/socket"),
        (b"[]", 400, "invalid_params", "an object of params"),
        (b"[" * 100_000, 413, "invalid_request", "65408 bytes at most"),
        (b"[" * 60_000, 400, "parse_error", "this line is nested too deeply: 64 levels are the most"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, 400, "parse_error", "this line is nested too deeply"),
    ]  # fmt: skip


async def test_what_starts_nothing(daemon: Gatewayed) -> None:
    for body, status, type, text in NO_STARTS:
        said = await daemon.http.post("/post/", body)
        assert (said.status, said.error["type"]) == (status, type), body[:80]
        assert text in said.error["message"]
        assert daemon.lab.fake.empty


async def test_a_body_over_several_lines_is_one_request(daemon: Gatewayed) -> None:
    said = await daemon.http.post(
        "/post/", b'\r\n{\n  "count":\r\n 7,\n "plain_stream": true\n}\n\n'
    )
    assert (said.status, said.json["count"]) == (200, 7)


FORMS = ["", "text/plain", "application/x-www-form-urlencoded", "text/json"]


async def test_a_form_of_a_page_elsewhere_starts_nothing(daemon: Gatewayed) -> None:
    for type in FORMS:
        said = await daemon.http.post("/post/", {"count": 5}, headers={"Content-Type": type})
        assert said.status == 415, type
        assert "Content-Type: application/json" in said.error["message"]
        assert daemon.lab.fake.empty


HOSTS = [
    ("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1", 200), ("127.9.9.9:80", 200), ("[::1]:5000", 200),
    ("lab.example", 200), ("LAB.example:443", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403),
    ("localhost.evil.example", 403), ("user@localhost", 400), ("localhost/", 400),
    ("10.0.0.1", 403), ("", 400), ("::::", 400),
    ("0x7f000001", 403), ("127.1", 403), ("lab.example.", 403),
]  # fmt: skip


async def test_only_names_of_the_gateway_are_answered(tmp_path: Path) -> None:
    """A name of somebody else's that leads here (DNS rebinding) is in the header Host."""
    async with gatewayed(tmp_path / "state", http={"hosts": ["lab.example"]}) as daemon:
        for host, status in HOSTS:
            said = await daemon.http.post("/api/v1/system.ping", headers={"Host": host})
            assert said.status == status, host
        doubled = daemon.http.text("GET", "/healthz").replace(
            b"\r\n", b"\r\nHost: localhost\r\n", 1
        )
        assert (await sent(daemon, doubled)).status == 400


async def test_what_a_request_expects_is_met_or_refused_by_the_gateway_itself(
    daemon: Gatewayed,
) -> None:
    """In JSON, and only if the request may be made at all."""
    asks = daemon.http.text("POST", "/post/", {"count": 5}, headers={"Expect": "100-continue"})
    assert (await sent(daemon, asks)).status == 100
    other = {"Expect": "tea"}
    said = await daemon.http.post("/api/v1/system.ping", headers=other)
    assert (said.status, said.error["type"]) == (417, "invalid_request")
    assert said.error["message"] == "a request can expect 100-continue and nothing else"
    foreign = await daemon.http.post(
        "/api/v1/system.ping", headers={**other, "Host": "evil.example"}
    )
    assert (foreign.status, foreign.error["type"]) == (403, "forbidden")


ORIGINS = ["http://evil.example", "null", "http://127.0.0.1", "file://", "http://127.0.0.1:1"]


async def test_pages_of_another_origin_are_refused(daemon: Gatewayed) -> None:
    for origin in ORIGINS:
        said = await daemon.http.post("/post/", {"count": 5}, headers={"Origin": origin})
        assert (said.status, said.error["type"]) == (403, "forbidden"), origin
        upgrade = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        }  # fmt: skip
        opened = await daemon.http.ask(
            "GET", "/api/v1/socket", headers={**upgrade, "Origin": origin}
        )
        assert opened.status == 403
        assert daemon.lab.fake.empty


async def test_the_page_of_the_gateway_itself_may_ask(daemon: Gatewayed) -> None:
    host, port = daemon.http.address
    said = await daemon.http.post(
        "/api/v1/system.ping", headers={"Origin": f"http://{host}:{port}"}
    )
    assert said.status == 200


async def test_no_answer_lets_other_pages_in(daemon: Gatewayed) -> None:
    preflight = await daemon.http.ask(
        "OPTIONS", "/post/",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )  # fmt: skip
    assert preflight.status in (403, 405)
    page = await daemon.http.get("/")
    for said in (preflight, page, await daemon.http.post("/post/", b"?")):
        assert not [name for name in said.headers if name.startswith("access-control")]
        assert "set-cookie" not in said.headers
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in said.headers["content-security-policy"]
        assert said.headers["server"] == "operatord"
    assert page.status == 200


NOT_THERE = [
    ("GET", "/post/", 405, "with POST, not with GET"),
    ("DELETE", "/post/", 405, "with POST"),
    ("GET", "/api/v1/session.start", 405, "with POST"),
    ("POST", "/api/v1/session.lst", 404, "did you mean 'session.list'?"),
    ("POST", "/api/v1/stop", 404, "did you mean 'session.stop'?"),
    ("POST", "/api/v1/events.subscribe", 400, "GET /api/v1/socket"),
    ("POST", "/api/v1/request.cancel", 400, "GET /api/v1/socket"),
    ("GET", "/healtz", 404, "did you mean '/healthz'?"),
    ("POST", "/post", 404, "/post/"),
    ("GET", "/static/../app.py", 404, ""),
    ("GET", "/static/%2e%2e%2fapp.py", 404, ""),
]


async def test_what_is_not_there(daemon: Gatewayed) -> None:
    for method, path, status, text in NOT_THERE:
        said = await daemon.http.ask(method, path, headers=JSON)
        assert said.status == status, path
        assert text in said.error["message"]
        if status == 405:
            assert "POST" in said.headers["allow"]


async def test_every_method_has_a_place(daemon: Gatewayed) -> None:
    for method in METHODS:
        said = await daemon.http.post(f"/api/v1/{method}", {"no such": 1})
        assert said.status == 400, method
    assert (await daemon.http.call("session.list")) == {"sessions": []}
    started = await daemon.http.call("session.start", plain_stream=True)
    params: Json = {"session_id": started["session_id"]}
    assert (await daemon.http.call("session.get", **params))["phase"] == "running"
    assert (await daemon.http.call("session.stop", **params))["outcome"] == "stopped"
    gone = await daemon.http.post("/api/v1/session.get", {"session_id": "0" * 16})
    assert (gone.status, gone.error["type"]) == (404, "not_found")


async def sent(daemon: Gatewayed, raw: bytes) -> Any:
    reader, writer = await daemon.http.connect()
    writer.write(raw)
    try:
        return await answer(reader)
    finally:
        writer.close()


NO_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /post/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /post/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
]


async def test_what_is_no_http_is_answered_and_ended(daemon: Gatewayed) -> None:
    for raw in NO_HTTP:
        said = await sent(daemon, raw)
        assert said.status == (431 if len(raw) > 10_000 else 400), raw[:80]
        assert "application/json" in said.headers["content-type"]
        assert said.headers["server"] == "operatord"
        assert (await daemon.http.get("/healthz")).status == 200


async def test_more_than_a_body_may_be_is_refused_before_it_has_come(daemon: Gatewayed) -> None:
    reader, writer = await daemon.http.connect()
    head = daemon.http.text("POST", "/post/", b"", {"Content-Length": "1000000000"})
    writer.write(head)
    said = await answer(reader)
    writer.close()
    assert said.status == 413
    chunked = daemon.http.text(
        "POST", "/post/", b"", {"Content-Length": "", "Transfer-Encoding": "chunked"}
    )
    reader, writer = await daemon.http.connect()
    writer.write(chunked + (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 3)
    assert (await answer(reader)).status == 413
    writer.close()


async def being_started(
    daemon: Gatewayed,
) -> tuple[Wire, asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a session that never comes up; return who hears of events, and the connection that asked."""
    daemon.lab.fake.mute = True
    wire = await daemon.lab.wire()
    await wire.call("events.subscribe")
    reader, writer = await daemon.http.connect()
    writer.write(daemon.http.text("POST", "/post/", {"count": 5}))
    await wire.event("session.starting")
    return wire, reader, writer


async def test_a_client_that_goes_takes_its_start_along(daemon: Gatewayed) -> None:
    wire, _reader, writer = await being_started(daemon)
    writer.close()
    event = await wire.event("session.ended")
    assert event["outcome"] == "stopped"
    await until(lambda: daemon.lab.fake.empty, "all of it is gone")


async def half_closed(daemon: Gatewayed, raw: bytes) -> bytes:
    """Send that and nothing more, as ``nc -N`` does; return all that comes until the gateway closes."""
    reader, writer = await daemon.http.connect()
    writer.write(raw)
    writer.write_eof()
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()


LINES = [
    (b'{"count": 200}\n', "lines of JSON go to the daemon's control port, which is 7733 unless"),
    (b"hello\n", "this is not an HTTP/1.1 request"),
]


async def test_who_ends_its_input_is_answered(daemon: Gatewayed) -> None:
    asks = daemon.http.text("GET", "/healthz", headers={"Connection": ""})
    said = await half_closed(daemon, asks + asks)
    assert said.count(b"HTTP/1.1 200 OK") == said.count(b'{"healthy": true}') == 2
    listed = daemon.http.text("POST", "/api/v1/session.list", {}, {"Connection": ""})
    assert b'{"sessions":[]}' in await half_closed(daemon, listed)
    for raw, why in LINES:
        said = await half_closed(daemon, raw)
        assert said.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"].count(why) == 1


@pytest.mark.parametrize("path", ["/post/", "/api/v1/session.start"])
async def test_who_ends_its_input_starts_nothing_and_is_told_so(
    daemon: Gatewayed, path: str
) -> None:
    """It may have left, and nobody would know of the session."""
    said = await half_closed(daemon, daemon.http.text("POST", path, {"count": 5}))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"keep the connection open until the answer has come" in said
    await until(lambda: daemon.lab.fake.empty, "all of it is gone")


async def test_a_start_whose_client_ends_its_input_ends_and_it_is_told_so(
    daemon: Gatewayed,
) -> None:
    wire, reader, writer = await being_started(daemon)
    writer.write_eof()
    said = await answer(reader)
    assert (said.status, said.error["type"]) == (400, "invalid_request")
    assert (await wire.event("session.ended"))["outcome"] == "stopped"
    await until(lambda: daemon.lab.fake.empty, "all of it is gone")
    writer.close()


async def test_health_and_readiness(daemon: Gatewayed) -> None:
    assert (await daemon.http.get("/healthz")).json == {"healthy": True}
    assert (await daemon.http.get("/readyz")).json == {"ready": True}


async def test_the_page_is_kept_by_browsers_until_it_is_another(daemon: Gatewayed) -> None:
    page = await daemon.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    again = await daemon.http.get("/", **{"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


async def test_slow_heads_end_and_hold_up_nobody(daemon: Gatewayed) -> None:
    """The gateway's time for a head is ten seconds: this one takes longer, however often a byte comes."""
    reader, writer = await daemon.http.connect()
    begun = time.monotonic()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")

    async def drip() -> None:
        while True:
            writer.write(b"X-Slow: 1\r\n")
            await asyncio.sleep(0.5)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(30):
        line = await reader.readline()
    dripping.cancel()
    writer.close()
    assert b"408" in line
    assert time.monotonic() - begun < 20
    assert (await daemon.http.get("/healthz")).status == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\n",
        b"POST /post/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 60000\r\n\r\n{",
        b"GET /sessions/0123456789ABCDEF/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
    ],
    ids=["nothing", "head", "body", "websocket"],
)
async def test_who_begins_requests_and_ends_none_keeps_nobody_out(
    daemon: Gatewayed, begun: bytes
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST + 8):
            _, writer = await daemon.http.connect()
            stack.callback(writer.close)
            writer.write(begun)
        assert (await daemon.http.get("/healthz")).status == 200
        said = await daemon.http.post("/post/", {"plain_stream": True})
        assert said.status == 200, said.body


WRONG_WAYS = [
    ("/healthz", "a" * 10_000, 431, "the address or a header is too long"),
    ("/api/v1/socket", "", 400, "this is a WebSocket"),
    ("/api/v1/", "", 404, "POST /api/v1/METHOD"),
    ("/API/v1/session.start", "", 404, "session.start"),
    ("/api/v1/session.start/", "", 404, "'session.start'"),
]


async def test_what_comes_in_the_wrong_way_is_told_the_right_one(daemon: Gatewayed) -> None:
    for path, header, status, why in WRONG_WAYS:
        said = await daemon.http.get(path, **{"X-Long": header})
        assert said.status == status, path
        assert why in said.error["message"]


async def test_params_in_the_address_are_refused_rather_than_left_out(daemon: Gatewayed) -> None:
    said = await daemon.http.post("/post/?count=5", {"plain_stream": True})
    assert said.status == 400
    assert "members of the body" in said.error["message"]
    assert daemon.lab.fake.empty


async def test_a_keepalive_connection_is_used_again(daemon: Gatewayed) -> None:
    reader, writer = await daemon.http.connect()
    for _ in range(3):
        writer.write(daemon.http.text("GET", "/healthz", headers={"Connection": "keep-alive"}))
        assert (await answer(reader)).status == 200
    writer.close()


async def test_sessions_of_the_socket_are_those_of_http(daemon: Gatewayed) -> None:
    wire: Wire = await daemon.lab.wire()
    started = await wire.call("session.start", plain_stream=True)
    listed = await daemon.http.call("session.list")
    assert [each["session_id"] for each in listed["sessions"]] == [started["session_id"]]


async def test_on_ipv6_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not socket.has_ipv6 or not _has_loopback_6():
        pytest.skip("this machine has no address of IPv6 but its own and link-local ones")
    caplog.set_level(logging.INFO, "operatord.audit")
    async with gatewayed(tmp_path / "state", http={"listen": "[::1]:0"}) as daemon:
        host, port = daemon.http.address
        said = await daemon.http.post("/post/", {}, headers={"Host": f"[{host}]:{port}"})
        assert (said.status, said.json["location"]["host"]) == (200, "127.0.0.1")
    assert '"from": "::1 port ' in caplog.text


def _has_loopback_6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False
