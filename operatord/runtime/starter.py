# SPDX-License-Identifier: MIT
"""From a plan to a verified location, step by step, and back to nothing.

The steps, each timed and each named in the error when it fails:

    probe → images → turn → network → create → start → verify

A step is never cancelled in the middle of an engine call: a call that was begun is awaited, so that
what it made is known and can be removed. Between steps, and while waiting for the stream, a start gives
way to whatever asks the session to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from operatord.core.endings import Exit, judge_start
from operatord.core.pipelines import Stage
from operatord.core.plans import stage_env
from operatord.core.subnets import SubnetPool, SubnetsExhausted
from operatord.engines import base
from operatord_protocol import errors
from operatord_protocol.messages import Location

from .clock import Clock
from .hello import NoHello, await_hello, read_hello
from .networks import Networks
from .record import SessionRecord
from .relay import Relay

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 3
"""Sessions that are made at the same time. Measured on two cores: of 30 at once, the last is ready after
16.6 s with two and 13.6 s with four; of eight, they are ready after 2.4 s and 3.1 s on average. More would
let calls time out in a long line."""
PROBE_TIMEOUT = 3.0
"""Seconds a registered probe has to say hello."""

LATE_COMER = {"policy": "live", "attached": "True"}
"""What tells a stage that it comes to a running stream, which it must never hold up; ``policy`` for those
that know only that."""

T = TypeVar("T")
Steps = list[tuple[str, Callable[[SessionRecord], Awaitable[None]]]]


class StartSettings(NamedTuple):
    """What a start needs from the configuration."""

    instance: str
    advertise_host: str
    ports: tuple[int, int] | None
    timeout: float


class StepFailed(Exception):
    """A step of the start did not work; everything made so far is to be removed."""

    def __init__(
        self,
        kind: type[errors.WireError],
        cause: str,
        reason: str,
        stage: str | None = None,
        **data: Any,
    ) -> None:
        """Keep what the requester will be told; ``stage`` is the one whose log explains it."""
        self.kind, self.cause, self.reason, self.stage, self.data = kind, cause, reason, stage, data
        super().__init__(reason)


class Interrupted(Exception):
    """The session was asked to end while it started; its ``ending`` says why."""


class Starter:
    """Makes sessions real on one engine."""

    def __init__(
        self,
        engine: base.Engine,
        subnets: SubnetPool,
        settings: Callable[[], StartSettings],
        clock: Clock,
    ) -> None:
        """``settings`` is asked at every start, so that a reload takes effect."""
        self._engine = engine
        self._networks = Networks(engine, subnets, clock)
        self._settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)

    @property
    def instance(self) -> str:
        """The label that everything of this daemon carries."""
        return self._settings().instance

    async def start(self, record: SessionRecord) -> None:
        """Take ``record`` to a verified location. Raises `StepFailed`, `Interrupted`."""
        begun = self._clock.now()
        await self._step(record, "probe", self._check_probe)
        await self._step(record, "images", self._check_images)
        await self._step(record, "turn", self._await_turn)
        try:
            await self._step(record, "network", self._make_network)
            await self._step(record, "create", self._create)
            await self._step(record, "start", self._start)
        finally:
            self._turns.release()
        await self._step(record, "verify", self._verify)
        record.timings["total"] = _ms(self._clock.now() - begun)

    async def prepare(self, slot: SessionRecord, calm: Callable[[], Awaitable[object]]) -> None:
        """Make everything of a slot, up to stages, if it has any, that wait on their standard input.

        Gives way between steps until it is ``calm``. Raises `StepFailed`, `Interrupted`.
        """
        steps: Steps = [("network", self._make_network)]
        if slot.stages:
            steps.insert(0, ("images", self._check_images))
            steps += [
                ("create", self._create),
                ("start", self._start),
                ("hold", self._hold_inputs),
            ]
        for name, work in steps:
            await _unless(slot.ending, calm())
            await self._step(slot, name, work)
        slot.timings.clear()  # whoever claims it waits for none of this

    async def _hold_inputs(self, slot: SessionRecord) -> None:
        for name in slot.stages:
            with _blamed(name):
                slot.inputs[name] = await self._engine.hold_input(slot.containers[name])
        state = await self._engine.inspect(slot.containers[slot.stages[-1]])
        slot.published = state.published
        if slot.plan.network == "shared" and state.ip is not None:
            # All names lie on one address; said as a number, nobody has to look it up then.
            for name, (_, port) in slot.addresses.items():
                slot.addresses[name] = state.ip, port

    async def claim(self, record: SessionRecord) -> None:
        """Take a session that was a slot to a verified location. Raises `StepFailed`, `Interrupted`."""
        begun = self._clock.now()
        await self._step(record, "probe", self._check_probe)
        try:
            await self._step(record, "bind", self._bind)
            await self._step(record, "verify", self._verify)
        finally:
            record.close_inputs()
        record.timings["total"] = _ms(self._clock.now() - begun)

    async def _bind(self, record: SessionRecord) -> None:
        """Tell each stage what the request decides. One that is not needed goes, unused."""
        plan = record.plan
        if plan.upstream is not None:
            assert record.network is not None
            record.addresses["probe"] = await self._upstream_address(record, record.network)
        for name, held in record.inputs.items():
            if name in plan.stages:
                with _blamed(name):
                    held.send(_line(plan.stages[name], self._env(record, name)))
        for name in [name for name in record.containers if name not in plan.stages]:
            await self._engine.remove(record.containers.pop(name))

    async def _step(
        self, record: SessionRecord, name: str, work: Callable[[SessionRecord], Awaitable[None]]
    ) -> None:
        if record.ending.done():
            raise Interrupted
        record.progress(name)
        with self._timed(record, name), _translated(name):
            await work(record)

    async def _await_turn(self, record: SessionRecord) -> None:
        """Wait, first come first served, until few enough other sessions are being made."""
        await _unless(record.ending, self._turns.acquire())

    @contextlib.contextmanager
    def _timed(self, record: SessionRecord, name: str) -> Iterator[None]:
        begun = self._clock.now()
        try:
            yield
        finally:
            record.timings[name] = _ms(self._clock.now() - begun)

    async def _check_images(self, record: SessionRecord) -> None:
        await self._require_images(record, record.stages)

    async def _require_images(self, record: SessionRecord, stages: Sequence[str]) -> None:
        images = list(dict.fromkeys(record.plan.stages[name].image for name in stages))
        for image in await self._engine.missing_images(images):
            raise base.ImageMissing(image)

    async def _check_probe(self, record: SessionRecord) -> None:
        upstream = record.plan.upstream
        if upstream is None:
            return
        try:
            await read_hello(upstream.host, upstream.port, PROBE_TIMEOUT)
        except NoHello as exc:
            reason = f"the probe {upstream.name!r} is not there: {exc}"
            raise StepFailed(errors.ProbeUnreachable, "probe", reason, probe=upstream.name) from exc

    async def _make_network(self, record: SessionRecord) -> None:
        """Make the network, and at the same time the stages that need not know it."""
        if record.network is not None and await self._networks.has(record):
            return  # a spare one
        *joining, owner = record.stages or ("",)
        early = joining if self._knows_addresses(record) else ()
        if early:
            record.addresses = await self._addresses(record)
        join = _container_name(record, owner)
        creates = [self._create_stage(record, name, join) for name in early]
        await _all([self._networks.make(record, self._labels(record)), *creates])

    def _knows_addresses(self, record: SessionRecord) -> bool:
        """Tell whether where stages will find each other is known before there is a network."""
        plan = record.plan
        return self._engine.joins_by_name and plan.network == "shared" and plan.upstream is None

    async def _create(self, record: SessionRecord) -> None:
        record.addresses = await self._addresses(record)
        if record.plan.network == "shared":
            # Those who join the owner's namespace have been created already, or are once it is known.
            await self._create_stage(record, record.stages[-1], None)
        else:
            await _all(self._create_stage(record, name, None) for name in record.stages)

    async def _create_stage(self, record: SessionRecord, name: str, join: str | None) -> None:
        plan, settings = record.plan, self._settings()
        stage, late = plan.stages[name], name in record.missing
        owner = plan.network == "shared" and join is None and not late
        env = self._env(record, name)
        if record.warm:
            env = {"OPERATORD_LATE_BIND": "1"} if stage.late_bind == "native" else {}
        stage_plan = base.StagePlan(
            name=_container_name(record, name),
            stage=name,
            image=stage.image,
            network=_network(record),
            env=env,
            labels=self._labels(record, name),
            port=stage.port,
            aliases=record.stages if owner else (name,),
            join=join,
            publish=base.Publish(settings.advertise_host, settings.ports)
            if _is_published(record, name)
            else None,
            command=tuple(stage.command),
            cpus=stage.cpus,
            cpu_limit=stage.cpu_limit,
            memory=int(stage.most_memory),
            memory_reservation=int(stage.memory),
            gpus=tuple(record.gpus.get(name, ())),
            pids=stage.pids,
            stdin=record.warm,
            shim=record.warm and stage.late_bind == "shim",
        )
        with _translated("create"), _blamed(name):
            record.containers[name] = await self._engine.create(stage_plan)

    def _env(self, record: SessionRecord, name: str) -> dict[str, str]:
        """Return the whole environment of the stage called ``name``."""
        env = stage_env(record.plan, name, record.addresses, record.id)
        if not _is_published(record, name):
            # Only stages connect to it, to consume: nobody's first word has to be waited for.
            env.setdefault("visitors", "False")
        return env | LATE_COMER if name in record.missing else env

    async def _start(self, record: SessionRecord) -> None:
        if record.plan.network == "shared":
            await self._start_shared(record)
            return
        # In the order of the stream. A stage that connects while its upstream's interface is still being
        # made waits a second for the kernel to ask for the address again: more than starting all at
        # once gains.
        for name in record.stages:
            await self._start_stage(record, name)

    async def _start_shared(self, record: SessionRecord) -> None:
        """Start the last stage, which outlives the others and so owns the namespace, then who joins it.

        They can be created while it starts, but started only once it has.
        """
        *joining, owner = record.stages
        join = record.containers[owner]
        missing = [name for name in joining if name not in record.containers]
        creates = [self._create_stage(record, name, join) for name in missing]
        await _all([self._start_stage(record, owner), *creates])
        try:
            await _all(
                [
                    *(self._start_stage(record, name) for name in joining),
                    self._see_published(record),
                ]
            )
        except base.EngineError as exc:
            await self._blame_owner(record, owner, exc)
            raise

    async def _see_published(self, record: SessionRecord) -> None:
        """Note where the last stage is published, once it runs."""
        state = await self._engine.inspect(record.containers[record.stages[-1]])
        record.published = state.published

    async def _blame_owner(self, record: SessionRecord, owner: str, exc: base.EngineError) -> None:
        """Raise `StepFailed` if nobody could join because the namespace's owner has ended already."""
        state = await self._engine.inspect(record.containers[owner])
        if state.status == "running":
            return
        record.exits.setdefault(owner, state)
        how = Exit(state.exit_code, state.oom_killed or owner in record.oom)
        if verdict := judge_start(record.stages, {owner: how}):
            raise StepFailed(
                errors.StartFailed, verdict.cause, verdict.reason, owner, step="start"
            ) from exc

    async def _start_stage(self, record: SessionRecord, name: str) -> None:
        with self._timed(record, f"start.{name}"), _blamed(name):
            await self._engine.start(record.containers[name])

    async def _verify(self, record: SessionRecord) -> None:
        """Find the location and read a stream header from it, unless the session is to end first."""
        record.location = await self._prove(record, record.stages[-1])
        record.published = None  # what is attached later has a port of its own

    async def _prove(self, record: SessionRecord, name: str) -> Location | None:
        """Return where the stage called ``name`` is proven to deliver; None when it has ended."""
        timeout = self._settings().timeout
        try:
            async with asyncio.timeout(timeout):
                return await _unless(record.ending, self._find_stream(record, name))
        except TimeoutError as exc:
            reason = f"no stream came through the chain to the stage {name!r} within {timeout:g} s"
            raise StepFailed(errors.StartFailed, "start_timeout", reason, name) from exc
        except NoHello as exc:
            reason = f"the stage {name!r} does not speak the stream format"
            raise StepFailed(errors.StartFailed, "start_failed", reason, name) from exc

    async def _find_stream(self, record: SessionRecord, name: str) -> Location | None:
        published = record.published
        if published is None:
            published = (await self._engine.inspect(record.containers[name])).published
        if published is None:
            if record.phase == "running":
                reason = f"the stage {name!r} ended before there was a stream"
                raise StepFailed(errors.StartFailed, "exit", reason, name)
            # It ended before anybody could look: its exit says why, and is on its way.
            await asyncio.shield(record.ending)
            return None
        host, port = published.host, published.port
        held = record.inputs.get(name)
        hello = await await_hello(host, port, None if held is None else held.stirred)
        record.fps = hello.fps
        if hello.count is not None and hello.fps > 0:
            record.expected_seconds = hello.count / hello.fps
        url = f"tcp://{f'[{host}]' if ':' in host else host}:{port}"
        return Location(host=host, port=port, url=url, format=record.plan.format)

    # Later

    async def attach(self, record: SessionRecord, name: str) -> None:
        """Add the missing stage ``name`` to a running session, with a location of its own.

        It joins the session's network with an endpoint of its own, since a port can be published only
        when its endpoint is made. Raises `StepFailed`, `Interrupted`; `detach` removes what was made.
        """
        begun = self._clock.now()
        await self._step(record, "attach", lambda _: self._require_images(record, (name,)))
        await self._step(record, "attach", self._await_turn)
        try:
            await self._step(record, "attach", lambda _: self._create_stage(record, name, None))
            await self._step(record, "attach", lambda _: self._start_stage(record, name))
        finally:
            self._turns.release()
        location: Location | None = None
        with _translated("attach"):
            location = await self._prove(record, name)
        if location is not None:
            record.join(name, location)
            record.timings["attach"] = _ms(self._clock.now() - begun)

    async def detach(self, record: SessionRecord, name: str) -> None:
        """Remove an attached stage, or what there is of it. Raises `base.EngineError`."""
        record.set_aside(name)
        container_id = record.containers.get(name)
        if container_id is not None:
            await self._engine.remove(container_id)
            record.containers.pop(name, None)
        await self._remove_unknown(record, name)

    async def _addresses(self, record: SessionRecord) -> dict[str, tuple[str, int]]:
        """Return where every stage, and a registered probe, will be found by the stages."""
        network = _network(record)
        found: dict[str, tuple[str, int]] = {}
        for name, stage in record.plan.stages.items():
            address = self._engine.address(network, name, stage.port)
            found[name] = (address.host, address.port)
        if record.plan.upstream is not None:
            found["probe"] = await self._upstream_address(record, network)
        return found

    async def _upstream_address(
        self, record: SessionRecord, network: base.Network
    ) -> tuple[str, int]:
        """Return where stages reach the registered probe: itself, or a relay in their network."""
        upstream = record.plan.upstream
        assert upstream is not None
        host = await _resolve(upstream.host, upstream.port)
        if network.gateway is None or await self._networks.reaches(host, network):
            return host, upstream.port
        record.relay = Relay(host, upstream.port)
        return await record.relay.open(network.gateway)

    def _labels(self, record: SessionRecord, stage: str | None = None) -> dict[str, str]:
        labels = {
            base.LABEL_INSTANCE: self.instance,
            base.LABEL_SESSION: record.id,
            base.LABEL_PLAN: record.plan.digest(),
        }
        return labels | ({base.LABEL_STAGE: stage} if stage else {})

    def hold_subnet(self, record: SessionRecord) -> None:
        """Note that a session of an earlier life of the daemon has its subnet."""
        self._networks.hold(record)

    async def remove(self, record: SessionRecord) -> None:
        """Remove everything of ``record``. Idempotent. Raises `base.EngineError` to be tried again."""
        if record.relay is not None:
            await record.relay.close()
        await _all(self._engine.remove(cid) for cid in record.containers.values())
        if record.location is None or record.missing or record.restored:
            await self._remove_unknown(record)
        if record.network is not None:
            await self._engine.remove_network(record.network.id)
        self._networks.give_back(record)

    async def _remove_unknown(self, record: SessionRecord, stage: str | None = None) -> None:
        """Remove what a failed start made without ever hearing so: its answer may have got lost."""
        found = await self._engine.list_objects(self.instance)
        mine = [o for o in found if o.labels.get(base.LABEL_SESSION) == record.id]
        if stage is not None:
            mine = [o for o in mine if o.labels.get(base.LABEL_STAGE) == stage]
        await _all(self._engine.remove(o.id) for o in mine if o.kind == "container")
        await _all(self._engine.remove_network(o.id) for o in mine if o.kind == "network")


