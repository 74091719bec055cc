# SPDX-License-Identifier: MIT
"""Those who wait go on a few at a time, so that the event loop has its turn in between."""

from __future__ import annotations

import asyncio

from operatord.engines.logs import LogBook
from operatord.waking import AT_ONCE, Turnstile


async def most_in_a_round(heard: list[int], expected: int) -> int:
    """Return how many were heard of in one round at most, until all were."""
    most = 0
    while len(heard) < expected:
        before = len(heard)
        await asyncio.sleep(0)
        most = max(most, len(heard) - before)
    return most


async def test_one_goes_through_in_each_round_in_the_order_in_which_they_came() -> None:
    """A1: hundreds who follow floods of log lines are one of them to everybody else."""
    turnstile, through = Turnstile(), list[int]()

    async def go(number: int) -> None:
        await turnstile.through()
        through.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(100)]
    await asyncio.sleep(0)
    tasks[7].cancel()
    assert await most_in_a_round(through, 99) == 1
    assert through == [number for number in range(100) if number != 7]
    late = asyncio.create_task(go(100))
    assert await most_in_a_round(through, 100) == 1
    await asyncio.gather(*tasks, late, return_exceptions=True)


async def test_a_line_wakes_those_who_follow_a_few_at_a_time() -> None:
    """A1: thousands of followers of one stage do not all go on at each of its lines."""
    book, heard = LogBook(), list[int]()

    async def follow(number: int) -> None:
        async for _ in book.follow(0):
            heard.append(number)

    tasks = [asyncio.create_task(follow(number)) for number in range(10 * AT_ONCE)]
    await asyncio.sleep(0)
    book.write("stdout", "a line")
    assert await most_in_a_round(heard, 10 * AT_ONCE) <= AT_ONCE
    book.close()
    await asyncio.gather(*tasks)
