# SPDX-License-Identifier: MIT
"""Proof that an address delivers: a stream header read from it.

A connect that succeeds proves nothing, since a port proxy accepts before the server behind it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from operatord.core.destinations import Address, Destinations, never, number
from operatord.core.sources.local import LocalPlaces
from operatord_protocol.stream import Forbidden, Hello, StreamError, parse_upstream

from .visit import Visit, visit

SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
MARGIN = 0.1
"""Seconds beyond its timeout after which each failure comes, where that is to tell nothing."""
HINT_PATIENCE = 0.02
"""Seconds to wait for a hint before trying without one: each try in vain takes a millisecond or two from the
stages that are still loading."""


class NoHello(Exception):
    """The address did not deliver a stream header.

    The text is for whoever asked, and the same for whatever may be at the address: nobody is to learn from it
    what listens where. A header is told as one, and so is what is wrong with it. ``detail`` is a sentence for
    operators and the daemon's log.
    """

    lasts = False
    """Whether to try again is of no use before somebody has changed something."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail or text


class NotTried(NoHello):
    """Nobody knows whether the address delivers: this machine could not even ask it."""


class NotAllowed(NoHello):
    """Nobody connects there: of what the name stands for, the settings allow nothing."""

    lasts = True


class NotGiven(NoHello):
    """What is there answers, and does not give what a stage can read."""

    lasts = True


class Rules(NamedTuple):
    """For connections to wherever somebody has said."""

    allowed: Destinations
    discreet: bool = False
    """Somebody is not to know what listens where: all failures take the same time."""
    places: LocalPlaces = LocalPlaces()
    """Files and devices of the engine's machine that may be read …"""
    sees_places: bool = True
    """… and whether they can be seen from here."""


class Greeting(NamedTuple):
    """A stream header, and the address that it came from, as a number."""

    hello: Hello
    address: str


_SHORT = {
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EADDRNOTAVAIL,
}  # fmt: skip
"""Errors of a connect that tell of this machine: its descriptors, memory or ports are used up."""
_LATER = {socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM}
"""Errors of a name service that say nothing of the name."""


async def read_hello(host: str, port: int, timeout: float, rules: Rules) -> Greeting:
    """Connect once, where ``rules`` allow it, and return the header of what stages are to read.

    ``timeout`` is for looking up the name, and again for the rest.
    Raises `NoHello`, `NotTried`, `NotAllowed`.
    """
    now = asyncio.get_running_loop().time
    begun = now()
    try:
        addresses = await resolve(host, port, timeout, rules.allowed)
        begun = now()
        return await _first_hello(f"{host}:{port}", addresses, port, timeout)
    except NoHello:
        if rules.discreet:
            await asyncio.sleep(begun + timeout + MARGIN - now())
        raise


async def resolve(host: str, port: int, timeout: float, allowed: Destinations) -> list[str]:
    """Return the addresses that a host stands for and that may be connected to, as numbers.

    ``timeout`` is in seconds. Raises `NoHello`, `NotTried`, `NotAllowed`.
    """
    numbers = [number(found) for found in await _addresses(host, port, timeout)]
    if may := [str(each) for each in numbers if allowed.allows(each, port)]:
        return may
    raise _not_allowed(host, port, numbers)


def _not_allowed(host: str, port: int, numbers: Sequence[Address]) -> NotAllowed:
    """Say why nobody connects there; what a name stands for is for operators."""
    if numbers == _as_number(host) and (why := never(numbers[0])):
        return NotAllowed(f"{host} {why}, where no probe is allowed, whatever probes.allow says")
    text = f"probes.allow does not have port {port} of {host}; an operator can add it there"
    if numbers == _as_number(host):
        return NotAllowed(text)
    return NotAllowed(text, f"{text} ({host} is {', '.join(map(str, numbers))})")


def _as_number(host: str) -> list[Address]:
    """Return the address that a host is in any notation; nothing if it is a name."""
    with contextlib.suppress(ValueError):
        return [number(host)]
    return []


async def _first_hello(place: str, addresses: Sequence[str], port: int, timeout: float) -> Greeting:
    """Return what the first of the addresses says that can be connected to. Raises `NoHello`, `NotTried`."""
    try:
        async with asyncio.timeout(timeout):
            return await _visit_any(addresses, port)
    except Forbidden as exc:
        raise NotGiven(f"it sends a stream that stages cannot read: {exc}") from exc
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, StreamError) as exc:
        raise _silent(place, "it answers, but not with a stream header") from exc
    except TimeoutError as exc:
        raise _silent(place, f"it says nothing within {timeout:g} s") from exc
    except OSError as exc:
        if exc.errno in _SHORT:
            what = "the daemon's machine is short of something that a connection takes"
            raise NotTried(what, f"{what}: {place}: {exc.strerror}") from exc
        raise _silent(place, os.strerror(exc.errno) if exc.errno else str(exc)) from exc


async def _addresses(host: str, port: int, timeout: float) -> list[str]:
    """Return the addresses that a name stands for. Raises `NoHello`, or `NotTried`."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return [host]
    what = "names cannot be looked up on the daemon's machine just now"
    try:
        async with asyncio.timeout(timeout):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise NoHello(f"{host} is not the name of a host") from exc
    except socket.gaierror as exc:
        if exc.errno in _LATER:
            raise NotTried(what, f"{what}: {host}: {exc.strerror}") from exc
        raise NoHello(f"no host is known by the name {host}") from exc
    except (TimeoutError, OSError) as exc:
        raise NotTried(what, f"{what}: {host}: {exc}") from exc
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _visit_any(addresses: Sequence[str], port: int) -> Greeting:
    """Visit the first address that can be connected to. Raises what the last one did."""
    *others, last = addresses
    for address in others:
        with contextlib.suppress(OSError):
            return await _greeting(address, port)
    return await _greeting(last, port)


async def _greeting(address: str, port: int) -> Greeting:
    hello = (await visit(address, port, parse_upstream)).hello
    assert hello is not None
    return Greeting(hello, address)


def _silent(place: str, detail: str) -> NoHello:
    return NoHello(_silent_text(place), f"no stream header came from {place}: {detail}")


def _silent_text(place: str) -> str:
    return f"no stream header came from {place}; probe.get tells operators why, and so does the daemon's log"


async def await_hello(
    host: str, port: int, stirred: asyncio.Event | None = None, serves: str = "stream"
) -> Visit:
    """Try until a header comes of what the address ``serves``, with back-off. The caller cancels when it has
    waited enough.

    ``stirred`` is set when the server may have begun to listen: no try is made in vain before that, and
    none is late after it.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    shortest = SHORTEST_PAUSE if stirred is None else HINT_PATIENCE
    if stirred is not None:
        await rest(stirred, HINT_PATIENCE)
    while True:
        try:
            return await visit(host, port, serves=serves)
        except (OSError, asyncio.IncompleteReadError):
            # Nobody listens yet, or a port proxy accepted for somebody who does not listen yet.
            # A tenth of what has been waited already is little to lose on top of it.
            waited = loop.time() - begun
            await rest(stirred, min(max(shortest, waited / 10), LONGEST_PAUSE))
        except (asyncio.LimitOverrunError, StreamError) as exc:
            raise NoHello(f"{host}:{port} answers, but not with a stream header") from exc


async def rest(stirred: asyncio.Event | None, seconds: float) -> None:
    """Wait so many seconds, or until something stirs; the next wait is for something new."""
    if stirred is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stirred.wait()
    stirred.clear()
