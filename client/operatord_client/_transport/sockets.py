# SPDX-License-Identifier: MIT
"""Opens connections, and turns the operating system's errors into sentences of ours."""

from __future__ import annotations

import asyncio
import socket
import ssl

from operatord_client.address import Address, Tls, Unix
from operatord_client.errors import Unreachable

from .alerts import said_of_certificate
from .tunnel import tunnelled

STREAM_BUFFER = 1024 * 1024
"""Bytes that an asyncio stream may hold before it stops reading."""


def open_socket(address: Address, timeout: float | None, error: type[Unreachable]) -> socket.socket:
    """Return a connected, blocking socket. Raises ``error`` after at most ``timeout`` seconds."""
    try:
        sock = _connect(address, timeout)
    except OSError as exc:
        raise error(_sentence(address, exc)) from exc
    sock.settimeout(None)
    return sock


def _connect(address: Address, timeout: float | None) -> socket.socket:
    if not isinstance(address, Unix):
        sock = socket.create_connection(address[:2], timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _encrypted(sock, address) if isinstance(address, Tls) else sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address.path)
    except BaseException:
        sock.close()
        raise
    return sock


def _encrypted(sock: socket.socket, address: Tls) -> socket.socket:
    try:
        return tunnelled(
            _context(address).wrap_socket(sock, server_hostname=address.name or address.host)
        )
    except BaseException:
        sock.close()
        raise


def _context(address: Tls) -> ssl.SSLContext:
    """Return the TLS context. Raises `OSError`."""
    context = ssl.create_default_context(cafile=address.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.cert is not None:
        context.load_cert_chain(address.cert, address.key)
    return context


async def open_streams(
    address: Address, timeout: float | None, error: type[Unreachable]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio's two ends. Raises ``error`` after at most ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            if isinstance(address, Unix):
                return await asyncio.open_unix_connection(address.path, limit=STREAM_BUFFER)
            if not isinstance(address, Tls):
                return await asyncio.open_connection(*address, limit=STREAM_BUFFER)
            return await asyncio.open_connection(
                *address[:2],
                ssl=_context(address),
                server_hostname=address.name or address.host,
                limit=STREAM_BUFFER,
            )
    except OSError as exc:  # TimeoutError is one of them
        raise error(_sentence(address, exc)) from exc


def _sentence(address: Address, exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        hint = "name the authority that has signed it: --ca, OPERATORD_CA or Tls(ca=…)"
        return f"the certificate of {address} is not trusted: {exc.verify_message}; {hint}"
    if isinstance(exc, ssl.SSLError):
        return said_of_certificate(exc) or _of_tls(address, exc)
    if (
        exc.errno
        and isinstance(address, Tls)
        and isinstance(exc, FileNotFoundError | PermissionError)
    ):
        files = ", ".join(filter(None, address[2:5]))
        return f"a file for {address} cannot be read ({files}): {_reason(exc)}"
    return f"nothing answers at {address}: {_reason(exc)}"


def _of_tls(address: Address, exc: ssl.SSLError) -> str:
    if "PEM lib" in str(exc):
        return f"the certificate for {address} cannot be used: {_unusable(address)}"
    if exc.reason == "WRONG_VERSION_NUMBER":  # the answer is not TLS
        return (
            f"what listens at {address} does not speak TLS: leave out tls://, or use another port"
        )
    return f"TLS with {address} failed: {(exc.reason or str(exc)).lower().replace('_', ' ')}"


def _unusable(address: Address) -> str:
    if isinstance(address, Tls) and address.cert is not None and address.key is None:
        return "its file has no private key; name the file of the key, too"
    return "it and its key do not belong together, or one of the files is no PEM file"


def _reason(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return (exc.strerror or str(exc) or "no connection").lower()
