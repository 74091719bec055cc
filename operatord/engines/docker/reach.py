# SPDX-License-Identifier: MIT
"""Why a Docker Engine cannot be reached, as a table: what went wrong, and what to do about it. The operating
system's error is at the bottom of several libraries' exceptions, which wrap it in different ways. The
sentences name the kind of trouble, but no path, since clients read them. The log has everything.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from operatord.engines.docker_host import light_requests  # isort: skip  # noqa: F401 (before docker-py)
import requests
from docker.errors import TLSParameterError

from operatord.engines.base import (
    DESCRIPTORS_GONE,
    EngineSilent,
    EngineUnavailable,
    NoDescriptors,
)
from operatord.engines.causes import below
from operatord.engines.docker_host.ssh import SshFailed

SETTINGS = "docker_host or DOCKER_HOST, or the docker context"
_CERTIFICATES = "docker_cert_path or DOCKER_CERT_PATH, or the docker context"


class SilenceRule(NamedTuple):
    """One row: when ``fits`` holds for anything below the exception, it is ``kind`` with this sentence."""

    fits: Callable[[BaseException], bool]
    sentence: str
    kind: type[EngineUnavailable] = EngineUnavailable


def _is(*types: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda exc: isinstance(exc, types)


def _errno(*numbers: int) -> Callable[[BaseException], bool]:
    return lambda exc: isinstance(exc, OSError) and exc.errno in numbers


def _says(*texts: str) -> Callable[[BaseException], bool]:
    return lambda exc: any(text in str(exc).lower() for text in texts)


def _verified(*codes: int) -> Callable[[BaseException], bool]:
    return lambda exc: getattr(exc, "verify_code", None) in codes


# Of OpenSSL, x509_vfy.h.
_NOT_YET_VALID, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64


def _answers_as_no_engine(exc: BaseException) -> bool:
    """Tell whether the answer was neither empty nor HTTP with JSON."""
    strange = isinstance(exc, http.client.BadStatusLine | json.JSONDecodeError)
    return strange and not isinstance(exc, ConnectionError)


# Read from the top; the first row that fits wins.
RULES = (
    SilenceRule(
        _is(PermissionError),
        "this user may not use the container engine's socket: add it to the group that owns the socket, "
        "most often docker (usermod -aG docker USER, then log in anew), or run operatord as a user who may",
    ),
    SilenceRule(
        _is(FileNotFoundError, NotADirectoryError),
        f"the container engine's socket is not there: start the engine, or correct {SETTINGS}",
    ),
    SilenceRule(
        _is(ConnectionRefusedError),
        "the connection to the container engine is refused, because nothing listens at its address: start "
        "the "
        f"engine, or correct {SETTINGS}",
    ),
    SilenceRule(
        _verified(_EXPIRED),
        "the container engine's certificate has expired: have a new one made, or set this machine's clock",
    ),
    SilenceRule(
        _verified(_NOT_YET_VALID),
        "the container engine's certificate is not valid yet: set this machine's clock, or the engine's",
    ),
    SilenceRule(
        _verified(_OTHER_HOST, _OTHER_ADDRESS),
        f"the container engine's certificate is for another host than the one in {SETTINGS}: use the name "
        "in its certificate (subjectAltName), or have a certificate made for this one",
    ),
    SilenceRule(
        _is(ssl.SSLCertVerificationError),
        "the container engine's certificate is not trusted, because no known authority has signed it: put "
        f"the certificate of its authority, ca.pem, where {_CERTIFICATES} looks, and set "
        "DOCKER_TLS_VERIFY=1 or docker_tls_verify",
    ),
    SilenceRule(
        _says("wrong_version_number", "record_layer_failure", "packet length too long"),
        f"the container engine does not speak TLS: unset DOCKER_TLS_VERIFY and docker_tls_verify, or write "
        f"tcp:// instead of https:// in {SETTINGS}",
    ),
    SilenceRule(
        _says("certificate_required", "certificate required"),
        "the container engine wants a client's certificate: put cert.pem and key.pem where "
        f"{_CERTIFICATES} looks",
    ),
    SilenceRule(
        _says("certificate_expired", "certificate expired"),
        "the container engine refuses the client's certificate, cert.pem, because it has expired: have a new "
        "one made, or set the clocks of both machines",
    ),
    SilenceRule(
        _says(
            "bad_certificate", "bad certificate", "unknown_ca", "unknown ca", "certificate_unknown"
        ),
        "the container engine refuses the client's certificate, cert.pem: there is none, it has expired, "
        "or the engine does not trust the authority that has signed it; put the right one where "
        f"{_CERTIFICATES} looks",
    ),
    SilenceRule(
        _is(ssl.SSLError, requests.exceptions.SSLError),
        "the container engine and operatord cannot agree on an encrypted connection: check the "
        f"certificates where {_CERTIFICATES} looks",
    ),
    SilenceRule(
        _is(TLSParameterError),
        f"a certificate or key for the container engine is not there any more: {_CERTIFICATES} names where",
    ),
    SilenceRule(
        _is(socket.gaierror),
        f"the name of the container engine's host is not known: correct it in {SETTINGS}",
    ),
    SilenceRule(
        _errno(errno.EHOSTUNREACH, errno.ENETUNREACH),
        f"the container engine's host cannot be reached: check the network, or correct {SETTINGS}",
    ),
    SilenceRule(
        _is(requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema),
        f"the container engine's address cannot be used: correct {SETTINGS}",
    ),
    SilenceRule(
        _is(requests.exceptions.TooManyRedirects),
        "what answers at the container engine's address sends on to another one, as no container engine "
        f"does; it is not followed: correct {SETTINGS}",
    ),
    SilenceRule(
        _answers_as_no_engine,
        f"what answers at the container engine's address is not a container engine: correct {SETTINGS}",
    ),
    SilenceRule(
        _is(TimeoutError, requests.exceptions.Timeout, BlockingIOError),
        "the container engine did not answer in time",
        EngineSilent,
    ),
)
_BROKEN_OFF = SilenceRule(
    lambda _: True, "the connection to the container engine was broken off", EngineSilent
)


def unreachable(exc: BaseException) -> EngineUnavailable:
    """Return the error of `base` for an exception of docker-py, requests or the system."""
    causes = list(below(exc))
    # Not a row of the table: this process is short of something, whichever error that led to.
    if any(isinstance(each, OSError) and each.errno in DESCRIPTORS_GONE for each in causes):
        return NoDescriptors()
    for each in causes:
        if isinstance(each, SshFailed):
            return EngineUnavailable(str(each))
    rule = next((rule for rule in RULES if any(map(rule.fits, causes))), _BROKEN_OFF)
    return rule.kind(rule.sentence)
