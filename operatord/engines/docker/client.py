# SPDX-License-Identifier: MIT
"""The edge to docker-py: the only module that imports it, for the engine and the swarm alike.

Clients are created, lent and dropped here; `edge` translates all exceptions of docker-py and requests.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

from operatord.engines.docker_host import light_requests  # isort: skip  # noqa: F401 (before docker-py)
import requests
import urllib3
from docker import APIClient
from docker.auth import get_config_header, resolve_repository_name
from docker.errors import (
    APIError,
    DockerException,
    ImageNotFound,
    create_api_error_from_http_exception,
)
from docker.tls import TLSConfig
from docker.transport.unixconn import UnixHTTPAdapter
from docker.utils import parse_host, parse_repository_tag
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, InsecureRequestWarning
from urllib3.util.ssl_ import create_urllib3_context

from operatord.engines.base import (
    EngineError,
    EngineInfo,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    NotThere,
)
from operatord.engines.docker_host.endpoint import Endpoint
from operatord.engines.docker_host.ssh import SshConnections, last_words
from operatord.engines.docker_host.tls import Tls
from operatord.engines.docker_host.versions import NEWEST, negotiate, read_as_engines, refused

from .bodies import engine_info, is_podman
from .errors import in_one_line, refusal
from .reach import unreachable

__all__ = [
    "APIClient",
    "APIError",
    "Clients",
    "ImageNotFound",
    "edge",
    "post_json",
    "registry_login",
]

log = logging.getLogger(__name__)

_IDLE_CLIENTS = 16
_NOWHERE = "/dev/null"
"""A path that is no socket."""


@contextlib.contextmanager
def edge(during: str, subject: str) -> Iterator[None]:
    """Turn what docker-py and requests raise into the errors of `base`."""
    try:
        yield
    except requests.HTTPError as exc:  # docker-py's APIError is one
        status, sentence = exc.response.status_code, in_one_line(_sentence(exc))
        error = refused(sentence) or refusal(during, status, sentence, subject)
        log.log(
            _level(error, during),
            "%s: the engine says, with status %d: %s",
            error,
            status,
            sentence,
        )
        raise error from exc
    except EngineError:
        raise
    except (requests.RequestException, HTTPError, DockerException, OSError) as exc:
        raise unreachable(exc) from exc
    except Exception as exc:  # whatever a library raises must not end the engine's monitor
        log.exception("the way to the engine broke in an unexpected way, during: %s", during)
        raise EngineSilent(
            "the connection to the container engine broke in an unexpected way"
        ) from exc


def registry_login(client: APIClient, image: str) -> tuple[str, str, dict[str, str]]:
    """Return an image's name, its tag, and headers with the login that docker's settings have.

    A digest stays with the name, as Podman takes none for a tag.
    """
    name, tag = parse_repository_tag(image)
    registry, _ = resolve_repository_name(name)
    login = get_config_header(client, registry)
    headers = {} if login is None else {"X-Registry-Auth": login.decode()}
    return (image, "", headers) if "@" in image else (name, tag or "latest", headers)


def post_json(client: APIClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a call that docker-py does not know. Raises `APIError`."""
    response = client.post(f"{client.base_url}{path}", json=body, timeout=client.timeout)
    try:
        response.raise_for_status()
    except requests.HTTPError as exc:
        raise create_api_error_from_http_exception(exc) from exc
    answer: dict[str, Any] = response.json()
    return answer


def _sentence(exc: requests.HTTPError) -> str:
    return str(getattr(exc, "explanation", None) or exc.response.text)


def _level(error: EngineError, during: str) -> int:
    """Return the log level of a refusal: that an object is gone is mostly expected.

    Who connects is told why that fails, tries again every other second, and logs each new reason once.
    """
    expected = during == "connect" or isinstance(error, (NotThere, ImageMissing))
    return logging.DEBUG if expected else logging.WARNING


