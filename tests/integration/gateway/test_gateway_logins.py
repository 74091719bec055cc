# SPDX-License-Identifier: MIT
"""Whoever asks by the gateway has their own rights and no others, and is counted by their own address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import shared_host
from certificates import Authority
from daemon_lab import OPERATORD, Json, Lab, clean_env, in_process, settings
from gateway_lab import Caller, Gatewayed, answer, gatewayed

from operatord.access import tokens
from operatord.access.backoff import FREE
from operatord.access.tokens import Tokens
from operatord.settings import http as http_settings
from operatord.settings.config import ConfigError
from operatord_protocol.messages import Role

WHEN = "2026-11-30T01:00:00.000Z"


def token(folder: Path, user: str, role: Role) -> str:
    return tokens.new(folder / "tokens", user, role, WHEN)[1]


@pytest.fixture
def people(tmp_path: Path) -> dict[str, str]:
    """Tokens, by who has them."""
    roles: dict[str, Role] = {"ada": "viewer", "bea": "user", "cleo": "user", "olga": "operator"}
    return {user: token(tmp_path, user, role) for user, role in roles.items()}


@pytest.fixture
async def daemon(tmp_path: Path, people: dict[str, str]) -> AsyncIterator[Gatewayed]:
    async with gatewayed(tmp_path / "state", {"auth": {"tokens": str(tmp_path / "tokens")}}) as d:
        yield d


async def test_nothing_without_a_token(daemon: Gatewayed) -> None:
    for path in ("/post/", "/api/v1/system.status", "/api/v1/session.start"):
        said = await daemon.http.post(path, {})
        assert (said.status, said.error["type"]) == (401, "unauthorized")
        assert said.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in said.error["message"]
    assert (await daemon.http.get("/readyz")).json == {"ready": True}
    assert (await daemon.http.get("/")).status == 200
    assert daemon.lab.fake.empty


async def test_roles_are_those_of_the_token(daemon: Gatewayed, people: dict[str, str]) -> None:
    watching = await daemon.http.post("/api/v1/system.status", token=people["ada"])
    assert (watching.status, watching.json["role"]) == (200, "viewer")
    refused = await daemon.http.post("/post/", {"count": 5}, people["ada"])
    assert (refused.status, refused.error["type"]) == (403, "forbidden")
    drained = await daemon.http.post("/api/v1/system.drain", {}, people["bea"])
    assert drained.status == 403
    assert daemon.lab.fake.empty


async def test_sessions_of_others_show_no_location(
    daemon: Gatewayed, people: dict[str, str]
) -> None:
    started = await daemon.http.post("/post/", {"plain_stream": True}, people["bea"])
    assert (started.status, started.json["owner"]) == (200, "bea")
    params = {"session_id": started.json["session_id"]}
    for user, sees in {"bea": True, "olga": True, "cleo": False, "ada": False}.items():
        said = await daemon.http.post("/api/v1/session.get", params, people[user])
        assert (said.status, "location" in said.json) == (200, sees), user
    foreign = await daemon.http.post("/api/v1/session.stop", params, people["cleo"])
    assert foreign.status == 403
    own = await daemon.http.post("/api/v1/session.stop", params, people["bea"])
    assert own.json["phase"] == "ended"


async def test_wrong_tokens_hold_up_their_own_address_and_no_other(
    daemon: Gatewayed, people: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "operatord.audit")
    said = []
    for _ in range(FREE + 3):
        said.append(
            await daemon.http.post("/api/v1/system.ping", {}, "opd_wrong", source="127.0.0.2")
        )
    assert {each.status for each in said} == {401, 429}
    assert int(said[-1].headers["retry-after"]) >= 1
    there = await daemon.http.post("/api/v1/system.status", {}, people["ada"], source="127.0.0.2")
    assert there.status == 429
    here = await daemon.http.post("/api/v1/system.status", {}, people["ada"], source="127.0.0.3")
    assert here.status == 200
    written = [json.loads(r.getMessage()) for r in caplog.records if r.name == "operatord.audit"]
    refused = [each for each in written if each.get("why") == "wrong token"]
    assert {each["from"].split(" ")[0] for each in refused} == {"127.0.0.2"}


@pytest.mark.parametrize("said", ["", "Basic b3BkOng=", "Bearer", "Bearer  ", "opd_x"])
async def test_other_ways_to_say_a_token(daemon: Gatewayed, said: str) -> None:
    found = await daemon.http.post("/api/v1/system.status", headers={"Authorization": said})
    assert found.status == 401


async def test_connections_are_counted_by_their_own_address(
    tmp_path: Path, people: dict[str, str]
) -> None:
    limits = {"limits": {"connections_per_address": 2}}
    async with gatewayed(tmp_path / "state", limits) as daemon, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{daemon.http.address[1]}/api/v1/socket"
        async with session.ws_connect(url) as one, session.ws_connect(url) as two:
            for each in (one, two):  # they are there
                await each.send_str('{"method":"system.ping"}')
                assert "pong" in (await each.receive_json())["result"]
            said = await daemon.http.post("/api/v1/system.ping")
            assert (said.status, said.error["type"]) == (429, "too_many_requests")
            other = await daemon.http.post("/api/v1/system.ping", source="127.0.0.2")
            assert other.status == 200


async def test_the_protocol_over_a_websocket(daemon: Gatewayed, people: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{daemon.http.address[1]}/api/v1/socket"
        async with session.ws_connect(url) as socket:

            async def ask(method: str, **params: object) -> Json:
                await socket.send_json({"method": method, "params": params})
                found: Json = await socket.receive_json()
                return found

            assert (await ask("session.list"))["error"]["data"]["type"] == "unauthorized"
            assert (await ask("auth.login", token=people["bea"]))["result"]["user"] == "bea"
            assert "subscription" in (await ask("events.subscribe"))["result"]
            await daemon.http.post("/post/", {"plain_stream": True}, people["bea"])
            types = [(await socket.receive_json())["params"]["type"] for _ in range(2)]
            assert types == ["session.queued", "session.starting"]
            for text in ('{"method":\n"system.ping"}', "{}\r{}"):
                await socket.send_str(text)
            await socket.send_bytes(b"{}")
            wrong = []
            while len(wrong) < 3:
                if "error" in (said := await socket.receive_json()):
                    wrong.append(said["error"]["message"])
            assert set(wrong) == {"a message is one line of the protocol, as text"}


async def test_the_end_of_a_websocket_is_that_of_what_it_holds(
    tmp_path: Path, people: dict[str, str]
) -> None:
    async with gatewayed(tmp_path / "state") as daemon, aiohttp.ClientSession() as session:
        wire = await daemon.lab.wire()
        await wire.call("events.subscribe")
        url = f"http://127.0.0.1:{daemon.http.address[1]}/api/v1/socket"
        async with session.ws_connect(url) as socket:
            params = {"plain_stream": True, "lease": "connection"}
            await socket.send_json({"method": "session.start", "params": params})
            assert (await socket.receive_json())["result"]["phase"] == "running"
        event = await wire.event("session.ended")
        assert event["outcome"] != "failed"


# TLS, and other machines


@pytest.mark.parametrize(
    ("http", "text"),
    [
        ({"listen": "0.0.0.0:5000"}, "can be reached from other machines: set http.auth: token"),
        ({"listen": ":5000"}, "every address can be reached"),
        ({"listen": "192.0.2.1:5000", "auth": "none"}, "can be reached from other machines"),
        ({"listen": "127.0.0.1:5000", "auth": "token"}, "name it in auth.tokens"),
        ({"listen": "5000"}, "expected HOST:PORT such as 127.0.0.1:5000"),
        ({"listen": "127.0.0.1:99999"}, "expected HOST:PORT"),
        ({"hosts": ["http://lab.example/"]}, "http.hosts"),
    ],
)
async def test_settings_that_are_refused(tmp_path: Path, http: Json, text: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.") as caught:
        settings(tmp_path, {"http": http})
    assert text in str(caught.value)


@pytest.mark.parametrize("command", ["check-config", "serve"])
async def test_an_open_door_for_other_machines_is_refused_by_name(
    tmp_path: Path, command: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        OPERATORD, command, "--state-dir", str(tmp_path / "state"), "--engine", "process",
        env={**clean_env(), "OPERATORD_HTTP_LISTEN": "0.0.0.0:5000"},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"http.listen: 0.0.0.0 can be reached from other machines: set http.auth: token" in said


def test_what_is_to_be_installed_is_said_where_http_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_settings, "find_spec", lambda name: None)
    assert http_settings.lacks_extra(http_settings.HttpSettings()) is None
    said = http_settings.lacks_extra(http_settings.HttpSettings(listen="127.0.0.1:5000"))
    assert said == "http.listen: HTTP needs the extra http: pip install 'operatord[http]'"


async def test_https_and_a_new_certificate_on_a_reload(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("daemon")
    http: Json = {"listen": "127.0.0.1:0", "tls": {"cert": str(cert), "key": str(key)}}
    state = tmp_path / "state"
    async with in_process(
        state, {"http": http}, reread=lambda: settings(state, {"http": http})
    ) as lab:
        before = await shown(lab, authority)
        other, its_key = authority.sign("renewed")
        cert.write_bytes(other.read_bytes())
        key.write_bytes(its_key.read_bytes())
        wire = await lab.wire()
        assert (await wire.call("system.reload"))["reloaded"]
        async with asyncio.timeout(20):
            while await shown(lab, authority) == before:
                await asyncio.sleep(0.05)


async def test_a_client_without_a_certificate_is_told_by_an_alert_where_one_is_wanted(
    tmp_path: Path,
) -> None:
    """With TLS 1.3 it comes after the client's handshake, in place of an answer."""
    authority = Authority(tmp_path)
    cert, key = authority.sign("daemon")
    files = {"cert": str(cert), "key": str(key), "client_ca": str(authority.certificate)}
    http: Json = {"listen": "127.0.0.1:0", "tls": files}
    async with gatewayed(tmp_path / "state", http=http) as daemon:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.check_hostname = False
        reader, writer = await asyncio.open_connection(*daemon.http.address, ssl=context)
        with pytest.raises(ssl.SSLError) as refused:
            await reader.read()
        assert refused.value.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def shown(lab: Lab, authority: Authority) -> bytes:
    """Return the certificate that the gateway shows, after a request by it was answered."""
    gateway = lab.daemon.gateway
    assert gateway is not None
    address = gateway.addresses[0][:2]
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    writer.write(Caller(address).text("GET", "/healthz"))
    assert (await answer(reader)).status == 200
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return bytes(der)


