# SPDX-License-Identifier: MIT
"""An engine behind TLS: what hinders a connection is told, and where nothing does all works as elsewhere."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority, server_context

from operatord.engines.base import EngineSilent, EngineUnavailable
from operatord.engines.docker.engine import DockerEngine
from operatord.engines.docker_host.endpoint import Endpoint
from operatord.engines.docker_host.tls import BadEndpoint, Tls, check

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class _Engine(http.server.BaseHTTPRequestHandler):
    """Tells its version."""

    context: ssl.SSLContext | None = None

    def setup(self) -> None:
        if self.context is not None:
            plain = self.request
            try:
                self.request = self.context.wrap_socket(plain.dup(), server_side=True)
            except (OSError, ssl.SSLError):
                # What has been said by then is read to its end, or the kernel would take back the reason.
                with contextlib.suppress(OSError):
                    plain.shutdown(socket.SHUT_WR)
                    while plain.recv(65536):
                        pass
                self.request = plain
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def do_GET(self) -> None:  # the library's name
        body = json.dumps(VERSION | {"NCPU": 2}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def engine_behind(context: ssl.SSLContext | None) -> Iterator[str]:
    """Have an engine that tells its version; give its address."""
    handler = type("Engine", (_Engine,), {"context": context})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def told(url: str, tls: Tls | None) -> str:
    """Return what hinders a connection."""
    engine = DockerEngine(Endpoint(url, tls), "tls", call_timeout=10, queue_timeout=10)
    try:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.connect()
    finally:
        await engine.close()
    assert not isinstance(caught.value, EngineSilent), "there is nothing to wait for"
    return str(caught.value)


async def test_both_who_prove_who_they_are_are_connected(authority: Authority) -> None:
    """E4"""
    context = server_context(authority.sign("engine"), clients_of=authority)
    with engine_behind(context) as url:
        engine = DockerEngine(Endpoint(url, authority.client()), "tls")
        assert (await engine.connect()).version == "20.10.24"
        await engine.alive()
        await engine.close()


async def test_engine_need_not_prove_who_it_is_where_nobody_wants_that(
    authority: Authority, recwarn: pytest.WarningsRecorder
) -> None:
    """F5: as with DOCKER_TLS alone. It was asked for, so nobody warns of it with every call."""
    with engine_behind(server_context(authority.sign("engine", host="DNS:other"))) as url:
        engine = DockerEngine(Endpoint(url, Tls(verify=False)), "tls")
        await engine.connect()
        await engine.close()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("host", "days", "said"),
    [
        ("IP:127.0.0.1", -1, "certificate has expired"),
        ("DNS:other.example", 2, "certificate is for another host than"),
        ("IP:192.0.2.1", 2, "certificate is for another host than"),
    ],
)
async def test_certificate_of_the_engine_that_is_no_good_is_told(
    authority: Authority, host: str, days: int, said: str
) -> None:
    """E4, F4"""
    context = server_context(authority.sign("engine", host=host, days=days))
    with engine_behind(context) as url:
        assert f"the container engine's {said}" in await told(url, authority.client())


async def test_certificate_of_another_authority_is_told(
    authority: Authority, tmp_path: Path
) -> None:
    """E4, F4"""
    other = Authority(tmp_path, "other")
    with engine_behind(server_context(other.sign("engine"))) as url:
        said = await told(url, authority.client())
    assert "no known authority has signed it" in said
    assert "DOCKER_CERT_PATH" in said


async def test_engine_that_wants_a_certificate_says_which_it_lacks(
    authority: Authority, tmp_path: Path
) -> None:
    """E4, F4: none, an expired one, or one of another authority."""
    context = server_context(authority.sign("engine"), clients_of=authority)
    foreign = Authority(tmp_path, "other").client()
    with engine_behind(context) as url:
        nobody = await told(url, Tls(authority.certificate))
        late = await told(url, authority.client("late", days=-1))
        stranger = await told(url, foreign._replace(ca=authority.certificate))
    assert "wants a client's certificate: put cert.pem and key.pem where" in nobody
    assert "refuses the client's certificate, cert.pem, because it has expired" in late
    assert "does not trust the authority that has signed it" in stranger


async def test_each_who_speaks_tls_to_one_who_does_not_is_told(authority: Authority) -> None:
    """E4, F4"""
    with engine_behind(None) as url:
        assert "does not speak TLS: unset DOCKER_TLS_VERIFY" in await told(url, authority.client())


def test_files_that_cannot_be_used_are_told_before_anything_is_connected_to(
    authority: Authority, tmp_path: Path
) -> None:
    """E4"""
    tls = authority.client()
    assert tls.cert is not None
    assert tls.key is not None
    check(tls)
    nonsense, other = tmp_path / "nonsense", authority.client("other")
    nonsense.write_text("nothing in PEM")
    encrypted = tmp_path / "encrypted"
    authority._run(
        "pkey", "-in", str(tls.key), "-aes128", "-passout", "pass:x", "-out", str(encrypted)
    )
    for bad, path, said in (
        (tls._replace(ca=tmp_path / "none"), tmp_path / "none", "ca.pem, is missing"),
        (tls._replace(ca=nonsense), nonsense, "holds no certificate in PEM"),
        (tls._replace(key=None), tls.cert, "key.pem is missing"),
        (tls._replace(cert=None), tls.key, "cert.pem is missing"),
        (tls._replace(key=other.key), tls.cert, "do not belong together"),
        (
            tls._replace(cert=nonsense),
            nonsense,
            "do not belong together, or one of them is damaged",
        ),
        (tls._replace(key=encrypted), encrypted, "has a passphrase"),
        (tls._replace(key=tmp_path), tmp_path, "cannot be read"),
    ):
        with pytest.raises(BadEndpoint, match=said) as caught:
            check(bad)
        assert caught.value.path == path
        assert str(tmp_path) not in str(caught.value), "clients may read it"
