# SPDX-License-Identifier: MIT
"""Looks at what a URL names: whether it is there, may be read, and what it says of its pictures."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import stat
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from operatord.core.sources.url import TLS, SourceUrl
from operatord.streams.hello import MARGIN, NoHello, NotAllowed, NotGiven, NotTried, Rules, resolve

from .contents import head_of, other_than_video
from .exchange import MOST_HEAD, Exchange, NoAnswer
from .facts import bounded
from .http import ask_server
from .rtsp import ask_camera

ASKED = ("rtsp", "rtsps", "http", "https")
"""Schemes whose servers are asked something; others are only connected to."""


class Found(NamedTuple):
    """What is known of a source that can be read."""

    address: str | None
    """The number that answered; None for what is on the engine's machine."""
    facts: Mapping[str, Any]
    """What the source says of its pictures, such as width, height and fps; it need not say anything."""
    seen: bool = True
    """Whether somebody has looked, and has no doubt; otherwise a session tries it all the same."""
    doubt: str | None = None
    """Why it may have no pictures."""


async def look_at(source: SourceUrl, timeout: float, rules: Rules) -> Found:
    """Look once, where ``rules`` allow it.

    ``timeout``, in seconds, is for looking up the name, and again for the rest.
    Raises `NoHello`, `NotTried`, `NotAllowed`.
    """
    if source.is_local:
        return await _look_here(source, timeout, rules)
    now = asyncio.get_running_loop().time
    begun = now()
    try:
        addresses = await resolve(source.host, source.port, timeout, rules.allowed)
        if rules.discreet and source.scheme not in ASKED:
            # To connect to any port would tell what listens where.
            return Found(addresses[0], {}, seen=False)
        begun = now()
        return await _first(source, addresses, timeout)
    except NoHello:
        if rules.discreet:
            await asyncio.sleep(begun + timeout + MARGIN - now())
        raise


def check_place(source: SourceUrl, rules: Rules) -> None:
    """See that a file or device may be read. Raises `NotAllowed`."""
    if rules.places.place_of(source.scheme, source.path) is None:
        raise NotAllowed(
            f"probes.allow does not have {source.scheme}:{source.path}; an operator can add it, or a "
            f"{'folder above it' if source.scheme == 'file' else 'pattern such as v4l2:/dev/video*'}, there"
        )


async def _look_here(source: SourceUrl, timeout: float, rules: Rules) -> Found:
    check_place(source, rules)
    if not rules.sees_places:
        return Found(None, {}, seen=False)
    try:
        async with asyncio.timeout(timeout):  # the disk of a file may be far away
            return await asyncio.to_thread(_look_there, source, rules)
    except TimeoutError as exc:
        what = "the disk of the file does not answer"
        raise NotTried(what, f"{what}: {source.path}") from exc


def _look_there(source: SourceUrl, rules: Rules) -> Found:
    real = _checked_there(source, rules)
    head = head_of(real) if source.scheme == "file" else None
    if head == b"":
        raise NotGiven(f"{source.path} is empty")
    if head is None or (kind := other_than_video(head)) is None:
        return Found(None, {})
    doubt = f"{source.path} is there, but seems to be {kind}; a session on it shows whether it has pictures"
    return Found(None, {}, seen=False, doubt=doubt)


def _checked_there(source: SourceUrl, rules: Rules) -> str:
    """Return the path without links. Raises `NotGiven`, `NotAllowed`."""
    try:
        real = os.path.realpath(source.path, strict=True)
        mode = os.stat(real).st_mode  # noqa: PTH116
    except OSError as exc:
        raise NotGiven(f"{source.path}: {os.strerror(exc.errno or 0)}") from exc
    if source.scheme == "v4l2":
        if not stat.S_ISCHR(mode):
            raise NotGiven(f"{source.path} is no device")
    elif rules.places.place_of("file", real) is None:
        raise NotAllowed(f"{source.path} is a link to a place that probes.allow does not have")
    elif not stat.S_ISREG(mode):  # a pipe would have the adapter wait for whoever writes into it
        raise NotGiven(f"{source.path} is no file")
    return real


async def _first(source: SourceUrl, addresses: Sequence[str], timeout: float) -> Found:
    """Return what the first of the addresses says that answers. Raises what the last one did."""
    try:
        async with asyncio.timeout(timeout):
            *others, last = addresses
            for address in others:
                with contextlib.suppress(OSError):
                    return await _ask(source, address)
            return await _ask(source, last)
    except TimeoutError as exc:
        raise _silent(source, f"it says nothing within {timeout:g} s") from exc
    except NoAnswer as exc:
        protocol = source.scheme.removesuffix("s").upper()
        raise _silent(source, f"it answers, but does not speak {protocol}") from exc
    except ssl.SSLError as exc:
        raise _silent(source, "it answers, but does not speak TLS") from exc
    except OSError as exc:
        raise _silent(source, os.strerror(exc.errno) if exc.errno else "it hung up") from exc


async def _ask(source: SourceUrl, address: str) -> Found:
    """Connect, and ask whoever answers. Raises `OSError`, `NoAnswer`, `NoHello`."""
    tls = _unverified() if source.scheme in TLS else None

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = source.host if tls else None
        return await asyncio.open_connection(
            address, source.port, limit=MOST_HEAD, ssl=tls, server_hostname=name
        )

    protocol = "RTSP/1.0" if source.scheme.startswith("rtsp") else "HTTP/1.1"
    exchange = Exchange(connect, protocol, None if tls else source.credentials)
    try:
        await exchange.begin()
        return Found(address, bounded(await _facts(exchange, source, address)))
    finally:
        exchange.close()


async def _facts(exchange: Exchange, source: SourceUrl, address: str) -> Mapping[str, Any]:
    if source.scheme in ("rtsp", "rtsps"):
        return await ask_camera(exchange, source, address)
    return await ask_server(exchange, source) if source.scheme in ASKED else {}


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Cameras have certificates that nobody has signed; whether one will do is for the adapter to say."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _silent(source: SourceUrl, detail: str) -> NoHello:
    text = f"nothing that can be read answers at {source.shown}"
    return NoHello(
        f"{text}; probe.get tells operators why, and so does the daemon's log", f"{text}: {detail}"
    )
