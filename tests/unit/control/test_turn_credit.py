# SPDX-License-Identifier: MIT
"""What a connection has used, for how long it is held against it, and what it can save up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import zip_longest

import pytest

from operatord.control.wire.turns import (
    CROWD,
    DEBT,
    PATIENT,
    SAVED,
    SHARE,
    SLICE,
    VISIT,
    Turn,
    Turns,
)


class Side:
    """Turns by a clock that goes on only where something is done."""

    def __init__(self) -> None:
        self.time = 1.0
        self.turns = Turns(lambda: self.time, lambda: self.time)
        self.visited: list[str] = []

    def turn(
        self, name: str, cost: float = 0.0, *, begins: bool = False, urgent: bool = False
    ) -> Turn:
        """Return the turn of somebody whose visits take so many seconds, and may begin a task."""

        def work(until: float) -> bool:
            self.time += cost
            self.visited.append(name)
            if begins:
                self.turns.begun()
            return False

        return Turn(work, lambda: urgent)

    async def asked(self, *turns: Turn, sizes: Sequence[int] = ()) -> list[str]:
        """As `order`, for those who ask for something of these sizes, while the slice is used up."""
        self.turns.wait(self.turn("first", SLICE))
        self.visited.clear()
        for turn, size in zip_longest(turns, sizes, fillvalue=0):
            assert isinstance(turn, Turn)
            self.turns.ask(turn, size)
        while len(self.visited) <= len(turns):
            await asyncio.sleep(0)
        return [name for name in self.visited if name != "first"]

    async def order(self, *turns: Turn) -> list[str]:
        """Let them all come in one moment; return in which order they are visited."""
        self.visited.clear()
        for turn in turns:
            self.turns.wait(turn)
        while len(self.visited) < len(turns):
            await asyncio.sleep(0)
        return list(self.visited)


@pytest.fixture
def side() -> Side:
    return Side()


async def test_an_hour_of_silence_saves_up_no_more_than_a_moment(side: Side) -> None:
    """A1: whoever was silent for long and now asks for much soon comes after those who ask for little."""
    greedy, other = side.turn("greedy", SAVED), side.turn("other")
    side.time += 3600
    for _ in range(2):
        assert await side.order(greedy) == ["greedy"]
    assert await side.order(greedy, other) == ["other", "greedy"]


async def test_what_was_used_is_held_against_nobody_for_much_more_than_a_second(side: Side) -> None:
    """A1: one request that took half a second does not put its connection off for half a minute."""
    greedy, other = side.turn("greedy", 0.5), side.turn("other")
    await side.order(greedy)
    assert await side.order(greedy, other) == ["other", "greedy"]
    side.time += 1.1 * DEBT / SHARE
    late = side.turn("late", 0.5)
    await side.order(late)
    assert await side.order(late, greedy) == ["greedy", "late"]


async def test_the_round_in_which_a_task_begins_is_charged_to_who_began_it(side: Side) -> None:
    """A1: what a task costs shows only when it runs, after the visit that began it."""
    beginner, other = side.turn("beginner", begins=True), side.turn("other")
    await side.order(beginner)
    side.time += 0.05
    await asyncio.sleep(0)
    assert await side.order(beginner, other) == ["other", "beginner"]
    await asyncio.sleep(0)


async def test_who_waits_has_one_visit_however_often_it_asks(side: Side) -> None:
    """S5: at once, or later."""
    asks, other = side.turn("asks", DEBT), side.turn("other")
    for turn in (asks, other, asks, asks, other, asks):
        side.turns.wait(turn)
        side.turns.ask(turn, 0)
    for _ in range(4):
        await asyncio.sleep(0)
    assert sorted(side.visited) == ["asks", "other"]


async def test_a_visit_ends_with_the_task_that_it_begins(side: Side) -> None:
    """A1: whatever time is left; and so does any other until that task has had its first step."""
    assert not side.turns.is_over(side.time + 1)
    side.turns.begun()
    assert side.turns.is_over(side.time + 1)
    await asyncio.sleep(0)
    assert not side.turns.is_over(side.time + 1)


async def test_whose_visits_are_brief_comes_before_hundreds_whose_visits_are_not(
    side: Side,
) -> None:
    """A1: none of them uses more than its share, and all together they are a second's work."""
    brief = side.turn("brief", VISIT / 8)
    lists = [side.turn("list", SAVED / 2) for _ in range(300)]
    for turn in (brief, *lists):  # so that it is known what they need
        side.time += 1
        await side.order(turn)
    side.time += 1
    order = await side.order(*lists, brief)
    assert order.index("brief") < PATIENT


async def test_of_whom_nothing_is_known_comes_after_those_whose_visits_are_brief(
    side: Side,
) -> None:
    """A1: hundreds of newcomers may each ask for what takes long."""
    brief = side.turn("brief", VISIT / 8)
    for _ in range(4):
        side.time += 1
        await side.order(brief)
    order = await side.order(*(side.turn("newcomer", SAVED / 2) for _ in range(300)), brief)
    assert order.index("brief") < PATIENT


async def test_what_is_urgent_comes_first_and_not_from_who_uses_much(side: Side) -> None:
    """A1: a connection that was never heard of pings while hundreds of others ask for lists."""
    lists = [side.turn("list", SAVED / 2) for _ in range(300)]
    floods = [side.turn("flood", DEBT, urgent=True) for _ in range(8)]
    await side.order(*floods)
    order = await side.asked(*lists, *floods, side.turn("ping", urgent=True))
    assert order.index("ping") < PATIENT
    assert order[: 4 * PATIENT].count("flood") <= 4


async def test_who_brings_much_comes_after_those_who_bring_little(side: Side) -> None:
    """A1: though so far its visits have been brief."""
    turns = [*(side.turn("long", VISIT / 8) for _ in range(300)), side.turn("short", VISIT / 8)]
    for _ in range(4):
        for turn in turns:
            side.time += 1
            await side.order(turn)
    side.time += 1
    order = await side.asked(*turns, sizes=[1000] * 300)
    assert order.index("short") < PATIENT


async def test_one_visit_in_a_few_is_for_who_has_waited_longest(side: Side) -> None:
    """A1: who takes long is not forgotten for those whose visits are brief."""
    turns = [side.turn("list", SAVED / 2), *(side.turn("brief", VISIT / 8) for _ in range(300))]
    for turn in turns:
        side.time += 1
        await side.order(turn)
    side.time += 1
    assert (await side.order(*turns)).index("list") < PATIENT


async def test_more_than_a_few_newcomers_are_a_crowd_until_they_were_visited(side: Side) -> None:
    """A12: those who have used much and wait are none: they would keep all others out."""
    greedy = [side.turn("greedy", DEBT) for _ in range(2 * CROWD)]
    for _ in range(2):
        await side.order(*greedy)
    for turn in greedy:
        side.turns.wait(turn)
    assert not side.turns.crowded
    assert not await _crowded_by(side, CROWD)
    assert await _crowded_by(side, CROWD + 1)
    assert not side.turns.crowded


async def _crowded_by(side: Side, number: int) -> bool:
    """Tell whether so many newcomers are a crowd; they are visited then."""
    newcomers = [side.turn("newcomer") for _ in range(number)]
    for turn in newcomers:
        side.turns.wait(turn)
    crowded = side.turns.crowded
    while any(turn.waits for turn in newcomers):
        await asyncio.sleep(0)
    return crowded
