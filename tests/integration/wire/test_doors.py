# SPDX-License-Identifier: MIT
"""Listeners with rules of their own: who is let in where, as whom, and what that allows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from daemon_lab import (
    OPERATORD,
    Json,
    Lab,
    Refused,
    Wire,
    clean_env,
    in_process,
    run,
    settings,
    until,
)
from test_roles import PARAMS

from operatord.access import tokens
from operatord.access.identity import RANKS
from operatord.settings.config import ConfigError
from operatord_client import AsyncClient, Client, Tls
from operatord_client.ctl import exits
from operatord_client.errors import DaemonUnreachable
from operatord_protocol.messages import Role
from operatord_protocol.methods import METHODS

ME = pwd.getpwuid(os.geteuid()).pw_name
OPERATORCTL = str(Path(sys.executable).with_name("operatorctl"))
DOORS = {
    ("tcp", "none"), ("tcp", "token"), ("tls", "none"), ("tls", "token"), ("tls", "cert"),
    ("unix", "none"), ("unix", "token"), ("unix", "peer"),
}  # fmt: skip
"""How it is listened, and how whoever connects says who they are."""


class House:
    """A daemon with each kind of listener, for people who all have one role."""

    def __init__(self, folder: Path, role: Role | None) -> None:
        self.authority, self.folder, self.role = Authority(folder), folder, role
        self.cert, self.key = self.authority.sign("daemon")
        self.mine = self.authority.sign("ada")
        self.order = sorted(DOORS)
        _, self.token = tokens.new(folder / "tokens", "ada", role or "viewer", "now")
        self.lab: Lab

    def settings(self) -> Json:
        roles = {} if self.role is None else {"ada": self.role}
        mine = {} if self.role is None else {ME: self.role}
        return {
            "listeners": [self.listener(*door) for door in self.order],
            "auth": {
                "tokens": str(self.folder / "tokens"),
                "certificates": {"somebody else": "user", **roles},
                "peers": {"users": mine},
            },
        }

    def listener(self, bind: str, auth: str) -> Json:
        if bind == "unix":
            return {"address": str(self.folder / f"{auth}.sock"), "auth": auth}
        tls: Json = {"cert": str(self.cert), "key": str(self.key)}
        if auth == "cert":
            tls["client_ca"] = str(self.authority.certificate)
        return {"address": "127.0.0.1:0", "auth": auth, **({"tls": tls} if bind == "tls" else {})}

    def context(self, *, certified: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if certified:
            context.load_cert_chain(*self.mine)
        return context

    def address(self, bind: str, auth: str) -> tuple[str, int]:
        place = 1 + self.order.index((bind, auth))  # after `listen`
        host, port = self.lab.daemon.server._listeners[place].address[:2]
        return host, port

    async def wire(self, bind: str, auth: str, **more: Any) -> Wire:
        """Connect, and log in where that is asked for and there is a role."""
        if bind == "unix":
            wire = await Wire.connect(self.folder / f"{auth}.sock")
        else:
            context = self.context(**more) if bind == "tls" else None
            wire = Wire(
                *await asyncio.open_connection(
                    *self.address(bind, auth), ssl=context, limit=1 << 26
                )
            )
        self.lab._wires.append(wire)
        if auth == "token" and self.role is not None:
            await wire.call("auth.login", token=self.token)
        return wire


@contextlib.asynccontextmanager
async def house(folder: Path, role: Role | None, **more: Json) -> AsyncIterator[House]:
    found = House(folder, role)
    state, overlay = folder / "state", {**found.settings(), **more}
    async with in_process(state, overlay, reread=lambda: settings(state, overlay)) as found.lab:
        yield found


@pytest.mark.parametrize("role", RANKS)
async def test_each_way_in_gives_its_role_and_each_method_asks_for_its_own(
    tmp_path: Path, role: Role | None
) -> None:
    async with house(tmp_path, role) as daemon:
        for bind, auth in daemon.order:
            if auth == "peer" and role is None:
                continue  # whose the daemon is has a role anyway
            has = "operator" if auth == "none" else role
            wire = await daemon.wire(bind, auth)
            for method in METHODS:
                if method == "auth.login":
                    continue
                expected = None
                if RANKS[has] < RANKS[METHODS[method].role]:
                    expected = "forbidden" if has else "unauthorized"
                told = await told_of(wire, method)
                if expected is None:
                    assert told not in ("forbidden", "unauthorized"), (bind, auth, method)
                else:
                    assert told == expected, (bind, auth, method)
            if has is not None:
                assert (await wire.call("system.status"))["role"] == has


async def told_of(wire: Wire, method: str) -> str | None:
    """Return the type of the error that a method is answered with."""
    try:
        await wire.call(method, **PARAMS.get(method, {}))
    except Refused as refused:
        return refused.type
    return None


@pytest.mark.parametrize("auth", ["cert", "peer"])
async def test_owner_is_whose_certificate_or_process_it_is(tmp_path: Path, auth: str) -> None:
    async with house(tmp_path, "user") as daemon:
        wire = await daemon.wire("tls" if auth == "cert" else "unix", auth)
        assert (await wire.call("session.start"))["owner"] == ("ada" if auth == "cert" else ME)


async def test_no_certificate_no_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "operatord.audit")
    async with house(tmp_path, "user") as daemon:
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await (await daemon.wire("tls", "cert", certified=False)).call("system.ping")
        await until(lambda: bool(caplog.messages), "the refusal is written down")
        assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in caplog.messages[-1]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    async with house(tmp_path, "user") as daemon:
        context = daemon.context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*daemon.address("tls", "token"), ssl=context)


async def test_reload_shows_a_new_certificate_or_keeps_the_old_one_and_says_why(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, "operator") as daemon:
        wire = await daemon.wire("tls", "token")
        first = shown(wire)
        for new, old in zip(daemon.authority.sign("other"), (daemon.cert, daemon.key), strict=True):
            shutil.copy(new, old)
        await wire.call("system.reload")
        second = shown(await daemon.wire("tls", "token"))
        assert second != first
        daemon.key.write_text("no key")
        refused = await wire.refusal("system.reload")
        assert refused.type == "conflict"
        assert "listeners[" in refused.message
        assert str(tmp_path) not in refused.message
        assert shown(await daemon.wire("tls", "token")) == second


def shown(wire: Wire) -> bytes | None:
    found: bytes | None = wire.writer.get_extra_info("ssl_object").getpeercert(True)
    return found


async def test_where_no_login_is_asked_for_is_said(tmp_path: Path) -> None:
    async with in_process(tmp_path / "state") as lab:
        [warning] = (await (await lab.wire()).call("system.status"))["warnings"]
        assert warning.startswith("every local user is an operator")
    async with house(tmp_path, "viewer") as daemon:
        warnings = (await (await daemon.wire("tcp", "token")).call("system.status"))["warnings"]
        assert len(warnings) == 2  # the two that are made so


async def test_unknown_user_or_file_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no user 'nobody-of-that-name'"):
        async with in_process(
            tmp_path / "a", {"auth": {"peers": {"users": {"nobody-of-that-name": "user"}}}}
        ):
            pass
    tls = {"cert": "/nowhere/c.pem", "key": "/nowhere/k.pem"}
    listener = {"address": "127.0.0.1:0", "auth": "none", "tls": tls}
    with pytest.raises(ConfigError, match=r"listeners\[0\].tls.cert: cannot be read"):
        async with in_process(tmp_path / "b", {"listeners": [listener]}):
            pass


async def test_clients_speak_tls(tmp_path: Path) -> None:
    async with house(tmp_path, "user") as daemon:
        ca, (cert, key) = str(daemon.authority.certificate), map(str, daemon.mine)
        by_token = Tls(*daemon.address("tls", "token"), ca)
        by_cert = Tls(*daemon.address("tls", "cert"), ca, cert, key)
        async with AsyncClient(by_token, token=daemon.token) as client:
            assert (await client.status()).role == "user"
        async with AsyncClient(by_cert) as client:
            assert (await client.status()).role == "user"
        await asyncio.to_thread(use_blocking_clients, by_token, by_cert, daemon.token)
        with pytest.raises(DaemonUnreachable, match=r"is not trusted: .*OPERATORD_CA"):
            await AsyncClient(by_token._replace(ca=None)).connect()


async def test_clients_are_told_what_is_wrong_with_their_certificate(tmp_path: Path) -> None:
    """With TLS 1.3 the daemon says so when the client's handshake is over, after its first request."""
    (tmp_path / "foreign").mkdir()
    foreign = map(str, Authority(tmp_path / "foreign").sign("ada"))
    async with house(tmp_path, "user") as daemon:
        host, port = daemon.address("tls", "cert")
        none = Tls(host, port, str(daemon.authority.certificate))
        other = none._replace(**dict(zip(("cert", "key"), foreign, strict=True)))
        for address, why in ((none, "got none: --cert and --key, "), (other, "has signed it")):
            with pytest.raises(DaemonUnreachable, match=why):
                async with AsyncClient(address) as client:
                    await client.ping()
            with pytest.raises(DaemonUnreachable, match=why):
                await asyncio.to_thread(ping, address)
        words = ["--address", str(none), "--ca", str(none.ca), "ping"]
        done = await asyncio.to_thread(
            subprocess.run,
            [OPERATORCTL, *words],
            env=clean_env(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == exits.UNAVAILABLE
        assert done.stderr.startswith("operatorctl: the daemon wants a certificate of the client's")


def ping(address: Tls) -> None:
    with Client(address) as client:
        client.ping()


def use_blocking_clients(by_token: Tls, by_cert: Tls, token: str) -> None:
    """Have many threads ask for much over one connection, and leave no thread behind."""
    before = threading.active_count()
    with Client(by_token, token=token) as client:
        threads = [threading.Thread(target=client.describe) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.status().role == "user"
        client.reconnect()
        assert client.ping().pong
    with Client(by_cert) as client, client.start(count=5) as session:
        assert session.info.owner == "ada"
    with pytest.raises(DaemonUnreachable, match="is not trusted"):
        Client(by_token._replace(ca=None)).connect()
    for thread in threading.enumerate():
        if thread.name == "operatord TLS":
            thread.join()
    assert threading.active_count() <= before


async def test_operatorctl_speaks_tls(tmp_path: Path) -> None:
    async with house(tmp_path, "user") as daemon:
        host, port = daemon.address("tls", "token")
        words = ["--address", f"tls://{host}:{port}", "--ca", str(daemon.authority.certificate)]
        env = {**clean_env(), "OPERATORD_TOKEN": daemon.token}
        done = await asyncio.to_thread(
            subprocess.run,
            [OPERATORCTL, *words, "-o", "json", "ping"],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert '"pong":true' in done.stdout


async def test_certificate_that_clients_refuse_or_will_soon_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path, "operator") as daemon:
        boss = await daemon.wire("tcp", "token")
        place = daemon.order.index(("tls", "cert"))
        which = f"the certificate of listeners[{place}] (127.0.0.1:0)"

        async def told(days: int) -> list[str]:
            daemon.authority.sign("daemon", days=days)
            caplog.clear()
            await boss.call("system.reload")
            found = [each.getMessage() for each in caplog.records if which in each.getMessage()]
            warnings = (await boss.call("system.status"))["warnings"]
            assert [each for each in warnings if which in each] == found
            return found

        assert await told(days=400) == []
        assert [each.startswith(f"{which} expires on ") for each in await told(days=5)] == [True]
        assert [each.startswith(f"{which} has expired on ") for each in await told(days=-1)] == [
            True
        ]


async def test_certificate_that_has_expired_is_told_by_check_config_and_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = Authority(tmp_path).sign("daemon", days=-1)
    file = tmp_path / "o.yaml"
    tls = {"cert": str(cert), "key": str(key)}
    listener = {"address": "127.0.0.1:0", "auth": "none", "tls": tls}
    file.write_text(json.dumps({"listeners": [listener]}))
    code, _, said = await run(OPERATORD, "check-config", "--quiet", str(file))
    assert code == 0
    sentence = "the certificate of listeners[0] (127.0.0.1:0) has expired on "
    assert sentence in said
    async with in_process(tmp_path / "state", {"listeners": [listener]}):
        assert any(sentence in each.getMessage() for each in caplog.records)
