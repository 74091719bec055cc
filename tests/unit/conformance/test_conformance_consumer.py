# SPDX-License-Identifier: MIT
"""A consumer of a stage that always has more to send."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator

import pytest

from operatord.conformance.consumer import Consumer
from operatord.engines.base import Address

HELLO = b'{"type":"hello","stream":"probe","width":1,"height":1}\n'
FRAME = b'{"type":"frame","seq":%d,"pts":0,"parts":[{"name":"image","bytes":1}]}\nx'
ENDLESS = 10**6
"""Reads: far more than are made in the time of a test."""


@contextlib.asynccontextmanager
async def reading(chunks: list[bytes], most: int) -> AsyncIterator[Consumer]:
    """Yield a consumer for which a read returns at once: the chunks, and the last of them for ever."""
    loop = asyncio.get_running_loop()
    numbers = itertools.count()

    async def receive(_sock: socket.socket, _size: int) -> bytes:
        number = next(numbers)
        assert number < ENDLESS, "it reads on, and neither time nor signals count"
        return chunks[min(number, len(chunks) - 1)]

    with socket.create_server(("127.0.0.1", 0)) as server:
        consumer = Consumer(Address(*server.getsockname()), b"", most=most)
        await consumer.open()
        loop.sock_recv = receive  # type: ignore[method-assign,assignment]
        try:
            yield consumer
        finally:
            consumer.leave()


async def test_time_counts_although_data_always_waits() -> None:
    async with reading([b"what?"], most=1) as consumer:
        assert not await consumer.take(0.05, lambda now: now.closed)
        assert consumer.bytes > 0


async def test_a_check_of_what_sends_without_pause_can_be_ended() -> None:
    """What ends a check cancels what reads, which has to come to its turn."""
    async with reading([b"what?"], most=1) as consumer:
        task = asyncio.create_task(consumer.take(60, lambda now: now.closed))
        while not consumer.bytes:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_sends_more_frames_than_are_due_is_not_read_on() -> None:
    frames = [FRAME % number for number in range(100)]
    async with reading([HELLO, *frames], most=9) as consumer:
        assert not await consumer.take(60, lambda now: now.closed)
        assert consumer.seqs == list(range(10))
        assert consumer.fault == "it sent more than 9 frames, and was not read on"
