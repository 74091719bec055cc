# SPDX-License-Identifier: MIT
"""Requests and answers as HTTP and RTSP write them, with credentials where they are asked for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

MOST_HEAD = 16 * 1024
MOST_BODY = 64 * 1024
"""Bytes of an answer that are read at most."""
UNAUTHORIZED = 401
CNONCE = "operatord"
"""It protects whoever doubts the server, and here nothing is taken from it."""

MOST_OFFER = 1024
"""Characters of a challenge that is answered."""
_LENGTH = re.compile(r"[0-9]{1,9}")
_PARAM = re.compile(r'(?<![a-z])([a-z]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))', re.IGNORECASE)
"""A name is looked for where a word begins, and not at each of its letters: servers may say anything."""

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class NoAnswer(Exception):
    """What came is not of the protocol."""


class Answer(NamedTuple):
    """What a server has said."""

    status: int
    headers: Mapping[str, list[str]]
    """By their names in small letters; a character for each byte (latin-1), as in what is sent back."""
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return the first header of that name; empty without one."""
        return self.headers.get(name, [""])[0]


class Exchange:
    """A connection on which one request follows the other."""

    def __init__(
        self, connect: Connect, protocol: str, credentials: tuple[str, str] | None
    ) -> None:
        """``protocol`` is written as in ``RTSP/1.0``; ``credentials`` are sent only to who asks for them."""
        self._connect = connect
        self._protocol = protocol
        self._credentials = credentials
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def begin(self) -> None:
        """Connect, in place of a connection that there is. Raises `OSError`."""
        self.close()
        self._open = await self._connect()

    def close(self) -> None:
        """End the connection at once. Idempotent."""
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None

    @property
    def _reader(self) -> asyncio.StreamReader:
        assert self._open is not None
        return self._open[0]

    async def ask(self, method: str, uri: str, headers: Mapping[str, str]) -> Answer:
        """Return the head of the answer. Raises `OSError`, `NoAnswer`."""
        lines = [f"{method} {uri} {self._protocol}", *(f"{k}: {v}" for k, v in headers.items())]
        assert self._open is not None
        self._open[1].write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            raise NoAnswer from exc
        return _parsed(head, self._protocol.partition("/")[0])

    async def body(self, answer: Answer) -> bytes:
        """Return what belongs to an answer that says how long it is. Raises `OSError`, `NoAnswer`."""
        length = answer.header("content-length")
        if not _LENGTH.fullmatch(length) or int(length) > MOST_BODY:
            return b""
        try:
            return await self._reader.readexactly(int(length))
        except asyncio.IncompleteReadError as exc:
            raise NoAnswer from exc

    def authorization(self, answer: Answer, method: str, uri: str) -> str | None:
        """Return what to say to a server that wants credentials; None without any, or if it says not how."""
        if answer.status != UNAUTHORIZED or self._credentials is None:
            return None
        offers = answer.headers.get("www-authenticate", [])
        for offer in sorted(offers, reverse=True):  # Digest before Basic
            if len(offer) > MOST_OFFER:
                continue
            kind, _, rest = offer.partition(" ")
            if kind.lower() == "digest" and (said := _digest(rest, self._credentials, method, uri)):
                return said
            if kind.lower() == "basic":
                user, password = self._credentials
                return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return None


def _parsed(head: bytes, protocol: str) -> Answer:
    """Raises `NoAnswer`."""
    first, *lines = head.decode("latin-1").split("\r\n")
    name, _, rest = first.partition("/")
    status = rest.partition(" ")[2][:3]
    if name != protocol or not (status.isascii() and status.isdecimal()):
        raise NoAnswer
    headers: dict[str, list[str]] = {}
    for line in filter(None, lines):
        key, _, value = line.partition(":")
        headers.setdefault(key.strip().lower(), []).append(value.strip())
    return Answer(int(status), headers)


def _digest(offer: str, credentials: tuple[str, str], method: str, uri: str) -> str | None:
    """Return an answer to a challenge of RFC 2617, without or with ``qop=auth``; None if there is none.

    User and password are told in UTF-8 (RFC 7616, ``charset``), the server's words by the bytes that it sent.
    """
    said = {name.lower(): quoted or bare for name, quoted, bare in _PARAM.findall(offer)}
    realm, nonce = said.get("realm", ""), said.get("nonce", "")
    if said.get("algorithm", "MD5").upper() != "MD5":
        return None
    if not credentials[0].isprintable():
        return None  # a line's end in it would begin another header
    user, password = (text.encode().decode("latin-1") for text in credentials)
    mine = _md5(f"{user}:{realm}:{password}")
    middle = f":00000001:{CNONCE}:auth:" if "qop" in said else ":"
    response = _md5(f"{mine}:{nonce}{middle}{_md5(f'{method}:{uri}')}")
    name = _escaped(user)
    parts = {"username": name, "realm": realm, "nonce": nonce, "uri": uri, "response": response}
    if "opaque" in said:
        parts["opaque"] = said["opaque"]
    text = ", ".join(f'{name}="{value}"' for name, value in parts.items())
    extra = f', qop=auth, nc=00000001, cnonce="{CNONCE}"' if "qop" in said else ""
    return f"Digest {text}{extra}"


def _escaped(text: str) -> str:
    """Return what stands between quotation marks (RFC 7616, 3.4)."""
    return text.replace("\\", r"\\").replace('"', r"\"")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("latin-1"), usedforsecurity=False).hexdigest()
