# SPDX-License-Identifier: MIT
"""Calls to an engine are counted and timed, and otherwise as they were."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from fake_engine import FakeEngine

from operatord.engines import base
from operatord.metering.engine_calls import EngineMeter, MeteredEngine


class House:
    """A metered engine, and a clock that stands still unless a call moves it."""

    def __init__(self) -> None:
        self.time = 100.0
        self.meter = EngineMeter(lambda: self.time)
        self.fake: Any = FakeEngine()
        self.engine: base.Engine = MeteredEngine(self.fake, self.meter)

    def answer(self, operation: str, seconds: float, error: Exception | None = None) -> None:
        """Have the engine take so long over an operation, and answer or fail."""

        async def call(*_args: object) -> str:
            self.time += seconds
            if error is not None:
                raise error
            return "done"

        setattr(self.fake, operation, call)


@pytest.fixture
def house() -> House:
    return House()


def test_a_metered_engine_has_all_that_an_engine_has(house: House) -> None:
    for name, _ in inspect.getmembers(base.Engine, inspect.isfunction):
        if not name.startswith("_"):
            assert callable(getattr(house.engine, name)), name
    assert house.engine.name == "fake"
    assert house.engine.capabilities is house.fake.capabilities


async def test_call_is_timed_and_its_answer_passed_on(house: House) -> None:
    house.answer("create", 0.3)
    plan: Any = None
    assert await house.engine.create(plan) == "done"
    [(values, buckets, total)] = house.meter.calls.read()
    assert values == ("create",)
    assert buckets[-1] == 1
    assert total == pytest.approx(0.3)
    assert set(house.meter.errors.sums.values()) == {0}


async def test_refusal_is_an_error_and_an_answer(house: House) -> None:
    house.answer("start", 1.0, base.PortTaken("7"))
    with pytest.raises(base.PortTaken):
        await house.engine.start("x")
    assert house.meter.errors.sums == {("start", "silent"): 0, ("start", "refused"): 1}
    house.time += 5
    assert house.meter.since_answer == 5


@pytest.mark.parametrize("error", [base.EngineSilent("…"), base.EngineUnavailable("…")])
async def test_silence_is_no_answer(house: House, error: base.EngineError) -> None:
    house.answer("alive", 2.0, error)
    with pytest.raises(base.EngineUnavailable):
        await house.engine.alive()
    assert house.meter.since_answer is None
    assert house.meter.errors.sums == {("alive", "silent"): 1, ("alive", "refused"): 0}
    house.answer("alive", 0.0)
    await house.engine.alive()
    house.time += 3
    assert house.meter.since_answer == 3


async def test_call_that_is_given_up_is_not_counted(house: House) -> None:
    begun = asyncio.Event()

    async def hang(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    house.fake.start = hang
    task = asyncio.ensure_future(house.engine.start("x"))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list(house.meter.calls.read()) == []
