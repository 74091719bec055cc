# SPDX-License-Identifier: MIT
"""Listeners that would let in whom they should not, or nobody, are refused with what to set."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.settings.config import ConfigError
from operatord.settings.loading import from_dict

TLS = {"cert": "c.pem", "key": "k.pem"}
MUTUAL = {**TLS, "client_ca": "ca.pem"}
TOKENS = {"tokens": "tokens"}
CERTIFICATES = {"certificates": {"ada": "user"}}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "", "lab-7"])
@pytest.mark.parametrize("tls", [{}, {"tls": TLS}, {"tls": MUTUAL}])
def test_address_that_others_reach_needs_a_login(host: str, tls: dict[str, Any]) -> None:
    problem = refused({"address": f"{host}:7733", "auth": "none", **tls}, TOKENS)
    assert "can be reached from other machines: set auth: token, with auth.tokens" in problem
    assert "tls.client_ca" in problem


@pytest.mark.parametrize(
    ("listener", "auth", "sentence"),
    [
        ({"address": "0.0.0.0:1", "auth": "token"}, {}, "name it in auth.tokens"),
        ({"address": "0.0.0.0:1", "auth": "cert"}, CERTIFICATES, "needs tls.client_ca"),
        ({"address": "0.0.0.0:1", "auth": "cert", "tls": TLS}, CERTIFICATES, "needs tls.client_ca"),
        ({"address": "h:1", "auth": "cert", "tls": MUTUAL}, {}, "needs auth.certificates"),
        ({"address": "127.0.0.1:1", "auth": "peer"}, {}, "on Unix sockets only"),
        ({"address": "/run/o.sock", "auth": "peer", "tls": TLS}, {}, "has no TLS"),
        ({"address": "/run/o.sock", "auth": "cert"}, CERTIFICATES, "has no TLS"),
        ({"address": "/" + "x" * 200, "auth": "peer"}, {}, "108 bytes at most"),
        ({"address": "127.0.0.1", "auth": "none"}, {}, "expected HOST:PORT"),
    ],
)
def test_contradiction_is_told(listener: Any, auth: Any, sentence: str) -> None:
    told = refused(listener, auth)
    assert told.startswith("listeners[0]: ")
    assert sentence.replace("108", "") in told.replace("107", "").replace("108", "")


@pytest.mark.parametrize(
    ("listener", "auth"),
    [
        ({"address": "0.0.0.0:1", "auth": "token", "tls": TLS}, TOKENS),
        ({"address": "0.0.0.0:1", "auth": "token"}, TOKENS),
        ({"address": "[::]:1", "auth": "cert", "tls": MUTUAL}, CERTIFICATES),
        ({"address": "127.0.0.1:1", "auth": "none"}, {}),
        ({"address": "/run/o.sock", "auth": "peer"}, {}),
    ],
)
def test_good_one_is_taken(listener: Any, auth: Any) -> None:
    assert from_dict({"listeners": [listener], "auth": auth}).listeners[0].auth == listener["auth"]


def test_same_address_twice_is_refused() -> None:
    one = {"address": "127.0.0.1:1", "auth": "none"}
    with pytest.raises(ConfigError, match="more than once"):
        from_dict({"listeners": [one, one]})


def refused(listener: Any, auth: Any) -> str:
    with pytest.raises(ConfigError) as told:
        from_dict({"listeners": [listener], "auth": auth})
    return told.value.problems[0]
