# SPDX-License-Identifier: MIT
"""Asks a web server whether it has pictures at a path, and reads none of them."""

from __future__ import annotations

from typing import Any

from operatord.core.sources.url import PORTS, SourceUrl
from operatord.streams.hello import NotGiven

from .exchange import UNAUTHORIZED, Exchange
from .refusal import check_status

NO_PICTURES = ("text/html", "text/plain", "text/xml", "application/json", "application/xml")


async def ask_server(exchange: Exchange, source: SourceUrl) -> dict[str, Any]:
    """Return what a server says of what it has there. Raises `OSError`, `NoAnswer`, `NoHello`."""
    where = f"[{source.host}]" if ":" in source.host else source.host
    host = where if source.port == PORTS[source.scheme] else f"{where}:{source.port}"
    path = source.path if source.path.startswith("/") else f"/{source.path}"
    headers = {"Host": host, "Accept": "*/*", "User-Agent": "operatord"}
    answer = await exchange.ask("GET", path, headers)
    if (said := exchange.authorization(answer, "GET", path)) is not None:
        await exchange.begin()  # it may have closed the other connection
        answer = await exchange.ask("GET", path, {**headers, "Authorization": said})
    check_status(answer, source, "GET", ok=(200, 206))
    if answer.status == UNAUTHORIZED:
        return {}
    kind = answer.header("content-type").partition(";")[0].strip().lower()
    if kind in NO_PICTURES:
        raise NotGiven(f"it answers with {kind}, which is no picture; see that the path is right")
    return {"type": kind} if kind else {}