class Clients:
    """The idle clients; a client is used by one thread at a time, and keeps one connection."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        """Make clients of an engine, whose calls take ``timeout`` seconds at most. No I/O yet."""
        self._tls = library_tls(endpoint.tls)
        self._url = str(parse_host(endpoint.url, tls=bool(self._tls)))
        self._ssh = SshConnections(self._url) if self._url.startswith("ssh://") else None
        self._timeout: Any = timeout  # docker-py's stubs want an int, requests takes a float
        self.podman = False
        """Whether the engine that was connected to last is Podman."""
        self._version: str | None = None
        self._lock = threading.Lock()
        self._idle: list[APIClient] = []
        self._pinging: APIClient | None = None
        self._generation = 0

    def allow(self, timeout: float) -> None:
        """Set how many seconds calls may take from now on; those that are under way keep what they have."""
        self._timeout = timeout
        self.drop()

    def connect(self) -> EngineInfo:
        """Drop all clients, and agree with the engine on an API version."""
        self.drop()
        with contextlib.closing(self._new(NEWEST)) as client:
            with edge("connect", "the engine"):
                version = client.version(api_version=False)
            with read_as_engines():
                self._version, self.podman = negotiate(version), is_podman(version)
        with self.lease() as client:
            with edge("connect", "the engine"):
                info = client.info()
            with read_as_engines():
                return engine_info(version, info, self._version, self._url)

    def ping(self) -> None:
        """Make sure that the engine takes a new connection, and answers on it. For one thread at a time."""
        client = self._pinging
        if client is None:
            # Kept, because creating one takes longer than a ping; it is not connected in between.
            client = self._pinging = self.make()
            if self._ssh is None:  # over ssh, connecting takes longer than most answers
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

    def close(self) -> None:
        """Close all that is idle, and what leads to the engine's host. Idempotent."""
        self.drop()
        if self._ssh is not None:
            self._ssh.close()

    def _take_back(self, client: APIClient, generation: int) -> None:
        with self._lock:
            if generation == self._generation and len(self._idle) < _IDLE_CLIENTS:
                self._idle.append(client)
                return
        client.close()

    def _new(self, version: str) -> APIClient:
        # For ssh, docker-py would connect at once, for each client; what it makes here is never connected.
        base = f"unix://{_NOWHERE}" if self._ssh is not None else self._url
        with edge("connect", "the engine"):
            client = APIClient(base, version=version, timeout=self._timeout, tls=self._tls)
        client.trust_env = False  # no proxies or netrc on the way to the engine
        client.max_redirects = 0  # nor anywhere that somebody else's answer says
        if self._ssh is not None:
            client.base_url = "http+docker://ssh"  # or docker-py would treat a channel as a socket
            opened = partial(_SshConnection, self._ssh, self._timeout)
            client.mount("http+docker://", _OneConnection(base, opened))
        elif self._url.startswith("http+unix://"):
            client.mount(
                "http+docker://",
                _OneConnection(self._url, partial(_Connection, self._url, self._timeout)),
            )
        elif self._tls and self._tls.verify:
            client.mount("https://", _AsDockerTrusts())
        return client


def library_tls(tls: Tls | None) -> TLSConfig | Literal[False]:
    """Return it as docker-py takes it. Raises `EngineUnavailable` if a file of it has gone."""
    if tls is None:
        return False
    if not tls.verify:  # or each request would warn, although it was asked for
        urllib3.disable_warnings(InsecureRequestWarning)
    pair = (str(tls.cert), str(tls.key)) if tls.cert and tls.key else None
    with edge("connect", "the engine"):
        ca = str(tls.ca) if tls.ca else None
        return TLSConfig(client_cert=pair, ca_cert=ca, verify=tls.verify)


class _AsDockerTrusts(HTTPAdapter):
    """Accepts the certificates that the docker command accepts. From Python 3.13 on, an authority's
    certificate has to state its key usage (RFC 5280, section 4.2.1.3); those made as Docker's documentation
    describes do not.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools with a context that is not strict."""
        context = create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        super().init_poolmanager(*args, ssl_context=context, **kwargs)


class _OneConnection(UnixHTTPAdapter):
    """docker-py keeps a connection for each URL it ever asked for; here there is one for all."""

    def __init__(self, url: str, make: Callable[[], HTTPConnection]) -> None:
        super().__init__(url)
        self._make = make

    def get_connection(self, url: bytes | str, proxies: object = None) -> Any:
        with self.pools.lock:
            pool = self.pools.get(self.socket_path)
            if pool is None:
                pool = self.pools[self.socket_path] = _Pool(self._make)
            return pool


class _Pool(HTTPConnectionPool):
    def __init__(self, make: Callable[[], HTTPConnection]) -> None:
        super().__init__("localhost", maxsize=1)
        self._make = make

    def _new_conn(self) -> Any:  # urllib3 and docker-py name different types for it
        return self._make()


class _Connection(HTTPConnection):
    def __init__(self, url: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = url.removeprefix("http+unix://")

    def connect(self) -> None:
        """Connect. Unlike docker-py's, a socket that is not connected is closed."""
        with contextlib.ExitStack() as on_failure:
            sock = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.settimeout(self.timeout)
            sock.connect(self._path)
            on_failure.pop_all()
        self.sock = sock


class _SshConnection(HTTPConnection):
    def __init__(self, ssh: SshConnections, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._ssh, self._seconds = ssh, timeout

    def connect(self) -> None:
        self.sock = self._ssh.open(self._seconds)

    def getresponse(self) -> Any:
        """Return the answer. If none comes, the command at the other end has often printed why."""
        channel = self.sock
        try:
            return super().getresponse()
        except (http.client.HTTPException, ConnectionError) as exc:
            raise last_words(channel) or exc from exc