async def test_settings_for_http_are_named_as_needing_a_restart(tmp_path: Path) -> None:
    state, changed = tmp_path / "state", {"http": {"listen": "127.0.0.1:0", "hosts": ["a.example"]}}
    async with in_process(
        state,
        {"http": {"listen": "127.0.0.1:0"}},
        reread=lambda: settings(state, changed),
    ) as lab:
        wire = await lab.wire()
        refused = await wire.refusal("system.reload")
        assert "http needs a restart" in refused.message


async def test_tokens_that_come_with_a_reload_are_asked_for(tmp_path: Path) -> None:
    state, http = tmp_path / "state", {"http": {"listen": "127.0.0.1:0"}}
    ada = token(tmp_path, "ada", "viewer")
    auth = {"auth": {"tokens": str(tmp_path / "tokens")}}
    async with in_process(state, http, reread=lambda: settings(state, http, auth)) as lab:
        gateway = lab.daemon.gateway
        assert gateway is not None
        caller = Caller(gateway.addresses[0][:2])
        assert (await caller.post("/api/v1/system.status")).status == 200
        await (await lab.wire()).ask({"method": "system.reload"})  # who asks is nobody then
        assert isinstance(lab.daemon.logins.known.tokens, Tokens)
        assert (await caller.post("/api/v1/system.status")).status == 401
        assert (await caller.post("/api/v1/system.status", {}, ada)).status == 200


