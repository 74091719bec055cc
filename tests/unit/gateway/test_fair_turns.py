# SPDX-License-Identifier: MIT
"""Who asks once is not kept waiting by those who send their requests by the hundred."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Iterable

from aiohttp import web

from operatord.gateway.process.fair_turns import FairTurns
from operatord.gateway.process.patience import COUNTED
from operatord.gateway.process.serving import Gateway

GET = b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CROWD, REQUESTS = 64, 16


def waiting(
    turns: FairTurns, begun: list[str], whose: Iterable[tuple[str, str, int]]
) -> list[asyncio.Task[None]]:
    """Return tasks that wait for a turn, each with a name, an address, and what its connection has had."""

    async def one(name: str, address: str, had: int) -> None:
        await turns.take(address, had)
        begun.append(name)

    return [asyncio.create_task(one(*each)) for each in whose]


async def test_who_has_had_none_is_next() -> None:
    turns, begun = FairTurns(1), list[str]()
    many = waiting(turns, begun, [(f"many {had}", "a", had) for had in (3, 2, 9)])
    await asyncio.sleep(0)
    assert begun == ["many 3"]  # there was room
    await asyncio.gather(*many, *waiting(turns, begun, [("once", "a", 0)]))
    assert begun.index("once") < begun.index("many 9") == 3


async def test_addresses_take_turns() -> None:
    turns, begun = FairTurns(1), list[str]()
    crowd = [(f"crowd {number}", "a", 0) for number in range(9)]
    await asyncio.gather(*waiting(turns, begun, [*crowd, ("alone", "b", 30)]))
    assert begun.index("alone") <= 2
    assert len(begun) == 10


async def test_a_round_begins_so_many_and_who_has_gone_takes_none_of_them() -> None:
    turns, begun = FairTurns(2), list[str]()
    tasks = waiting(turns, begun, [(str(number), "a", number) for number in range(10)])
    await asyncio.sleep(0)
    for task in tasks[2:6]:
        task.cancel()
    counts = []
    while len(begun) < 6:
        counts.append(len(begun))
        await asyncio.sleep(0)
    assert all(later - sooner <= 2 for sooner, later in itertools.pairwise(counts))
    assert begun == ["0", "1", "6", "7", "8", "9"]


async def test_a_single_request_overtakes_those_that_were_sent_without_waiting() -> None:
    asked: list[str] = []
    begun = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if len(asked) > CROWD:
            begun.set()
        return web.Response()

    app = web.Application(middlewares=[COUNTED])
    app.router.add_get("/{name}", answer)
    gateway = Gateway(app)
    await gateway.start()
    sock = socket.create_server(("127.0.0.1", 0), backlog=CROWD)
    await gateway.listen([sock])
    place = sock.getsockname()[:2]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(gateway.end)
        stack.push_async_callback(asyncio.sleep, 0)  # those who have left are heard of
        crowd = [await asyncio.open_connection(*place) for _ in range(CROWD)]
        reader, writer = await asyncio.open_connection(*place)
        for each in (writer, *(sender for _, sender in crowd)):
            stack.callback(each.close)
        for _, sender in crowd:
            sender.write(GET % b"many" * REQUESTS)
        await begun.wait()
        before = len(asked)
        writer.write(GET % b"once")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert asked.index("/once") - before < CROWD