@contextlib.contextmanager
def _blamed(stage: str) -> Iterator[None]:
    """Note the stage at fault on an engine's error."""
    try:
        yield
    except base.EngineError as exc:
        exc.stage = stage
        raise


@contextlib.contextmanager
def _translated(step: str) -> Iterator[None]:
    """Turn an engine's error into the step that failed, in words for the requester."""
    try:
        yield
    except base.ImageMissing as exc:
        reason = f"{exc}: build or pull it first (operatord build-images makes the emulators')"
        raise StepFailed(
            errors.ImageMissing, "image_missing", reason, image=exc.image, step=step
        ) from exc
    except base.EngineUnavailable as exc:
        failed = isinstance(exc, base.EngineFailed)
        happened = str(exc) if failed else "the container engine stopped answering"
        reason = f"{happened} at the step {step!r}"
        raise StepFailed(errors.EngineUnavailable, "engine_lost", reason, step=step) from exc
    except SubnetsExhausted as exc:
        reason = f"{exc}: widen `subnets` in the configuration or wait for a session to end"
        raise StepFailed(
            errors.NoCapacity, "no_capacity", reason, dimension="subnets", step=step
        ) from exc
    except base.PortTaken as exc:
        reason = f"{exc}: widen `ports` in the configuration or free some"
        raise StepFailed(
            errors.NoCapacity, "no_capacity", reason, dimension="ports", step=step
        ) from exc
    except base.DiskFull as exc:
        raise _no_disk(str(exc), exc.stage, step) from exc
    except base.EngineError as exc:
        raise StepFailed(
            errors.StartFailed, "start_failed", str(exc), exc.stage, step=step
        ) from exc
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise _no_disk("a disk of this host has no space left", None, step) from exc
        reason = f"the step {step!r} failed on this host: {exc.strerror or 'the name is not known'}"
        raise StepFailed(errors.StartFailed, "start_failed", reason, step=step) from exc


