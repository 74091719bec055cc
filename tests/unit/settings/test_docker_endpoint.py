# SPDX-License-Identifier: MIT
"""Which engine is meant, by settings, environment and docker's contexts: as the docker command has it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from operatord.engines.docker_host import endpoint as docker_endpoint
from operatord.engines.docker_host.endpoint import Endpoint, Wanted, host_of, named
from operatord.engines.docker_host.tls import BadEndpoint, Tls
from operatord.settings import choice
from operatord.settings.config import ConfigError
from operatord.settings.loading import from_dict

HOST = "tcp://host.example:2376"
FAR, NEAR, LAX, LOOSE = "far", "near", "lax", "loose"
"""Contexts: with certificates; of this machine; that verifies nobody; with an address only."""


class Home(NamedTuple):
    """A home directory with docker's configuration in it."""

    path: Path

    @property
    def docker(self) -> Path:
        return self.path / ".docker"

    def context(self, name: str, host: str, *files: str, lax: bool = False) -> Path:
        """Make a context; return the folder of its certificates."""
        key = hashlib.sha256(name.encode()).hexdigest()
        meta, tls = (self.docker / "contexts" / each / key for each in ("meta", "tls"))
        meta.mkdir(parents=True)
        engine = {"Host": host, "SkipTLSVerify": lax}
        meta.joinpath("meta.json").write_text(
            json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": engine}})
        )
        certificates = tls / "docker"
        for file in files:
            certificates.mkdir(parents=True, exist_ok=True)
            certificates.joinpath(file).touch()
        return certificates

    def use(self, name: str) -> None:
        """As ``docker context use`` does."""
        self.docker.joinpath("config.json").write_text(json.dumps({"currentContext": name}))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.context(FAR, "tcp://far.example:2376", "ca.pem", "cert.pem", "key.pem")
    made.context(NEAR, "unix:///run/near.sock")
    made.context(LAX, "tcp://lax.example:2376", lax=True)
    made.context(LOOSE, "tcp://loose.example:2375")
    return made


class Case(NamedTuple):
    """What is said, and which engine that means."""

    url: str | None
    source: str = ""
    env: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    wanted: Wanted = Wanted()
    current: str | None = None


