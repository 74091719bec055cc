# SPDX-License-Identifier: MIT
"""Proof that an address delivers: a stream header read from it.

A connect that succeeds proves nothing, since a port proxy accepts before the server behind it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from operatord_protocol.stream import CHECK, HEADER_BYTES, Hello, StreamError, parse_hello

SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
HINT_PATIENCE = 0.02
"""Seconds to wait for a hint before trying without one: each try in vain takes a millisecond or two from the
stages that are still loading."""


class NoHello(Exception):
    """The address did not deliver a stream header; the text says how it failed."""


async def read_hello(host: str, port: int, timeout: float) -> Hello:
    """Connect once and return the header. Raises `NoHello`."""
    try:
        async with asyncio.timeout(timeout):
            return await _exchange(host, port)
    except TimeoutError as exc:
        raise NoHello(f"{host}:{port} did not say hello within {timeout:g} s") from exc
    except OSError as exc:
        # Errors of a name service have negative numbers of their own.
        known = exc.errno is not None and exc.errno > 0
        reason = os.strerror(exc.errno or 0) if known else "the name is not known"
        raise NoHello(f"{host}:{port} cannot be connected to: {reason}") from exc
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, StreamError) as exc:
        raise NoHello(f"{host}:{port} answers, but not with a stream header") from exc


async def await_hello(host: str, port: int, stirred: asyncio.Event | None = None) -> Hello:
    """Try until a header comes, with back-off. The caller cancels when it has waited enough.

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
            return await _exchange(host, port)
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


async def _exchange(host: str, port: int) -> Hello:
    reader, writer = await asyncio.open_connection(host, port, limit=HEADER_BYTES)
    try:
        # Said first, so that this visit is never taken for the consumer whose coming starts the frames.
        writer.write(CHECK)
        return parse_hello((await reader.readuntil(b"\n"))[:-1])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
