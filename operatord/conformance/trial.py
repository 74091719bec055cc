# SPDX-License-Identifier: MIT
"""One trial: a stage with an upstream before it and consumers behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

from operatord.engines import base
from operatord.engines.options import Options
from operatord.provision.stage_options import engine_options

from .bench import Bench, Launch, Place, Running
from .consumer import CONSUME, SILENT, Consumer, meet
from .pictures import FRAMES, Pictures
from .seen import Ending, Seen
from .source import Source, local_source
from .subject import Address, Subject
from .upstream import Script, Upstream

RECOGNIZED = 0.4
"""Seconds after which a silent connection is surely a consumer."""
MORE = 64
"""Frames beyond those that are due, after which a consumer reads no more."""
EXIT = 8.0
"""Seconds in which a stage exits once its work is done: a consumer may take 5 s to close."""


class Trial:
    """Runs one stage, and notes what is seen."""

    def __init__(
        self, bench: Bench, subject: Subject, name: str, patience: float, grace: float
    ) -> None:
        """``patience``: seconds from its start in which a stage may come up; ``grace``: between SIGTERM and
        SIGKILL."""
        self._bench, self.subject, self.name, self.patience = bench, subject, name, patience
        self.grace = grace
        self.pictures = Pictures(subject.pictures)
        self.consume = SILENT if subject.kind == "sink" else CONSUME
        """What a consumer says: at the port of a sink another protocol may be spoken."""
        self.upstream: Upstream | None = None
        self._decoy: Upstream | None = None
        self._source = Source(subject.env)
        self.measured: dict[str, float] = {}
        self._stage: Running | None = None
        self._place: Place | None = None
        self._consumers: dict[str, Consumer] = {}
        self._due = FRAMES
        """Frames that a consumer is to be sent at the most."""
        self._state: base.StageState | None = None
        self._waited = 0.0

    async def __aenter__(self) -> Self:
        stage = self.subject.stage
        self._place = await self._bench.place(self.name, self.subject.name, stage.port)
        await self._source.open(self._place.host)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for consumer in self._consumers.values():
            consumer.leave()
        for upstream in (self.upstream, self._decoy):
            if upstream is not None:
                await upstream.close()
        await self._source.close()
        if self._stage is not None and not isinstance(exc, asyncio.CancelledError):
            await self._stage.remove()  # else the bench removes all at once

    @property
    def stage(self) -> Running:
        """The stage, once it is started."""
        assert self._stage is not None
        return self._stage

    @property
    def fed(self) -> Upstream:
        """The upstream of a stage that has one."""
        assert self.upstream is not None
        return self.upstream

    async def prepare(
        self, script: Script, *, listens: bool = True, greets: bool = True, pours: bool = True
    ) -> None:
        """Have an upstream, if the stage is of a kind that has one.

        What it does not do at first, it does when it is told to. A sink takes frames whether anybody reads
        them or not; it is sent none before a consumer is there.
        """
        assert self._place is not None
        if self.subject.has_upstream:
            self.upstream = Upstream(self._place.host, script, self.pictures)
            self._due = script.frames
            if listens:
                await self.upstream.listen()
            if greets:
                self.upstream.go.set()
            if pours and self.subject.kind != "sink":
                self.upstream.pour.set()

    def environment(self, **more: str | float) -> dict[str, str]:
        """Return the stage's environment, with ``more``."""
        assert self._place is not None
        self._due = max(self._due, int(more.get("count", 0)))
        own = Address(self._place.own.host, self._place.own.port)
        port = 0 if self.upstream is None else self.upstream.port
        said = {key: str(value) for key, value in more.items()}
        env = self.subject.environment(own, Address(self._place.host, port), said)
        return env | self._source.env

    async def start(
        self,
        env: Mapping[str, str],
        *,
        stdin: bool = False,
        shim: bool = False,
        options: Options | None = None,
        roomy: bool = False,
    ) -> None:
        """Start the stage; ``roomy``: with more memory and processes than is usual."""
        assert self._place is not None
        stage = self.subject.stage
        launch = Launch(
            name=self.name,
            stage=self.subject.name,
            image=stage.image,
            port=stage.port,
            env=env,
            command=tuple(stage.command),
            memory=stage.most_memory * (8 if roomy else 1),
            pids=stage.pids * (8 if roomy else 1),
            cpus=stage.cpus,
            cpu_limit=stage.cpu_limit,
            stdin=stdin,
            shim=shim,
            options=options if options is not None else usual_options(self.subject),
        )
        self._stage = await self._bench.launch(launch, self._place)

    async def stale(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return an environment for a stage that is bound late, with another upstream and another count."""
        assert self._place is not None
        stale = {**env, "count": "3", "OPERATORD_LATE_BIND": "1"}
        if self.subject.has_upstream:
            self._decoy = Upstream(self._place.host, Script(), self.pictures)
            await self._decoy.listen()
            stale |= dict.fromkeys(
                (f"{each}_port" for each in self.subject.before), str(self._decoy.port)
            )
        return stale

    def decoy_connections(self) -> int:
        """Return how often the stage has connected to the upstream of its stale environment."""
        return 0 if self._decoy is None else self._decoy.seen().connections

    def bind(self, held: base.Input, env: Mapping[str, str], *, shim: bool) -> None:
        """Send the line, or lines, that a stage waits for which is bound late."""
        lines = "".join(f"{key}={value}\n" for key, value in env.items()) + "\n"
        with contextlib.suppress(base.NotThere):  # it has ended, which shows elsewhere
            held.send(lines.encode() if shim else msgspec.json.encode({"env": env}) + b"\n")

    def consumer_bytes(self, name: str) -> int:
        """Return how much a consumer was sent so far, if there is one."""
        return self._consumers[name].bytes if name in self._consumers else 0

    def consumer(self, name: str, said: bytes = b"", buffer: int | None = None) -> Consumer:
        """Return a consumer that is known by a name, and not connected yet."""
        most = self._due + MORE
        found = self._consumers[name] = Consumer(self.stage.address, said, buffer, most=most)
        return found

    async def meet(
        self, name: str, said: bytes = b"", buffer: int | None = None, seconds: float | None = None
    ) -> Consumer:
        """Return a consumer that is connected, and has a hello if one came in time or the stage lives."""
        consumer = self.consumer(name, said, buffer)
        meeting = asyncio.create_task(meet(consumer, seconds or self.patience))
        ending = asyncio.create_task(self.stage.ends(self.patience + EXIT))
        try:
            await asyncio.wait([meeting, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (meeting, ending):
                task.cancel()
            await asyncio.gather(meeting, ending, return_exceptions=True)
        return consumer

    async def meet_reader(
        self, name: str, said: bytes = b"", buffer: int | None = None, seconds: float | None = None
    ) -> Consumer:
        """Return a consumer that is connected, and have frames sent from now on."""
        consumer = await self.meet(name, said, buffer, seconds)
        if self.upstream is not None and not self.upstream.pour.is_set():
            await asyncio.sleep(RECOGNIZED)
            self.upstream.pour.set()
        return consumer

    async def ends(self, seconds: float = EXIT) -> None:
        """Wait for the stage's end; what counts is what it is when the wait is over."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._state = await self.stage.ends(seconds)
        self._waited = loop.time() - begun

    async def stop(self, grace: float) -> None:
        """Ask the stage to end."""
        self._waited = await self.stage.stop(grace)
        self._state = await self.stage.ends(0)

    async def seen(self) -> Seen:
        """Return all that was seen."""
        state = self._state or await self.stage.ends(0)
        output: list[base.LogLine] = []
        with contextlib.suppress(base.EngineError):
            output = await self.stage.output()
        code = state.exit_code if state.status == "exited" else None
        readings = {name: consumer.seen() for name, consumer in self._consumers.items()}
        return Seen(
            readings=readings,
            fed=self.upstream.seen() if self.upstream is not None else Seen().fed,
            ending=Ending(code, self._waited, state.oom_killed),
            output=output,
            measured=self.measured,
        )


def usual_options(subject: Subject) -> Options:
    """Return what its container is given besides, as a session would."""
    return engine_options(subject.stage, local_source(subject.env))
