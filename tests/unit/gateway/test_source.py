# SPDX-License-Identifier: MIT
"""One connection for all who look; a slow one gets the newest frame, and nobody waits for it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from operatord.gateway.pictures.cutter import Picture
from operatord.gateway.streams import hub as hub_module
from operatord.gateway.streams.hub import GONE, Hub
from operatord.gateway.streams.reading import LIVE, WATCH, Opener
from operatord.gateway.streams.source import Source
from operatord_protocol.errors import TooManyRequests
from stage import PATIENCE, SIZE, Stage, a_stage, end, frame, hello


async def shown(source: Source, number: int) -> Picture:
    async with asyncio.timeout(PATIENCE):
        picture = await source.after(number)
    assert picture is not None
    return picture


async def fault_of(source: Source) -> str:
    async with asyncio.timeout(PATIENCE):
        assert await source.after(source.number) is None
    assert source.fault is not None
    return str(source.fault)


async def test_all_who_look_share_one_connection_and_its_frames() -> None:
    hub = Hub(Opener())
    async with a_stage(hello(watch=True)) as stage:
        async with AsyncExitStack() as stack:
            sources = [
                await stack.enter_async_context(hub.watched(stage.location, watch=False))
                for _ in range(3)
            ]
            assert [await source.ready() for source in sources] == [stage.first] * 3
            stage.say(frame(0))
            pictures = [await shown(source, 0) for source in sources]
            assert all(picture is pictures[0] for picture in pictures)
            assert pictures[0].raw == frame(0)
            assert (stage.connections, sources[0].viewers) == (1, 3)
        await stage.hears(LIVE)
        await stage.has(0)
    assert hub.opener.budget.free == Opener().budget.free


async def test_who_was_slow_gets_the_newest_frame() -> None:
    hub = Hub(Opener())
    async with (
        a_stage(hello(watch=True)) as stage,
        hub.watched(stage.location, watch=False) as source,
    ):
        await source.ready()
        stage.say(frame(0))
        await shown(source, 0)
        stage.say(*map(frame, range(1, 9)))
        async with asyncio.timeout(PATIENCE):
            while source.number < 9:
                await source.after(source.number)
        assert (await shown(source, 1)).seq == 8
        stage.say(end(9))
        async with asyncio.timeout(PATIENCE):
            assert await source.after(9) is None
        assert source.end is not None and source.fault is None


async def test_frames_are_passed_on_at_the_pace_of_a_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused = asyncio.Event()

    async def pause(seconds: float) -> None:
        assert 0 < seconds <= 1 / 60
        paused.set()
        await asyncio.Event().wait()

    hub = Hub(Opener())
    async with (
        a_stage(hello(watch=True)) as stage,
        hub.watched(stage.location, watch=False) as source,
    ):
        await source.ready()
        monkeypatch.setattr(asyncio, "sleep", pause)
        stage.say(frame(0))
        async with asyncio.timeout(PATIENCE):
            await paused.wait()
        monkeypatch.undo()
        assert source.number == 1


async def test_spectators_alone_begin_nothing_and_readers_do() -> None:
    hub = Hub(Opener())
    async with (
        a_stage(hello(watch=True)) as stage,
        hub.watched(stage.location, watch=True) as source,
    ):
        await source.ready()
        await stage.hears(WATCH)
        async with hub.watched(stage.location, watch=False):
            await stage.hears(WATCH, LIVE)
            async with hub.watched(stage.location, watch=False):
                pass
        await stage.hears(WATCH, LIVE, WATCH)


async def test_a_stage_that_knows_no_spectators_is_left_in_silence() -> None:
    hub = Hub(Opener())
    async with a_stage(hello()) as stage:
        async with hub.watched(stage.location, watch=True) as source:
            assert "does not support spectators" in await fault_of(source)
        assert stage.heard == []
        async with hub.watched(stage.location, watch=False) as source:
            assert await source.ready() == stage.first
            await stage.hears(LIVE)


async def test_a_stream_that_breaks_off_is_told_and_read_anew_for_the_next() -> None:
    hub = Hub(Opener())
    async with a_stage(hello()) as stage, hub.watched(stage.location, watch=False) as source:
        await source.ready()
        await stage.hears(LIVE)
        stage.say(frame(0)[:-1])
        stage.peers[0].close()
        assert await fault_of(source) == "the stream was cut off before its end"
        async with hub.watched(stage.location, watch=False) as other:
            assert other is not source
            assert await other.ready() == stage.first


async def test_nobody_there_and_no_hello_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operatord.gateway.streams.reading.HELLO_SECONDS", 0.05)
    hub = Hub(Opener())
    async with a_stage(b"") as stage, hub.watched(stage.location, watch=False) as source:
        assert "has sent no hello" in await fault_of(source)
    async with hub.watched(stage.location, watch=False) as source:
        assert await fault_of(source) == "this stream is no longer served"


async def test_pictures_for_which_there_is_no_memory_are_not_read() -> None:
    hub = Hub(Opener())
    hub.opener.budget.free = SIZE
    async with a_stage(hello()) as stage, hub.watched(stage.location, watch=False) as source:
        await source.ready()
        await stage.hears(LIVE)
        stage.say(frame(0))
        assert "no memory" in await fault_of(source)
    assert hub.opener.budget.free == SIZE


async def test_viewers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "VIEWERS", 2)
    monkeypatch.setattr(hub_module, "ALL_VIEWERS", 3)
    hub = Hub(Opener())

    async def refused(stage: Stage) -> str:
        with pytest.raises(TooManyRequests) as told:
            async with hub.watched(stage.location, watch=False):
                pass
        return str(told.value)

    async with a_stage(hello()) as one, a_stage(hello()) as other, AsyncExitStack() as stack:
        for stage in (one, one, other):
            await stack.enter_async_context(hub.watched(stage.location, watch=False))
        assert await refused(one) == "2 clients look at this stream already"
        assert await refused(other) == "3 clients look at streams already"


async def test_the_gateways_end_is_told() -> None:
    hub = Hub(Opener())
    async with a_stage(hello()) as stage:
        async with hub.watched(stage.location, watch=False) as source:
            await source.ready()
            await hub.close()
            assert await fault_of(source) == GONE
            assert hub.ending
        await stage.has(0)
