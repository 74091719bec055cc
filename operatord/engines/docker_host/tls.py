# SPDX-License-Identifier: MIT
"""The certificates for an encrypted connection to a Docker Engine, checked before they are needed."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple, NoReturn

CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"
"""The names that docker gives to an authority's certificate, to the client's, and to its key."""


class BadEndpoint(Exception):
    """The engine cannot be reached as configured. The sentence has no path of the host, since clients may
    read it: ``path`` is the file at fault.
    """

    def __init__(self, problem: str, path: Path | None = None) -> None:
        self.path = path
        super().__init__(problem)


class Tls(NamedTuple):
    """Files in PEM, as in a folder of docker's."""

    ca: Path | None = None
    """Certificates of the authorities that the engine's may be signed by; None for the public ones."""
    cert: Path | None = None
    """The client's certificate; None where the engine wants none."""
    key: Path | None = None
    verify: bool = True
    """Whether the engine has to prove who it is."""


def those_in(folder: Path, *, verify: bool) -> Tls:
    """Return what is in a folder; nothing is read."""
    ca, cert, key = (
        path if path.exists() else None for path in (folder / CA, folder / CERT, folder / KEY)
    )
    return Tls(ca, cert, key, verify)


def check(tls: Tls) -> None:
    """Read all of it. Raises `BadEndpoint`."""
    if tls.verify and tls.ca is not None:
        _check_authority(tls.ca)
    if tls.cert is not None and tls.key is not None:
        _check_client(tls.cert, tls.key)
    elif tls.cert is not None or tls.key is not None:
        there, missing = (KEY, CERT) if tls.cert is None else (CERT, KEY)
        raise BadEndpoint(
            f"beside {there} for the container engine, {missing} is missing: put it there, or remove the "
            "other",
            tls.cert or tls.key,
        )


def _check_authority(ca: Path) -> None:
    what = f"the authority's certificate for the container engine, {CA},"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca)
    except ssl.SSLError as exc:
        raise BadEndpoint(f"{what} holds no certificate in PEM", ca) from exc
    except OSError as exc:
        _cannot_read(what, ca, exc)


def _check_client(cert: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, _no_passphrase)
    except ssl.SSLError as exc:
        raise BadEndpoint(
            f"{CERT} and {KEY} for the container engine do not belong together, or one of them is damaged: "
            "they must be a certificate and its key, in PEM",
            cert,
        ) from exc
    except _ProtectedError as exc:
        raise BadEndpoint(
            f"the client's key for the container engine, {KEY}, has a passphrase, which a daemon cannot "
            "type; write it without one (openssl pkey)",
            key,
        ) from exc
    except OSError as exc:
        unreadable = cert if not os.access(cert, os.R_OK) else key
        what = f"{unreadable.name}, of the client's certificate for the container engine,"
        _cannot_read(what, unreadable, exc)


class _ProtectedError(Exception):
    """A key has a passphrase."""


def _no_passphrase() -> NoReturn:
    raise _ProtectedError


def _cannot_read(what: str, path: Path, exc: OSError) -> NoReturn:
    if isinstance(exc, FileNotFoundError):
        raise BadEndpoint(
            f"{what} is missing: put it there, or set docker_cert_path or DOCKER_CERT_PATH to its folder",
            path,
        ) from exc
    raise BadEndpoint(f"{what} cannot be read: {exc.strerror}", path) from exc