def _container_name(record: SessionRecord, stage: str) -> str:
    return f"operatord_{record.id}_{stage}"


def _network(record: SessionRecord) -> base.Network:
    """Return the session's network; before it is made, what is known of it."""
    return record.network or base.Network(id="", name=record.network_name)


def _is_published(record: SessionRecord, name: str) -> bool:
    """Tell whether requesters, and not only other stages, connect to a stage."""
    return name in (record.stages[-1], *record.missing)


def _line(stage: Stage, env: Mapping[str, str]) -> bytes:
    """Return what tells a waiting stage its environment."""
    if stage.late_bind == "native":
        return msgspec.json.encode({"env": env}) + b"\n"
    lines = [f"{key}={value}" for key, value in env.items()]
    return "\n".join([*lines, "", ""]).encode()


def _no_disk(reason: str, stage: str | None, step: str) -> StepFailed:
    return StepFailed(errors.NoCapacity, "disk", reason, stage, dimension="disk", step=step)


async def _all(calls: Iterator[Awaitable[Any]] | Sequence[Awaitable[Any]]) -> None:
    """Await all of ``calls``, each to its end, and only then raise the first error."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _unless(ending: asyncio.Future[Any], work: Awaitable[T]) -> T:
    """Return the result of ``work``. Raises `Interrupted` when ``ending`` is there first."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Interrupted
        return task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _resolve(host: str, port: int) -> str:
    """Return an address of ``host`` as this machine knows it. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=1)
    return str(infos[0][4][0])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
