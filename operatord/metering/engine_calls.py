# SPDX-License-Identifier: MIT
"""An engine whose calls are counted and timed.

A call that is given up half-way is not counted: nobody knows how it ended. Streams (`events`, `follow_logs`)
have no end that would say anything, and are passed on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from operatord.engines import base

from .families import counter, distribution

SILENT, REFUSED = "silent", "refused"
"""What a call comes to that fails: no answer, or one that says no."""


class EngineMeter:
    """What is known of the calls to one engine."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` returns monotonic seconds."""
        self.now = now
        self.calls = distribution("operatord_engine_call_seconds")
        self.errors = counter("operatord_engine_errors_total")
        self._answered: float | None = None

    @property
    def since_answer(self) -> float | None:
        """Seconds since the engine last answered anything; None before it has."""
        return None if self._answered is None else max(0.0, self.now() - self._answered)

    def done(self, operation: str, begun: float, error: base.EngineError | None = None) -> None:
        """Note that a call has come to its end."""
        now = self.now()
        self.calls.observe(now - begun, operation)
        for kind in (SILENT, REFUSED):
            self.errors.begin(operation, kind)
        if _is_answer(error):
            self._answered = now
        if error is not None:
            self.errors.add(operation, REFUSED if _is_answer(error) else SILENT)


def _is_answer(error: base.EngineError | None) -> bool:
    """Tell whether the engine itself has spoken: a refusal is an answer, and silence is none."""
    silent = isinstance(error, base.EngineUnavailable)
    return not silent or isinstance(error, base.EngineFailed)


class MeteredEngine:
    """Passes everything on to an engine. What is called is looked up with each call."""

    def __init__(self, engine: base.Engine, meter: EngineMeter) -> None:
        """Count the calls to ``engine`` with ``meter``."""
        self._engine = engine
        self._meter = meter
        self.name = engine.name
        self.find_out = self._counted("find_out")
        self.connect = self._counted("connect")
        self.alive = self._counted("alive")
        self.image_ids = self._counted("image_ids")
        self.subnets_in_use = self._counted("subnets_in_use")
        self.create_network = self._counted("create_network")
        self.remove_network = self._counted("remove_network")
        self.create = self._counted("create")
        self.start = self._counted("start")
        self.connect_stage = self._counted("connect_stage")
        self.attach_stdin = self._counted("attach_stdin")
        self.inspect = self._counted("inspect")
        self.stop = self._counted("stop")
        self.remove = self._counted("remove")
        self.logs = self._counted("logs")
        self.stats = self._counted("stats")
        self.claim = self._counted("claim")
        self.holder = self._counted("holder")
        self.release = self._counted("release")
        self.list_objects = self._counted("list_objects")

    def _counted(self, operation: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        meter = self._meter

        async def call(*args: Any, **kwargs: Any) -> Any:
            begun = meter.now()
            try:
                result = await getattr(self._engine, operation)(*args, **kwargs)
            except base.EngineError as exc:
                meter.done(operation, begun, exc)
                raise
            meter.done(operation, begun)
            return result

        return call

    @property
    def capabilities(self) -> base.Capabilities:
        """What the engine is relied on for now."""
        return self._engine.capabilities

    def assume(self, capabilities: base.Capabilities) -> None:
        """Pass it on."""
        self._engine.assume(capabilities)

    def address(self, network: base.Network, stage: str, port: int) -> base.Address:
        """Pass it on: nothing is asked of the engine."""
        return self._engine.address(network, stage, port)

    def pull(self, image: str, platform: str | None = None) -> base.PullWords:
        """Pass it on."""
        return self._engine.pull(image, platform)

    def follow_logs(self, container_id: str, tail: int) -> AsyncGenerator[base.LogLine, None]:
        """Pass it on."""
        return self._engine.follow_logs(container_id, tail)

    def events(self) -> AsyncGenerator[base.EngineEvent, None]:
        """Pass it on."""
        return self._engine.events()

    def be_patient(self, seconds: float) -> None:
        """Pass it on."""
        self._engine.be_patient(seconds)

    async def close(self) -> None:
        """Pass it on."""
        await self._engine.close()