CASES = {
    "nothing is said": Case(None),
    "an empty variable says nothing": Case(None, env={"DOCKER_HOST": "", "DOCKER_CONTEXT": ""}),
    "DOCKER_HOST": Case(HOST, "DOCKER_HOST", {"DOCKER_HOST": HOST}),
    "DOCKER_CONTEXT": Case(
        "unix:///run/near.sock", "the docker context near", {"DOCKER_CONTEXT": NEAR}
    ),
    "the current context": Case(
        "unix:///run/near.sock", "the docker context near", current=NEAR
    ),
    "DOCKER_HOST beats DOCKER_CONTEXT": Case(
        HOST, "DOCKER_HOST", {"DOCKER_HOST": HOST, "DOCKER_CONTEXT": NEAR}
    ),
    "DOCKER_HOST beats an unknown context": Case(
        HOST, "DOCKER_HOST", {"DOCKER_HOST": HOST, "DOCKER_CONTEXT": "none"}, current="neither"
    ),
    "DOCKER_CONTEXT beats the current one": Case(
        "tcp://loose.example:2375", "the docker context loose", {"DOCKER_CONTEXT": LOOSE}, current=NEAR
    ),
    "the context called default is none": Case(None, env={"DOCKER_CONTEXT": "default"}, current=NEAR),
    "docker_host beats all": Case(
        "tcp://set.example:1", "docker_host", {"DOCKER_HOST": HOST, "DOCKER_CONTEXT": NEAR},
        Wanted(host="tcp://set.example:1"), FAR,
    ),
    "docker_context beats DOCKER_HOST": Case(
        "unix:///run/near.sock", "the docker context near", {"DOCKER_HOST": HOST}, Wanted(context=NEAR)
    ),
    "docker_context: default leaves it to DOCKER_HOST": Case(
        HOST, "DOCKER_HOST", {"DOCKER_HOST": HOST}, Wanted(context="default"), NEAR
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_first_who_says_something_is_followed(home: Home, case: Case) -> None:
    """F5"""
    if case.current is not None:
        home.use(case.current)
    found = named(case.wanted, {"HOME": str(home.path), **case.env})
    if case.url is None:
        assert found is None
    else:
        assert found is not None
        assert (found.url, found.source) == (case.url, case.source)


def folder(home: Home, *names: str) -> Path:
    path = home.path / "certificates"
    path.mkdir()
    for name in names:
        path.joinpath(name).touch()
    return path


ALL = ("ca.pem", "cert.pem", "key.pem")


def tls_of(home: Home, url: str = HOST, wanted: Wanted | None = None, **env: str) -> Tls | None:
    found = named(wanted or Wanted(), {"HOME": str(home.path), "DOCKER_HOST": url, **env})
    assert found is not None
    return found.tls


def test_certificates_are_looked_for_where_docker_looks(home: Home) -> None:
    """E4, F5"""
    path = folder(home, *ALL)
    whole = Tls(path / "ca.pem", path / "cert.pem", path / "key.pem")
    assert tls_of(home) is None
    assert tls_of(home, DOCKER_CERT_PATH=str(path)) is None, "docker speaks no TLS for that alone"
    assert tls_of(home, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(path)) == whole
    assert tls_of(home, DOCKER_TLS_VERIFY="0", DOCKER_CERT_PATH=str(path)) == whole, "as for docker"
    assert tls_of(home, DOCKER_TLS_VERIFY="", DOCKER_CERT_PATH=str(path)) is None
    assert tls_of(home, DOCKER_TLS="1", DOCKER_CERT_PATH=str(path)) == whole._replace(verify=False)
    settings = Wanted(cert_path=str(path), tls_verify=True)
    assert tls_of(home, wanted=settings, DOCKER_CERT_PATH="/other") == whole
    never = Wanted(tls_verify=False, tls=False)
    assert tls_of(home, wanted=never, DOCKER_TLS_VERIFY="1", DOCKER_TLS="1") is None


def test_without_a_folder_they_are_in_dockers_own(home: Home) -> None:
    """F5: the authority's has to be there, the client's need not."""
    lone = Tls(home.docker / "ca.pem")
    assert tls_of(home, DOCKER_TLS_VERIFY="1") == lone
    elsewhere = home.path / "elsewhere"
    moved = tls_of(home, DOCKER_TLS_VERIFY="1", DOCKER_CONFIG=str(elsewhere))
    assert moved == Tls(elsewhere / "ca.pem")


@pytest.mark.parametrize("url", ["unix:///run/docker.sock", "ssh://me@host"])
def test_what_cannot_be_encrypted_needs_no_certificate(home: Home, url: str) -> None:
    assert tls_of(home, url, DOCKER_TLS_VERIFY="1") is None


def test_context_has_certificates_of_its_own(home: Home) -> None:
    """F5: what the environment says of TLS is not for it."""
    env = {"HOME": str(home.path), "DOCKER_TLS_VERIFY": "1"}
    found = {name: named(Wanted(context=name), env) for name in (FAR, NEAR, LAX, LOOSE)}
    kept = home.docker / "contexts" / "tls" / hashlib.sha256(FAR.encode()).hexdigest() / "docker"
    tls = {name: endpoint and endpoint.tls for name, endpoint in found.items()}
    assert tls == {
        FAR: Tls(kept / "ca.pem", kept / "cert.pem", kept / "key.pem"),
        NEAR: None,
        LAX: Tls(verify=False),
        LOOSE: None,
    }


def test_context_without_an_address_is_the_default_socket(home: Home) -> None:
    home.context("empty", "")
    found = named(Wanted(context="empty"), {"HOME": str(home.path)})
    assert found is not None
    assert found.url == "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("env", "current", "said"),
    [
        ({"DOCKER_CONTEXT": "fra"}, None, "there is no docker context 'fra'; did you mean 'far'?"),
        ({}, "nowhere", "there is no docker context 'nowhere'."),
    ],
)  # fmt: skip
def test_unknown_context_is_told_with_those_there_are(
    home: Home, env: dict[str, str], current: str | None, said: str
) -> None:
    """F5"""
    if current is not None:
        home.use(current)
    with pytest.raises(BadEndpoint) as caught:
        named(Wanted(), {"HOME": str(home.path), **env})
    assert said in str(caught.value)
    assert "There are: default, far, lax, loose, near" in str(caught.value)


def damage_context(home: Home, text: str) -> Path:
    [file] = [
        each for each in home.docker.glob("contexts/meta/*/meta.json") if NEAR in each.read_text()
    ]
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "names no container engine"),
        ('{"Endpoints": {"docker": {"Host": 7}}}', "names no container engine"),
    ],
)
def test_damaged_context_is_told_with_its_file(home: Home, text: str, said: str) -> None:
    file = damage_context(home, text)
    with pytest.raises(BadEndpoint) as caught:
        named(Wanted(context=NEAR), {"HOME": str(home.path)})
    assert said in str(caught.value)
    assert str(home.path) not in str(caught.value), "clients may read it"
    assert caught.value.path == file