# Streams


async def test_a_stream_that_was_asked_for_elsewhere_is_read_where_its_stage_is(
    tmp_path: Path, people: dict[str, str]
) -> None:
    """Its location is a door of the gate on another address, by TLS: the gateway does not go through that."""
    authority = Authority(tmp_path)
    cert, key = authority.sign("daemon")
    http: Json = {
        "listen": f"{shared_host.own_address()}:0",
        "tls": {"cert": str(cert), "key": str(key)},
    }
    auth = {"auth": {"tokens": str(tmp_path / "tokens")}, "engine": "process"}
    async with gatewayed(tmp_path / "state", auth, http=http) as daemon:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.check_hostname = False
        host, port = daemon.http.address
        url = f"https://{host}:{port}"
        headers = {"Authorization": f"Bearer {people['bea']}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            async with session.post(f"{url}/post/", json={"count": 100_000}) as said:
                started = await said.json()
            assert started["location"]["host"] == host
            assert started["location"]["tls"]
            picture = f"{url}/sessions/{started['session_id']}/snapshot.png"
            async with session.get(picture) as said:
                assert (said.status, said.content_type) == (200, "image/png")
            other = {"Authorization": f"Bearer {people['cleo']}"}
            async with session.get(picture, headers=other) as said:
                assert said.status == 403
            asked = {"session_id": started["session_id"]}
            async with session.post(f"{url}/api/v1/gateway.location", json=asked) as said:
                assert said.status == 404
        refused = await (await daemon.lab.wire()).refusal("gateway.location", **asked)
        assert refused.type == "method_not_found"  # on the socket
