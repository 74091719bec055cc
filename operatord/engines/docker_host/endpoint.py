# SPDX-License-Identifier: MIT
"""Which Docker Engine is meant, found as the docker command does: its address, and its certificates. The
first of these that names one counts: the settings, ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context
of docker's own configuration, a socket where engines have theirs. Nothing is connected to, and docker-py,
which takes a tenth of a second to import, is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from . import contexts
from .tls import CA, Tls, those_in

DEFAULT_SOCKET = Path("/var/run/docker.sock")
_CAN_BE_ENCRYPTED = ("tcp", "http", "https")


class Endpoint(NamedTuple):
    """An engine's address, and how to speak to it."""

    url: str
    """``unix://``, ``tcp://``, ``http://``, ``https://`` or ``ssh://``."""
    tls: Tls | None = None
    """None where only the address says how to connect."""
    source: str = ""
    """Who named it: a setting, a variable, a context; "" where it was found."""
    because: str = ""
    """Why it is that one, as a phrase."""


class Wanted(NamedTuple):
    """What the settings say; None leaves it to the environment."""

    host: str | None = None
    context: str | None = None
    cert_path: str | None = None
    tls_verify: bool | None = None
    tls: bool | None = None


def named(wanted: Wanted, env: Mapping[str, str]) -> Endpoint | None:
    """Return the engine that settings, environment or a context name; None if they name none. The address and
    the certificates are not checked. Raises `BadEndpoint` for a context that is not there, or cannot be read.
    """
    host, source = wanted.host, "docker_host"
    context, context_source = wanted.context or None, "docker_context"
    if not host and context in (None, contexts.DEFAULT):
        host, source = env.get("DOCKER_HOST"), "DOCKER_HOST"
        if not host and context is None:
            context, context_source = contexts.current(env)
    if host:
        tls = _tls(wanted, env) if _can_be_encrypted(host) else None
        return Endpoint(host, tls, source, f"{source} is set")
    if context in (None, contexts.DEFAULT):
        return None
    assert context is not None
    url, tls = contexts.find(context, context_source, env)
    url = url or f"unix://{DEFAULT_SOCKET}"
    tls = tls if _can_be_encrypted(url) else None
    return Endpoint(url, tls, f"the docker context {context}", f"{context_source} is {context}")


def sockets(env: Mapping[str, str]) -> list[Path]:
    """Return where engines have their sockets, Docker and Podman, of the machine and the user."""
    own = Path(env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    return [
        DEFAULT_SOCKET,
        own / "docker.sock",
        own / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    ]


def find(paths: list[Path]) -> Endpoint | None:
    """Return the engine behind the first socket that this user may use; failing that, the first that
    exists."""
    # Unlike pathlib's, this treats a path that may not be read as absent.
    there = [path for path in paths if os.path.exists(path)]  # noqa: PTH110
    usable = [path for path in there if os.access(path, os.R_OK | os.W_OK)]
    for path in (*usable, *there):
        return Endpoint(f"unix://{path}", because=f"{path} is there")
    return None


def _can_be_encrypted(url: str) -> bool:
    """Tell whether TLS is possible for an address; one without a scheme counts as TCP."""
    return url.partition("://")[0].lower() in _CAN_BE_ENCRYPTED or "://" not in url


def _tls(wanted: Wanted, env: Mapping[str, str]) -> Tls | None:
    """Return what settings and environment want; as for docker, any value of a variable means yes."""
    verify = bool(env.get("DOCKER_TLS_VERIFY")) if wanted.tls_verify is None else wanted.tls_verify
    encrypt = bool(env.get("DOCKER_TLS")) if wanted.tls is None else wanted.tls
    if not (verify or encrypt):
        return None
    folder = wanted.cert_path or env.get("DOCKER_CERT_PATH") or contexts.config_dir(env)
    tls = those_in(Path(folder).expanduser(), verify=verify)
    return tls._replace(ca=Path(folder).expanduser() / CA) if verify else tls


def host_of(url: str) -> str:
    """Return the host in an address; "" where that is this machine's own socket."""
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    return "" if "unix" in parts.scheme else parts.hostname or "127.0.0.1"
