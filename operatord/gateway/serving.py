# SPDX-License-Identifier: MIT
"""The gateway as a process: it listens, and serves until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from .app import Parts, make_app

STOP = (signal.SIGTERM, signal.SIGINT)
GOODBYE = 2.0
"""Seconds that requests which are under way get at the end."""


class Place(NamedTuple):
    """Where to listen."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


async def serve(parts: Parts, place: Place, listening: Callable[[str], None]) -> None:
    """Serve until a signal comes; ``listening`` is told the URL. Raises `OSError`."""
    stop = asyncio.Event()
    for each in STOP:
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    runner = web.AppRunner(
        make_app(parts), access_log=None, handler_cancellation=True, shutdown_timeout=GOODBYE
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, place.host, place.port, ssl_context=place.tls)
        await site.start()
        for host, port, *_ in runner.addresses:
            shown = f"[{host}]" if ":" in host else host
            listening(f"{'http' if place.tls is None else 'https'}://{shown}:{port}/")
        await stop.wait()
    finally:
        await runner.cleanup()
