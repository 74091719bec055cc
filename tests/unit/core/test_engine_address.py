# SPDX-License-Identifier: MIT
"""Addresses that can be a container engine's, and those that cannot."""

from __future__ import annotations

import pytest
from docker.errors import DockerException
from docker.utils import parse_host

from operatord.core.engine_address import EXAMPLE, problem

GOOD = [
    "unix:///run/docker.sock", "unix:///var/run/docker.sock", "unix://run/docker.sock",
    "http+unix:///run/docker.sock", f"unix:///{'x' * 106}", "tcp://127.0.0.1:2375", "tcp://[::1]:2375", "tcp://host.example:1",
    "tcp://:2375", "TCP://host:65535", "http://host:2375", "https://host:2376", "tcp://host:2375/behind",
    "ssh://me@host", "ssh://host:22", "127.0.0.1:2375",
]  # fmt: skip
BAD = {
    "docker.sock": "does not say how",
    "/run/docker.sock": "does not say how",
    "./docker.sock": "does not say how",
    "localhost:2375": "does not say how",
    "localhost": "does not say how",
    "tcp:/host:1": "does not say how",
    "tcp://localhost": "names no port",
    "tcp://localhost:": "names no port",
    "tcp://localhost:0": "names no port",
    "tcp://": "names no port",
    "http://host": "names no port",
    "tcp://host:port": "no host and port that can be understood",
    "tcp://host:65536": "no host and port that can be understood",
    "tcp://host:-1": "no host and port that can be understood",
    "tcp://[::1:2375": "no host and port that can be understood",
    "unix://": "names no socket",
    "unix:///": "names no socket",
    f"unix:///{'x' * 107}": "the most that are possible",
    f"unix:///{'é' * 54}": "the most that are possible",
    "unix:///run/docker.sock?x=1": "behind a ? or #",
    "tcp://host:2375#x": "behind a ? or #",
    "ssh://": "names no host",
    "htp://x": "does not begin with",
    "://": "does not begin with",
    "fd://": "does not begin with",
    "npipe:////./pipe/docker_engine": "does not begin with",
    " ": "white space",
    "tcp://ho st:2375": "white space",
    "unix:///run/docker.sock\n": "control characters",
    "unix:///run/\x1b[31m": "control characters",
}


@pytest.mark.parametrize("address", GOOD)
def test_address_that_the_library_takes_is_taken(address: str) -> None:
    """F12"""
    assert problem(address) is None
    parse_host(address)


@pytest.mark.parametrize("address", BAD)
def test_address_that_is_none_is_a_sentence_with_an_example(address: str) -> None:
    """F12: it does not quote what was given, which may be a path."""
    said = problem(address)
    assert said is not None
    assert BAD[address] in said
    assert said.endswith(EXAMPLE)


@pytest.mark.parametrize("address", BAD)
def test_nothing_that_the_library_cannot_read_gets_to_it(address: str) -> None:
    """F12: what it raises, some of it no error of its own, is met beforehand."""
    try:
        parse_host(address)
    except (DockerException, ValueError):
        assert problem(address) is not None
