# SPDX-License-Identifier: MIT
"""What an engine can do is asked once for its version and address, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from fake_engine import FakeEngine, Program, World

from operatord.engine_link.capabilities import FACT, CapabilityMemory
from operatord.engines.base import Capabilities, EngineInfo, EngineUnavailable
from operatord.store.journal import Journal, Retention

ABLE = Capabilities(joins_by_name=True, connects_late=True)
INFO = EngineInfo(name="fake", version="1", api_version="1.41", endpoint="unix:///one")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite", Retention(10, 1000))
    yield journal
    await journal.close()


def asking(journal: Journal, images: bool = True) -> tuple[FakeEngine, CapabilityMemory]:
    """Return an engine that can do all when it is asked, and what a new daemon would ask it with."""
    engine = FakeEngine("test", World({"an-image": Program()} if images else {}))
    engine.assume(Capabilities())
    engine.says = ABLE
    return engine, CapabilityMemory(engine, journal)


def asked(engine: FakeEngine) -> int:
    return [call for call, _ in engine.script.calls].count("find_out")


async def test_engine_is_asked_once_over_all_lives_of_the_daemon(journal: Journal) -> None:
    """E3"""
    for times in (1, 0):
        engine, memory = asking(journal)
        await memory.settle(INFO)
        await memory.settle(INFO)
        assert (engine.capabilities, asked(engine)) == (ABLE, times)
        await journal.settled()


@pytest.mark.parametrize(
    "change", [{"version": "2"}, {"endpoint": "unix:///other"}, {"name": "x"}, {"api_version": "9"}]
)
async def test_another_version_or_address_is_another_engine(
    journal: Journal, change: dict[str, str]
) -> None:
    engine, memory = asking(journal)
    await memory.settle(INFO)
    engine.says = Capabilities(reaps=False)
    await memory.settle(msgspec.structs.replace(INFO, **change))
    assert (engine.capabilities, asked(engine)) == (Capabilities(reaps=False), 2)


async def test_what_was_refused_since_stays_refused(journal: Journal) -> None:
    engine, memory = asking(journal)
    await memory.settle(INFO)
    engine.assume(Capabilities(joins_by_name=True))
    await memory.settle(INFO)
    assert engine.capabilities == Capabilities(joins_by_name=True)


async def test_nothing_is_relied_on_while_there_is_no_image_to_ask_with(journal: Journal) -> None:
    engine, memory = asking(journal, images=False)
    await memory.settle(INFO)
    assert engine.capabilities == Capabilities()
    engine.world.programs["an-image"] = Program()
    await memory.settle(INFO)
    assert engine.capabilities == ABLE


async def test_shutdown_waits_for_an_engine_that_is_being_asked(journal: Journal) -> None:
    """It has containers then that are not removed yet, and the next daemon may never come."""
    engine, memory = asking(journal)
    held = engine.script.hold("find_out")
    settling = asyncio.create_task(memory.settle(INFO))
    await held.reached.wait()
    settling.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not settling.done()
    held.open.set()
    with pytest.raises(asyncio.CancelledError):
        await settling


async def test_engine_that_cannot_be_asked_is_not_relied_on_and_asked_again(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    engine, memory = asking(journal)
    engine.script.fail("find_out", EngineUnavailable("not now"))
    await memory.settle(INFO)
    assert engine.capabilities == Capabilities()
    assert "not now" in caplog.text
    await memory.settle(INFO)
    assert engine.capabilities == ABLE


async def test_answers_that_cannot_be_read_are_asked_for_anew(journal: Journal) -> None:
    journal.note_fact(FACT, b'{"endpoint": 3}')
    await journal.settled()
    engine, memory = asking(journal)
    await memory.settle(INFO)
    assert engine.capabilities == ABLE
