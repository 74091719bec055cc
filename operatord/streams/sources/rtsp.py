# SPDX-License-Identifier: MIT
"""Asks a camera what it offers (RTSP, RFC 2326), without having it play."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from operatord.core.sources.url import SourceUrl
from operatord.streams.hello import NotGiven

from .exchange import UNAUTHORIZED, Answer, Exchange
from .refusal import check_status

BUSY = 503
"""What GStreamer's server answers while it still puts away what the one before has asked for."""
TRIES, PAUSE = 4, 0.2
"""How often it is asked again then, after so many seconds each time."""

_ATTRIBUTE = re.compile(r"a=([a-z-]+):(.*)")
_SIZES = {
    "x-dimensions": re.compile(r"([0-9]{1,9}),([0-9]{1,9})(?![0-9])"),
    "framesize": re.compile(r"[0-9]+ ([0-9]{1,9})-([0-9]{1,9})(?![0-9])"),
}
"""Attributes that say width and height."""
_ENCODING = re.compile(r"[0-9]+ ([A-Za-z0-9-]{1,32})/")


async def ask_camera(exchange: Exchange, source: SourceUrl, address: str) -> dict[str, Any]:
    """Return what a camera says of its pictures. Raises `OSError`, `NoAnswer`, `NoHello`."""
    where = f"[{address}]" if ":" in address else address
    host = source.host if source.scheme == "rtsps" else where
    uri = f"{source.scheme}://{host}:{source.port}{source.path}"
    check_status(
        await exchange.ask("OPTIONS", uri, {"CSeq": "1"}), source, "OPTIONS", ok=(200, 401)
    )
    answer = await _describe(exchange, uri)
    check_status(answer, source, "DESCRIBE")
    if answer.status == UNAUTHORIZED:
        return {}
    return facts_of((await exchange.body(answer)).decode("utf-8", "replace"))


async def _describe(exchange: Exchange, uri: str) -> Answer:
    headers = {"Accept": "application/sdp", "User-Agent": "operatord"}
    answer = await exchange.ask("DESCRIBE", uri, {"CSeq": "2", **headers})
    if (said := exchange.authorization(answer, "DESCRIBE", uri)) is not None:
        headers["Authorization"] = said
        await exchange.body(answer)
        answer = await exchange.ask("DESCRIBE", uri, {"CSeq": "3", **headers})
    for number in range(TRIES):
        if answer.status != BUSY:
            break
        await exchange.body(answer)
        await asyncio.sleep(PAUSE)
        answer = await exchange.ask("DESCRIBE", uri, {"CSeq": f"{4 + number}", **headers})
    return answer


def facts_of(description: str) -> dict[str, Any]:
    """Return what a session description (SDP, RFC 8866) says of its video. Raises `NoHello`."""
    _, video, rest = description.replace("\r\n", "\n").partition("m=video")
    if not video:
        raise NotGiven("it offers no video")
    facts: dict[str, Any] = {}
    for name, value in _ATTRIBUTE.findall(rest.partition("\nm=")[0]):
        if name == "framerate" and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", value.strip()):
            facts["fps"] = float(value)
        elif name == "rtpmap" and (match := _ENCODING.match(value)):
            facts.setdefault("encoding", match[1])
        elif name in _SIZES and (match := _SIZES[name].match(value)):
            facts |= {"width": int(match[1]), "height": int(match[2])}
    return facts
