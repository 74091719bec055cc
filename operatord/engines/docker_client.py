# SPDX-License-Identifier: MIT
"""The edge to docker-py: the only module that imports it, for the engine and the swarm alike.

Clients are made, lent and dropped here, and no exception of docker-py or requests gets past `edge`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any, Literal

import requests
import urllib3
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import parse_host

from operatord.engines.base import (
    EngineError,
    EngineInfo,
    EngineUnavailable,
    ImageMissing,
    NotThere,
)
from operatord.engines.docker_bodies import engine_info
from operatord.engines.docker_endpoint import Endpoint
from operatord.engines.docker_errors import in_one_line, refusal
from operatord.engines.docker_reach import unreachable
from operatord.engines.docker_tls import Tls

__all__ = ["APIClient", "APIError", "Clients", "edge"]

log = logging.getLogger(__name__)

_IDLE_CLIENTS = 16


@contextlib.contextmanager
def edge(during: str, subject: str) -> Iterator[None]:
    """Turn what docker-py and requests raise into the errors of `base`."""
    try:
        yield
    except requests.HTTPError as exc:  # docker-py's APIError is one
        status, sentence = exc.response.status_code, in_one_line(_sentence(exc))
        error = refusal(during, status, sentence, subject)
        log.log(_level(error), "%s: the engine says, with status %d: %s", error, status, sentence)
        raise error from exc
    except (requests.RequestException, DockerException, OSError) as exc:
        raise unreachable(exc) from exc


def _sentence(exc: requests.HTTPError) -> str:
    return str(getattr(exc, "explanation", None) or exc.response.text)


def _level(error: EngineError) -> int:
    """Return how loud a refusal is: what is looked for and gone is no news, and most often expected."""
    return logging.DEBUG if isinstance(error, (NotThere, ImageMissing)) else logging.WARNING


class Clients:
    """The idle clients; a client is used by one thread at a time, and keeps one connection."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        """Make clients of an engine, whose calls take ``timeout`` seconds at most. No I/O yet."""
        self._tls = library_tls(endpoint.tls)
        self._url = str(parse_host(endpoint.url, tls=bool(self._tls)))
        self._timeout: Any = timeout  # docker-py's stubs want an int, requests takes a float
        self._version: str | None = None
        self._lock = threading.Lock()
        self._idle: list[APIClient] = []
        self._pinging: APIClient | None = None
        self._generation = 0

    def allow(self, timeout: float) -> None:
        """Let calls take so many seconds from now on; those that are under way keep what they have."""
        self._timeout = timeout
        self.drop()

    def connect(self) -> EngineInfo:
        """Drop all clients, and settle the version of the interface that both sides speak."""
        self.drop()
        with contextlib.closing(self._new(DEFAULT_DOCKER_API_VERSION)) as client:
            with edge("connect", "the engine"):
                version = client.version(api_version=False)
            self._version = min(version["ApiVersion"], DEFAULT_DOCKER_API_VERSION, key=_as_numbers)
        with self.lease() as client, edge("connect", "the engine"):
            return engine_info(version, client.info(), self._version)

    def ping(self) -> None:
        """Make sure that the engine takes a new connection, and answers on it. For one thread at a time."""
        client = self._pinging
        if client is None:
            # Kept, because to make one takes longer than to ping; it has no connection in between.
            client = self._pinging = self.make()
            client.headers["Connection"] = "close"
        with edge("connect", "the engine"):
            client.ping()

    def make(self) -> APIClient:
        """Return a client that belongs to the caller, who closes it."""
        if self._version is None:
            raise EngineUnavailable("the engine has not been connected to yet")
        return self._new(self._version)

    @contextlib.contextmanager
    def lease(self) -> Iterator[APIClient]:
        """Lend a client, new or idle."""
        with self._lock:
            generation = self._generation
            client = self._idle.pop() if self._idle else None
        client = client or self.make()
        try:
            yield client
        finally:
            self._take_back(client, generation)

    def drop(self) -> None:
        """Close the idle clients now, and those that are lent out when they come back."""
        with self._lock:
            self._generation += 1
            idle, self._idle, self._pinging = self._idle, [], None
        for client in idle:
            client.close()

    def _take_back(self, client: APIClient, generation: int) -> None:
        with self._lock:
            if generation == self._generation and len(self._idle) < _IDLE_CLIENTS:
                self._idle.append(client)
                return
        client.close()

    def _new(self, version: str) -> APIClient:
        with edge("connect", "the engine"):
            client = APIClient(self._url, version=version, timeout=self._timeout, tls=self._tls)
        client.trust_env = False  # no proxies or netrc on the way to the engine
        if self._url.startswith("http+unix://"):
            client.mount("http+docker://", _OneConnection(self._url, self._timeout, 1, 1))
        return client


def library_tls(tls: Tls | None) -> TLSConfig | Literal[False]:
    """Return it as docker-py takes it. Raises `EngineUnavailable` if a file of it has gone."""
    if tls is None:
        return False
    if not tls.verify:  # or each request would say so; it was asked for
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    pair = (str(tls.cert), str(tls.key)) if tls.cert and tls.key else None
    with edge("connect", "the engine"):
        ca = str(tls.ca) if tls.ca else None
        return TLSConfig(client_cert=pair, ca_cert=ca, verify=tls.verify)


class _OneConnection(UnixHTTPAdapter):
    """docker-py keeps a connection for each URL it ever asked for; here there is one for all."""

    def get_connection(self, url: bytes | str, proxies: object = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            pool = self.pools.get(self.socket_path)
            if pool is None:
                pool = _Pool(self.socket_path, self.socket_path, self.timeout, maxsize=1)
                self.pools[self.socket_path] = pool
            return pool


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:  # urllib3 and docker-py name different types for it
        timeout: Any = self.timeout
        return _Connection(self.base_url, self.socket_path, timeout)


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        """Connect. Unlike docker-py's, a socket that is not connected is closed."""
        with contextlib.ExitStack() as on_failure:
            sock = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
            on_failure.pop_all()
        self.sock = sock


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
