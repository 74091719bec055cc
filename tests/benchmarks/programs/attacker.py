# SPDX-License-Identifier: MIT
"""Ask a daemon for as much as one can, until SIGTERM, in one of many ways.

    python attacker.py NAME HOST PORT

Says ``attacking`` when it has begun. ``spin`` asks for nothing and keeps a core busy: what is left when the
daemon's part of an attack is taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any

READ = 1 << 18
LOSS = (OSError, EOFError, asyncio.LimitOverrunError)
"""How a connection ends that the daemon has had enough of: another one follows."""

Attack = Callable[[str, int], Awaitable[None]]


class Peer:
    """One connection, whose answers are counted and not looked at."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, host: str, port: int) -> Peer:
        return cls(*await asyncio.open_connection(host, port, limit=READ))

    async def send(self, *lines: bytes) -> None:
        self.writer.write(b"".join(lines))
        await self.writer.drain()

    async def skip(self, lines: int) -> None:
        """Read so many lines. Raises `EOFError`."""
        while lines > 0:
            data = await self.reader.read(READ)
            if not data:
                raise EOFError
            lines -= data.count(b"\n")

    async def ask(self, *lines: bytes) -> None:
        """Send lines, and read as many."""
        await asyncio.gather(self.send(*lines), self.skip(len(lines)))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result or the error of one request."""
        await self.send(line(method, **params))
        reply: dict[str, Any] = json.loads(await self.reader.readline())
        return reply.get("result") or reply

    def close(self) -> None:
        self.writer.transport.abort()


def line(method: str, **params: Any) -> bytes:
    return json.dumps({"method": method, "params": params}).encode() + b"\n"


def flood(peers: int, *lines: bytes, stays: bool = True) -> Attack:
    """Return an attack in which each of so many peers asks for all that again and again.

    If it does not stay, it comes anew each time.
    """

    async def one(host: str, port: int) -> None:
        while True:
            with contextlib.suppress(*LOSS):
                peer = await Peer.connect(host, port)
                try:
                    await peer.ask(*lines)
                    while stays:
                        await peer.ask(*lines)
                finally:
                    peer.close()

    return together(peers, one)


def together(peers: int, one: Attack) -> Attack:
    """Return the attack of so many."""

    async def run(host: str, port: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(peers):
                group.create_task(one(host, port))  # type: ignore[arg-type]

    return run


NOT_VERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
NOT_VERIFIED.check_hostname, NOT_VERIFIED.verify_mode = False, ssl.CERT_NONE


def _say_slowly(peers: int, piece: bytes, *, tls: bool = False, pause: float = 1.0) -> Attack:
    """Return the attack of so many that send a piece now and then of what never ends, and come again."""

    async def one(host: str, port: int) -> None:
        while True:
            with contextlib.suppress(*LOSS):
                context = NOT_VERIFIED if tls else None
                peer = Peer(*await asyncio.open_connection(host, port, limit=READ, ssl=context))
                try:
                    await asyncio.gather(_send_slowly(peer, piece, pause), peer.skip(1 << 62))
                finally:
                    peer.close()
            await asyncio.sleep(pause / 10)

    return together(peers, one)


async def _send_slowly(peer: Peer, piece: bytes, pause: float) -> None:
    while True:
        await peer.send(piece)
        await asyncio.sleep(pause)


async def _shake_hands(host: str, port: int) -> None:
    while True:
        with contextlib.suppress(*LOSS):
            _, writer = await asyncio.open_connection(host, port, ssl=NOT_VERIFIED)
            writer.transport.abort()


async def _come_and_go(host: str, port: int) -> None:
    while True:
        with contextlib.suppress(*LOSS):
            (await Peer.connect(host, port)).close()


def _leave_early(*lines: bytes) -> Attack:
    async def one(host: str, port: int) -> None:
        while True:
            with contextlib.suppress(*LOSS):
                peer = await Peer.connect(host, port)
                await peer.send(*lines)
                peer.writer.close()

    return one


def _read_nothing(peers: int, *lines: bytes) -> Attack:
    """Return the attack of so many that ask for all that again and again, and read no answer."""

    async def one(host: str, port: int) -> None:
        while True:
            with contextlib.suppress(*LOSS):
                peer = await Peer.connect(host, port)
                peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
                while True:
                    await peer.send(*lines)

    return together(peers, one)


def _waiting_for_sessions(method: str, **params: Any) -> Attack:
    """Return the attack of 60 peers, each with 64 requests that end when a session does."""

    async def run(host: str, port: int) -> None:
        peers = [await Peer.connect(host, port) for _ in range(60)]
        boss = await Peer.connect(host, port)
        while True:
            session = await boss.call("session.start", plain_stream=True)
            if (sid := session.get("session_id")) is None:
                await asyncio.sleep(0.2)
                continue
            block = line(method, session_id=sid, **params) * 64
            await asyncio.gather(*(peer.send(block) for peer in peers))
            until = [asyncio.ensure_future(_told(peer, method)) for peer in peers]
            await boss.call("system.ping")
            await boss.call("session.stop", session_id=sid, grace=0)
            await asyncio.gather(*until)

    return run


async def _told(peer: Peer, method: str) -> None:
    """Return when 64 requests are answered, or 64 subscriptions have ended."""
    seen = 0
    while seen < 64:
        said = await peer.reader.readline()
        if not said:
            raise EOFError
        seen += method == "session.wait" or b'"end":true' in said or b'"error"' in said


async def _replay(host: str, port: int) -> None:
    while True:
        with contextlib.suppress(*LOSS):
            peer = await Peer.connect(host, port)
            found = await peer.call("events.subscribe", since=0)
            await peer.skip(min(int(found["seq"]), 9000))
            peer.close()


async def _subscribe_and_leave(host: str, port: int) -> None:
    subscribe = line("events.subscribe", types=["engine.lost"])
    while True:
        with contextlib.suppress(*LOSS):
            peer = await Peer.connect(host, port)
            await peer.ask(subscribe)
            peer.close()


async def _many_subscriptions(host: str, port: int) -> None:
    peers = [await Peer.connect(host, port) for _ in range(60)]
    for peer in peers:
        await peer.send(line("events.subscribe") * 64)
    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(peer.skip(1 << 62))
        group.create_task(_queued(host, port))


async def _queued(host: str, port: int) -> None:
    """Fill the queue, and empty it, again and again."""
    peer = await Peer.connect(host, port)
    while True:
        await peer.ask(*[line("session.start", wait="accepted", owner="q")] * 30)
        await peer.send(line("session.list", phase="queued", limit=1000))
        found = json.loads(await _whole_line(peer))["result"]["sessions"]
        await peer.ask(*(line("session.stop", session_id=each["session_id"]) for each in found))


async def _whole_line(peer: Peer) -> bytes:
    parts = b""
    while not parts.endswith(b"\n"):
        parts += await peer.reader.read(READ)
    return parts


async def _register_probes(host: str, port: int) -> None:
    peer = await Peer.connect(host, port)
    labels = {f"label{n}": "x" * 120 for n in range(30)}
    names = [f"p{n}" for n in range(1000)]
    while True:
        for begin in range(0, len(names), 50):
            await peer.ask(
                *(
                    line("probe.register", name=n, host="127.0.0.1", port=9, labels=labels)
                    for n in names[begin : begin + 50]
                )
            )
            await peer.ask(line("probe.list", limit=1000))


async def _cancel(host: str, port: int) -> None:
    """Have as much pending as may be, and take it back."""
    peer = await Peer.connect(host, port)
    boss = await Peer.connect(host, port)
    session = await boss.call("session.start", wait="accepted", owner="c")
    wait = {"method": "session.wait", "params": {"session_id": session["session_id"]}}
    waits = [json.dumps({"id": n, **wait}).encode() + b"\n" for n in range(100)]
    back = [line("request.cancel", id=n) for n in range(100)]
    while True:
        await peer.ask(*waits, *back)


def _at_once(peers: int, *lines: bytes) -> Attack:
    """Return an attack in which so many connect, send that, and are all gone in the same moment."""

    async def run(host: str, port: int) -> None:
        while True:
            there: list[Peer] = []
            with contextlib.suppress(*LOSS):
                for _ in range(peers):
                    there.append(await Peer.connect(host, port))
                    await there[-1].ask(*lines)
            for peer in there:
                peer.close()

    return run


def _misspelt() -> Attack:
    """Return the attack of 900 that each ask once for a method that is nearly one, never the same."""
    numbers = itertools.count()

    async def one(host: str, port: int) -> None:
        while True:
            with contextlib.suppress(*LOSS):
                peer = await Peer.connect(host, port)
                try:
                    await peer.ask(line(f"session.gat{next(numbers)}"))
                finally:
                    peer.close()

    return together(900, one)


def _objects(members: int) -> bytes:
    return b'{"method":"system.ping","params":{%b}}\n' % b",".join(
        b'"k\\u0061%d":1' % n for n in range(members)
    )


WRONG = {f"stage{n}": {f"key{m}": "x" * 40 for m in range(64)} for n in range(16)}
WRONG["stage15"]["key63"] = "\x00"
ATTACKS: dict[str, tuple[str, Attack]] = {
    "describe": ("127 × system.describe in one packet", flood(1, *[line("system.describe")] * 127)),
    "list": ("60 × session.list of 1,000", flood(1, *[line("session.list", limit=1000)] * 60)),
    "wrong-plans": ("six 50 KB plans, wrong deep inside", flood(6, line("session.plan", env=WRONG))),
    "wrong-methods": (
        "4,000 methods that are none",
        flood(1, *(line(f"m{n}".ljust(200, "x")) for n in range(4000))),
    ),
    "nearly-methods": (
        "methods that are nearly one", flood(20, *(line(f"session.gat{n}") for n in range(400)))),
    "crowd": ("120 connections × 80 describes", flood(120, *[line("system.describe")] * 80)),
    "plans": (
        "plans that all differ", flood(8, *(line("session.plan", count=n + 1) for n in range(2000)))),
    "leave": ("events.subscribe, and away", together(20, _subscribe_and_leave)),
    "no-readers": (
        "120 peers that read nothing", _read_nothing(120, *[line("system.describe")] * 400)),
    "no-readers-lists": (
        "900 peers that read no lists", _read_nothing(900, *[line("session.list")] * 400)),
    "no-readers-events": (
        "900 peers that read no events", _read_nothing(900, *[line("events.subscribe", since=0)] * 60)),
    "probes": ("probes with long labels", _register_probes),
    "connect": ("connect, and close", together(50, _come_and_go)),
    "connect-describe": (
        "connect, describe, close", together(50, _leave_early(line("system.describe")))),
    "waits": ("60 × 64 that wait for a session", _waiting_for_sessions("session.wait")),
    "followers": (
        "60 × 64 that follow a session's log", _waiting_for_sessions("session.logs", follow=True)),
    "cancel": ("100 pending, and cancelled", together(10, _cancel)),
    "replay": ("30 connections, each with all events", together(30, _replay)),
    "pings": ("200 connections × 3,000 pings", flood(200, *[line("system.ping")] * 3000)),
    "wrong-once": (
        "900 connections, each with one wrong plan",
        flood(900, line("session.plan", env=WRONG), stays=False)),
    "status-once": (
        "900 connections, each with one wrong status", flood(900, line("system.status", x=1), stays=False)),
    "start-once": (
        "900 connections, each with one wrong start", flood(900, line("session.start", x=1), stays=False)),
    "misspelt-once": ("900 connections, each with a method of its own that is nearly one", _misspelt()),
    "list-once": ("900 connections, each with one list", flood(900, line("session.list"), stays=False)),
    "lists": ("900 connections that ask for one list after another", flood(900, line("session.list"))),
    "wrong-statuses": (
        "900 connections with one wrong status after another", flood(900, line("system.status", x=1))),
    "connect-at-once": ("900 connect, and close in one moment", _at_once(900)),
    "leave-at-once": (
        "400 subscribers that are gone in one moment", _at_once(400, line("events.subscribe"))),
    "subscriptions": ("60 × 64 subscriptions, and events", _many_subscriptions),
    "queue": ("starts that queue, and stops", together(8, _queued)),
    "blanks": ("empty lines", flood(20, b"\n" * 32_000 + line("system.ping"))),
    "nested": (
        "lines nested deeply", flood(20, b'{"method":"x","params":{"a":' + b"[" * 60_000 + b"\n")),
    "members": ("lines with thousands of members", flood(20, _objects(4500))),
    "escapes": (
        "lines of escapes", flood(20, b'{"method":"x","params":{"a":"%b"}}\n' % (b"\\u00e4" * 10_000))),
    "status": ("system.status", flood(60, *[line("system.status")] * 100)),
    "slow": ("5,000 connections, each a byte of a line a second", _say_slowly(2500, b"{")),
}  # fmt: skip


LOGIN = line("auth.login", token="opd_" + "x" * 43)
BEFORE_LOGIN: dict[str, tuple[str, Attack]] = {
    "login-slow": ("5,000 strangers, each a byte of a line a second", _say_slowly(2500, b"{")),
    "login-pings": ("200 strangers × 3,000 pings", flood(200, *[line("system.ping")] * 3000)),
    "login-refused": (
        "900 strangers, each with one refused request", flood(900, line("system.status"), stays=False)),
    "login-wrong": ("200 strangers × 100 wrong tokens", flood(200, *[LOGIN] * 100)),
    "login-wrong-once": ("900 strangers, each with one wrong token", flood(900, LOGIN, stays=False)),
}  # fmt: skip
"""Attacks on a port where a token is asked for."""
ON_TLS: dict[str, tuple[str, Attack]] = {
    "tls-silent": ("600 that say nothing to TLS", _say_slowly(300, b"")),
    "tls-slow": ("600 that shake hands a byte a second", _say_slowly(300, b"\x16")),
    "tls-slow-lines": ("600 with TLS, a byte of a line a second", _say_slowly(300, b"{", tls=True)),
    "tls-plain": ("requests without TLS", flood(50, line("system.ping"), stays=False)),
    "tls-handshakes": ("one handshake after the other", together(20, _shake_hands)),
}
"""Attacks on a port with TLS."""
ALL = ATTACKS | BEFORE_LOGIN | ON_TLS


async def _spin() -> None:
    while True:
        sum(range(10_000))


async def main(name: str, host: str, port: str) -> None:
    work = _spin() if name == "spin" else ALL[name][1](host, int(port))
    print("attacking", flush=True)
    await work


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