def test_damaged_configuration_of_docker_names_no_context(home: Home) -> None:
    """F5: it may have named one, and another engine is not what was meant."""
    home.docker.joinpath("config.json").write_text("{")
    with pytest.raises(BadEndpoint, match="docker's configuration is not JSON"):
        named(Wanted(), {"HOME": str(home.path)})


# Sockets, where nobody has named an engine


def look_at(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    monkeypatch.setattr(docker_endpoint, "sockets", lambda env: list(paths))


def test_sockets_are_looked_for_where_engines_have_them() -> None:
    """F5"""
    assert list(map(str, docker_endpoint.sockets({"XDG_RUNTIME_DIR": "/run/user/7"}))) == [
        "/var/run/docker.sock",
        "/run/user/7/docker.sock",
        "/run/user/7/podman/podman.sock",
        "/run/podman/podman.sock",
    ]


def test_first_socket_that_may_be_used_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5: of an engine of one's own, where that of the machine is for others."""
    none, others, own = (tmp_path / name for name in ("none", "others", "own"))
    others.touch()
    own.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path != others)
    assert docker_endpoint.find([none, others, own]) == Endpoint(
        f"unix://{own}", because=f"{own} is there"
    )
    only = docker_endpoint.find([none, others])
    assert only is not None
    assert only.url == f"unix://{others}", "that it may not be used is told when it is connected to"
    assert docker_endpoint.find([none]) is None


# The choice

Choose = Callable[..., choice.Choice]


@pytest.fixture
def choose(home: Home, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Choose by settings and environment, on a machine without an engine."""
    look_at(monkeypatch, home.path / "docker.sock", home.path / "podman.sock")

    def choose_by(settings: dict[str, Any] | None = None, **env: str) -> choice.Choice:
        env = {"HOME": str(home.path), **env}
        return choice.choose_engine(from_dict(settings or {}), "i", home.path, env)

    return choose_by


def test_local_processes_for_want_of_an_engine_are_a_warning(choose: Choose, home: Home) -> None:
    """F5: with all that was looked at, and what to do."""
    chosen = choose()
    assert chosen.engine.name == "process"
    assert chosen.warning is not None
    for said in ("no DOCKER_HOST", str(home.path / "docker.sock"), str(home.path / "podman.sock")):
        assert said in chosen.warning
    assert "`engine: process`" in chosen.warning


def test_local_processes_that_were_asked_for_are_none(choose: Choose) -> None:
    chosen = choose({"engine": "process"}, DOCKER_HOST="htp://x")
    assert (chosen.engine.name, chosen.warning) == ("process", None)


async def test_socket_that_is_found_is_the_engine(choose: Choose, home: Home) -> None:
    """F5"""
    (home.path / "podman.sock").touch()
    chosen = choose()
    assert (chosen.engine.name, chosen.warning) == ("docker", None)
    assert chosen.because.endswith("podman.sock is there")


@pytest.mark.parametrize(
    ("settings", "env", "said"),
    [
        ({}, {"DOCKER_CONTEXT": "nome"}, "no docker context 'nome'"),
        ({}, {"DOCKER_HOST": "htp://x"}, "DOCKER_HOST: the address does not begin"),
        ({"docker_context": NEAR}, {}, "the docker context near: the address does not begin"),
        ({}, {"DOCKER_HOST": HOST, "DOCKER_TLS_VERIFY": "1"}, "ca.pem, is missing"),
        ({"docker_host": HOST, "docker_context": NEAR}, {}, "docker_context: names another engine"),
    ],
)  # fmt: skip
def test_engine_that_was_named_and_cannot_be_used_is_never_passed_over(
    choose: Choose, home: Home, settings: dict[str, Any], env: dict[str, str], said: str
) -> None:
    """F5"""
    damage_context(home, '{"Name": "near", "Endpoints": {"docker": {"Host": "htp://x"}}}')
    (home.path / "docker.sock").touch()
    with pytest.raises(ConfigError, match=said):
        choose(settings, **env)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("unix:///run/docker.sock", ""),
        ("http+unix:///run/docker.sock", ""),
        ("tcp://host:2375", "host"),
        ("https://[::1]:2376", "::1"),
        ("ssh://me@host:22", "host"),
        ("192.0.2.1:2375", "192.0.2.1"),
        ("tcp://:2375", "127.0.0.1"),
    ],
)
def test_host_is_read_from_the_address(url: str, host: str) -> None:
    assert host_of(url) == host
