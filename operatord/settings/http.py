# SPDX-License-Identifier: MIT
"""Settings about HTTP: where the gateway listens, who has to log in there, and which names it is known by."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import msgspec

from operatord_protocol.hosts import host_problem

from .listeners import Auth, ListenerTls, is_loopback

EXAMPLE = "127.0.0.1:5000"
NEEDS = "aiohttp"
"""What the extra ``http`` brings."""


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gateway that a daemon starts; without ``listen``, none."""

    listen: str | None = None
    """``HOST:PORT``."""
    tls: ListenerTls | None = None
    auth: Literal["none", "token"] | None = None
    """None: a token where there are any, see `Auth.tokens`."""
    hosts: list[str] = []
    """Names that it is reached by, besides this machine's addresses."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``, which is set."""
        host, _, port = (self.listen or "").rpartition(":")
        return host.strip("[]"), int(port)

    def asks(self, auth: Auth) -> bool:
        """Tell whether a token is asked for."""
        return self.auth == "token" or (self.auth is None and auth.tokens is not None)


def http_problems(http: HttpSettings, auth: Auth) -> list[str]:
    """Return what is wrong, as sentences."""
    found = [f"http.hosts: {why}" for each in http.hosts if (why := host_problem(each))]
    if http.listen is not None:
        found += [f"http.listen: {why}" for why in [_listen_problem(http, auth)] if why]
    if http.auth == "token" and auth.tokens is None:
        found.append("http.auth: token needs a file of tokens; name it in auth.tokens")
    return found


def _listen_problem(http: HttpSettings, auth: Auth) -> str | None:
    host, colon, port = (http.listen or "").rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        return f"expected HOST:PORT such as {EXAMPLE}, got {http.listen!r}"
    if not http.asks(auth) and not is_loopback(host.strip("[]")):
        return (
            f"{host or 'every address'} can be reached from other machines: set http.auth: token, with "
            "auth.tokens; or listen on 127.0.0.1"
        )
    return None


def lacks_extra(http: HttpSettings) -> str | None:
    """Return what to install for HTTP, as a sentence; None if all is there, or nothing is wanted."""
    if http.listen is None or find_spec(NEEDS) is not None:
        return None
    return "http.listen: HTTP needs the extra http: pip install 'operatord[http]'"
