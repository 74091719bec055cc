# SPDX-License-Identifier: MIT
"""Logging in with a token: what is asked for before, what wrong ones are told, what is written down."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Json, clean_env, in_process, served
from guarded_lab import Guarded, guarded

from operatord.access import logins, tokens
from operatord.access.backoff import FREE
from operatord.settings.config import ConfigError
from operatord_client import AsyncClient, Client
from operatord_client.errors import Forbidden, Unauthorized


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Guarded]:
    """A daemon that asks for a login."""
    async with guarded(tmp_path) as running:
        yield running


def lines(caplog: pytest.LogCaptureFixture) -> list[Json]:
    return [json.loads(r.getMessage()) for r in caplog.records if r.name == "operatord.audit"]


async def test_nothing_but_ping_before_login(door: Guarded) -> None:
    wire = await door.lab.wire()
    assert (await wire.call("system.ping"))["pong"]
    refused = await wire.refusal("system.status")
    assert (refused.type, refused.message) == (
        "unauthorized",
        "log in first: auth.login with a token (operatorctl: OPERATORD_TOKEN)",
    )
    seed = await wire.ask({"count": 5})
    assert seed["error"]["data"]["type"] == "unauthorized"
    assert door.lab.fake.empty


async def test_line_before_login_is_short_and_may_be_long_after_it(door: Guarded) -> None:
    long = b'{"method":"system.ping"%b}' % (b" " * logins.LINE_BYTES)
    wire = await door.wire("ada", "viewer")
    assert "result" in await wire.ask(long)
    stranger = await door.lab.wire()
    told = await stranger.ask(long)
    assert f"at most {logins.LINE_BYTES} bytes before login" in told["error"]["message"]


async def test_who_does_not_log_in_is_let_go(
    door: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "SECONDS", 0.05)
    ada = await door.wire("ada", "viewer")
    wire = await door.lab.wire()
    told = await wire.line()
    assert told["error"]["data"]["type"] == "unauthorized"
    assert "log in within" in told["error"]["message"]
    assert await wire.at_end()
    assert (await ada.call("system.ping"))["pong"]


async def test_wrong_token_is_told_to_be_wrong_and_then_to_wait(door: Guarded) -> None:
    _, good = door.token("ada", "user")
    wire = await door.lab.wire()
    for _ in range(FREE + 1):
        refused = await wire.refusal("auth.login", token="opd_" + "x" * 43)
        assert (refused.type, refused.message) == ("unauthorized", "the token is wrong")
    for token in (good, "opd_wrong"):  # whichever it is
        refused = await wire.refusal("auth.login", token=token)
        assert refused.type == "too_many_requests"
        assert refused.data["retry_after"] == 1


async def test_reload_knows_new_tokens_and_ends_who_came_with_revoked_ones(door: Guarded) -> None:
    operator, ada = await door.wire("root", "operator"), await door.lab.wire()
    token_id, text = door.token("ada", "user")
    assert (await ada.refusal("auth.login", token=text)).type == "unauthorized"
    assert (await operator.call("system.reload"))["changed"] == ["auth"]
    assert (await ada.call("auth.login", token=text))["user"] == "ada"
    await ada.call("events.subscribe")
    tokens.revoke(door.file, token_id)
    await operator.call("system.reload")
    assert "is no longer valid" in (await ada.line())["error"]["message"]
    assert await ada.at_end()
    again = await door.lab.wire()
    assert (await again.refusal("auth.login", token=text)).type == "unauthorized"


async def test_who_is_sent_away_hears_of_nothing_that_comes_after(door: Guarded) -> None:
    operator, ada = await door.wire("root", "operator"), await door.wire("ada", "user")
    own = await ada.call("session.start", lease="connection")
    await ada.call("events.subscribe", types=["session.attached"])
    ada.begin("session.wait", session_id=own["session_id"], phase="ended")
    await ada.call("system.ping")  # what was sent before has begun
    tokens.revoke(door.file, tokens.read(door.file)[-1].id)
    await operator.call("system.reload")
    door.lab.daemon.events.emit("session.attached", session_id=own["session_id"])
    assert "is no longer valid" in (await ada.line())["error"]["message"]
    assert await ada.at_end()
    ended = await operator.call("session.wait", session_id=own["session_id"], phase="ended")
    assert ended["reason"] == "the connection that held its lease has ended"


async def test_reload_keeps_the_tokens_that_were_when_the_file_cannot_be_used(
    door: Guarded,
) -> None:
    operator = await door.wire("root", "operator")
    door.file.chmod(0o644)
    refused = await operator.refusal("system.reload")
    assert refused.type == "conflict"
    assert "auth.tokens: others may read it" in refused.message
    assert (await operator.call("system.status"))["role"] == "operator"
    assert (await (await door.lab.wire()).call("system.ping"))["pong"]


async def test_daemon_does_not_start_with_a_file_that_others_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    tokens.new(file, "ada", "user", "now")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        async with in_process(tmp_path / "state", {"auth": {"tokens": str(file)}}):
            pass


async def test_what_was_done_is_written_down_with_who_and_from_where(
    door: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "operatord.audit")
    ada = await door.wire("ada", "user")
    port = ada.writer.get_extra_info("sockname")[1]
    session_id = (await ada.call("session.start", lease={"ttl": 60}))["session_id"]
    await ada.call("session.extend", session_id=session_id, ttl=60)
    await ada.call("session.stop", session_id=session_id)
    await ada.refusal("system.reload")
    await ada.refusal("auth.login", token="wrong")
    await (await door.wire("root", "operator")).call("system.reload")
    found = lines(caplog)
    told = [(each["audit"], each["user"]) for each in found]
    assert told == [
        ("login", "ada"), ("start", "ada"), ("extend", "ada"), ("stop", "ada"),
        ("refused", "ada"), ("refused", ""), ("login", "root"), ("reload", "root"),
    ]  # fmt: skip
    assert {each["from"] for each in found[:6]} == {f"127.0.0.1 port {port}"}
    assert found[1]["session_id"] == session_id
    assert found[4]["method"] == "system.reload"


LABELS = {f"l{number}": "x" * 250 for number in range(16)}
"""They make a line of more than 4 KiB, which the clients try beforehand on a connection of its own."""


async def test_clients_log_in_when_they_connect_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokens"
    _, text = tokens.new(file, "ada", "user", "now")
    config = {"auth": {"tokens": str(file)}, "engine": "process"}
    async with served(tmp_path / "state", config=config) as daemon:
        async with AsyncClient(daemon.address, token=text) as client:
            assert (await client.status()).role == "user"
            await client.reconnect()
            assert (await client.probe_register("p", "127.0.0.1", 1, labels=LABELS)).name == "p"
        await asyncio.to_thread(use_blocking_client, daemon.address, text)
        monkeypatch.setenv("OPERATORD_TOKEN", text)
        async with AsyncClient(daemon.address) as client:
            with pytest.raises(Forbidden):
                await client.drain()
        with pytest.raises(Unauthorized, match="the token is wrong"):
            await AsyncClient(daemon.address, token="wrong").connect()


def use_blocking_client(address: tuple[str, int], token: str) -> None:
    with Client(address, token=token) as client:
        client.reconnect()
        assert client.probe_register("q", "127.0.0.1", 1, labels=LABELS).name == "q"
    with pytest.raises(Unauthorized):
        Client(address, token="wrong").connect()
    with Client(address) as client:
        with pytest.raises(Unauthorized):
            client.status()
        client.login(token)
        assert client.status().role == "user"


OPERATORCTL = str(Path(OPERATORD).with_name("operatorctl"))


def _run(*words: str, file: Path, program: str) -> subprocess.CompletedProcess[str]:
    env = {**clean_env(), "OPERATORD_AUTH_TOKENS": str(file)}
    return subprocess.run([program, *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", [OPERATORD, OPERATORCTL], ids=["operatord", "operatorctl"])
def test_tokens_from_the_command_line(tmp_path: Path, program: str) -> None:
    file = tmp_path / "tokens"
    run = functools.partial(_run, file=file, program=program)
    none = run("token", "list")
    assert (none.returncode, "there is no such file" in none.stderr) == (1, True)
    made = run("token", "new", "ada", "--role", "viewer")
    assert made.returncode == 0
    found = tokens.Tokens(tokens.read(file)).find(made.stdout.strip())
    assert found is not None
    assert (found.user, found.role) == ("ada", "viewer")
    listed = run("token", "list")
    assert found.id in listed.stdout
    assert made.stdout.strip() not in listed.stdout + made.stderr
    assert run("token", "revoke", found.id).returncode == 0
    assert tokens.read(file) == []
    again = run("token", "revoke", found.id)
    assert (again.returncode, again.stderr) == (
        1,
        f"operatord: there is no token {found.id}; `operatord token list` has all\n",
    )
    nowhere = subprocess.run(
        [program, "token", "list"], env=clean_env(), capture_output=True, text=True, check=False
    )
    assert nowhere.returncode == 2
    assert "auth.tokens names no file" in nowhere.stderr
