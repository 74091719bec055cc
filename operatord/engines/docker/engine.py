# SPDX-License-Identifier: MIT
"""Stages as containers of a Docker Engine, through docker-py's low-level client.

One call to the engine per operation, made in a thread of one of four lanes, so that stops and removals never
wait behind starts, inspections behind neither, and a removal never behind a stop in its grace period.
`bodies` has what is sent and how answers are read, `errors` what a refusal means, and `client` is the edge to
the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from operatord.engines.base import (
    LABEL_INSTANCE,
    Address,
    Capabilities,
    EngineEvent,
    EngineFailed,
    EngineInfo,
    EngineUnavailable,
    Found,
    ImageMissing,
    Input,
    LogLine,
    Network,
    NetworkPlan,
    NotConnected,
    NotThere,
    PullWords,
    StagePlan,
    StageRefused,
    StageState,
    StageStats,
)
from operatord.engines.docker_host.endpoint import Endpoint
from operatord.engines.logs import MOST_LINES, FrameReader, LinesRead, Tail, TruncatingSplitter

from . import asking as docker_asking
from . import bodies, calls
from . import ports as docker_ports
from . import stdin as docker_stdin
from .client import APIClient, Clients, edge
from .errors import no_command
from .lanes import Lane, read_in_thread
from .pulling import Layers, open_pull
from .stream import ResponseStream
from .values import cpu_weight, networks

log = logging.getLogger(__name__)
T = TypeVar("T")

_IMAGE_REMEMBERED = 1.0
"""Seconds for which it is cached what a name stands for. If the image has gone, creating a container shows
it."""
_OUTLASTS = 3.0
"""A call may take this many times the tolerated silence: the silence itself, as long again until its
requester is told that it failed, and the call's own time."""
_EVENT_BYTES = 64 * 1024
_PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each attempt at something that the engine says is under way or in use."""


class DockerEngine:
    """A Docker Engine, as `operatord.engines.base.Engine`.

    ``where`` may be an address alone. ``instance`` is the label value whose events are of interest.
    ``call_timeout`` (seconds) bounds the engine's part of every call, ``queue_timeout`` the wait for a thread
    of the lane.
    """

    name = "docker"

    def __init__(
        self,
        where: Endpoint | str,
        instance: str,
        *,
        call_timeout: float = 60.0,
        queue_timeout: float = 30.0,
        hardening: bodies.Hardening | None = None,
    ) -> None:
        self._instance = instance
        self.capabilities = Capabilities()
        self._least_timeout = self._timeout = call_timeout
        self._queue_timeout = queue_timeout
        self._hardening = hardening or bodies.Hardening()
        self._converted: cpu_weight.Conversion = "none"
        """How CPU shares are converted; set on each connection to the engine."""
        self._clients = Clients(
            where if isinstance(where, Endpoint) else Endpoint(where), call_timeout
        )
        self._images: dict[str, tuple[float, bodies.Json]] = {}
        """Descriptions by name and by id, each with the time of the monotonic clock when it was asked for."""
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One lock for each of these names, so that of many starts at once only one asks."""
        self._starting = Lane("docker-start", 6)
        self._stopping = Lane("docker-stop", 8)
        self._removing = Lane("docker-remove", 4)
        self._looking = Lane("docker-look", 4)
        self._measuring = Lane("docker-stats", 4)
        self._pulse = Lane("docker-pulse", 1)

    # -- the engine itself

    async def connect(self) -> EngineInfo:
        """Make sure that the engine answers. Raises `EngineUnavailable`."""
        info = await self._looking.run(self._clients.connect, self._timeout)
        self._converted = cpu_weight.conversion(info.cgroup_version, info.runtime)
        return info

    def assume(self, capabilities: Capabilities) -> None:
        """Rely on these from now on, until the engine refuses one."""
        self.capabilities = capabilities

    async def find_out(self) -> Capabilities | None:
        """Ask what it can do, by making containers that are never started. Raises `EngineError`."""

        def work() -> Capabilities | None:
            with edge("ask", "what it can do"):
                return docker_asking.find_out(self._clients, self._instance)

        return await self._looking.run(work, self._patience)

    def be_patient(self, seconds: float) -> None:
        """Make calls outlast so many seconds of silence, and as long again until requesters are told."""
        self._timeout = max(self._least_timeout, _OUTLASTS * seconds)
        self._clients.allow(self._timeout)

    @property
    def _patience(self) -> float:
        """Seconds for all of a call, with the wait for a thread."""
        return self._timeout + self._queue_timeout

    async def close(self) -> None:
        """Release threads and sockets. Containers stay. Idempotent; waits for no call."""
        for lane in (
            self._starting, self._stopping, self._removing,
            self._looking, self._measuring, self._pulse,
        ):  # fmt: skip
            lane.close()
        self._clients.close()

    async def alive(self) -> None:
        """Return when the engine has answered a ping. Raises `EngineUnavailable`.

        Uses a new connection: an engine that is being stopped goes on serving existing ones.
        """
        await self._pulse.run(self._clients.ping, self._patience)

    async def image_ids(self, images: Sequence[str]) -> dict[str, str]:
        """Return the id of the image that each name means now; missing ones are left out.

        Calls at the same time share an answer, unless the engine was asked before the call.
        """
        now = time.monotonic()

        async def image_id(image: str) -> str | None:
            try:
                return str((await self._described(image, now))["Id"])
            except ImageMissing:
                return None

        found = await asyncio.gather(*map(image_id, images), return_exceptions=True)
        ids: dict[str, str] = {}
        for image, answer in zip(images, found, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                ids[image] = answer
        return ids

    async def pull(self, image: str, platform: str | None = None) -> PullWords:
        """Yield how far a pull is, in a thread of its own. Raises `PullFailed`, `EngineUnavailable`."""
        layers, splitter = Layers(image), TruncatingSplitter(_EVENT_BYTES)
        opened = partial(open_pull, self._clients, image, platform)
        async with contextlib.aclosing(read_in_thread("docker-pull", opened)) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    if (word := layers.hear(line)) is not None:
                        yield word

    async def claim(self, holder: str) -> str:
        """Create an empty volume as the instance's mark; return the holder that its label names. A name
        belongs to one volume only, and creating it again returns the existing one. After a restart, though,
        Engine 20.10 leaves the labels out of that answer; an inspection has them.
        """
        body = bodies.mark_body(self._instance, holder)
        await self._look("mark", body["name"], lambda c: c.create_volume(**body))
        return await self.holder() or holder

    async def holder(self) -> str | None:
        """Return the holder that the label of that volume names; None if there is no such volume."""
        name = bodies.mark_name(self._instance)
        try:
            return bodies.marked_holder(
                await self._look("mark", name, lambda c: c.inspect_volume(name))
            )
        except NotThere:
            return None

    async def release(self) -> None:
        """Remove that volume. Idempotent."""
        name = bodies.mark_name(self._instance)
        with contextlib.suppress(NotThere):
            await self._look("mark", name, lambda c: c.remove_volume(name))

    async def list_objects(self, instance: str) -> list[Found]:
        """Return everything that carries this instance's label, whatever its state.

        An exit shows in events and in `inspect` before it shows in the list, by as long as a network's
        teardown.
        """
        ours = {"label": f"{LABEL_INSTANCE}={instance}"}
        # Await both: if one fails, the other must not be left running.
        answers = await asyncio.gather(
            self._look("list", "containers", lambda c: c.containers(all=True, filters=ours)),
            self._look("list", "networks", lambda c: c.networks(filters=ours)),
            return_exceptions=True,
        )
        lists: list[list[Any]] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            lists.append(answer)
        found = [bodies.found_container(item) for item in lists[0]]
        return found + [bodies.found_network(item) for item in lists[1]]

    def events(self) -> AsyncGenerator[EngineEvent, None]:
        """Yield hints until the engine is lost, then raise `EngineUnavailable`.

        Events since the call are yielded too, however late the iteration begins.
        """
        filtered = self.capabilities.filters_events
        return self._events(bodies.event_query(since=time.time(), filtered=filtered))

    async def _events(self, query: Mapping[str, str]) -> AsyncGenerator[EngineEvent, None]:
        splitter = TruncatingSplitter(_EVENT_BYTES)
        stream = self._stream("/events", query, "events", "containers")
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                for line in splitter.feed(chunk):
                    if (event := bodies.engine_event(line, self._instance)) is not None:
                        yield event
        raise EngineUnavailable("the engine ended its stream of events")

    # -- networks

    async def subnets_in_use(self) -> list[str]:
        """Return the CIDRs of all networks on the engine, ours or not."""
        return bodies.subnets(await self._look("list", "networks", lambda c: c.networks()))

    def address(self, network: Network, stage: str, port: int) -> Address:
        """Return the stage's alias and port, which the engine's own name service resolves."""
        return Address(host=stage, port=port)

    async def create_network(self, plan: NetworkPlan) -> Network:
        """Create a bridge. Raises `SubnetTaken`, `EngineUnavailable`."""
        podman = self._clients.podman and self.capabilities.closes_networks
        make = partial(calls.create_network, plan=plan, podman=podman)
        try:
            answer = await self._launch("network", plan.name, make)
        except StageRefused as exc:
            if not podman:
                raise
            log.warning("%s, so that all have one, whatever `egress` says", exc)
            self._cannot(closes_networks=False)
            return await self.create_network(plan)
        return networks.network(answer, plan)

    async def remove_network(self, network_id: str) -> None:
        """Remove it, disconnecting whatever foreign endpoint still holds on to it."""
        await self._insist(
            "release", f"network {network_id[:12]}", lambda c: calls.remove_network(c, network_id)
        )

    # -- stages

    async def create(self, plan: StagePlan) -> str:
        """Create the container without starting it and return its id.

        Raises `ImageMissing`, `StageRefused`, `NotThere`, `EngineUnavailable`.
        """
        image = await self._image_of(plan)
        user = bodies.NOBODY if bodies.runs_as_root(image) else None
        if not bodies.has_command(image, plan):
            # Some engines say so when it is started, others not at all.
            raise no_command(plan.name)
        plan = bodies.at_home(image, await self._within_capabilities(plan))
        if not self._clients.podman:  # which is told with the network
            plan = networks.without_name_server(plan)
        init = self._hardening.init and self.capabilities.reaps
        hardening = msgspec.structs.replace(self._hardening, init=init)
        body = bodies.container_body(plan, user, hardening, self._converted)
        if plan.shim:
            body |= bodies.behind_shim(image, plan.command)
        by_name = self.capabilities.joins_by_name
        make = partial(calls.create, plan=plan, body=body, joins_by_name=by_name)
        try:
            return await self._launch("create", plan.name, make)
        except ImageMissing as exc:
            # It was removed a moment ago, and is reported under the container's name.
            self._images.pop(plan.image, None)
            self._images.pop(str(image.get("Id")), None)
            raise ImageMissing(plan.image) from exc

    async def _image_of(self, plan: StagePlan) -> bodies.Json:
        try:
            return await self._described(plan.image_id or plan.image)
        except ImageMissing as exc:
            raise ImageMissing(plan.image) from exc

    async def _within_capabilities(self, plan: StagePlan) -> StagePlan:
        """Return the plan as the engine can carry it out. Raises `StageRefused`, `PortTaken`."""
        if plan.gpus and not self.capabilities.takes_devices:
            raise StageRefused(f"the engine cannot give {plan.name} the devices that it needs")
        if (
            self.capabilities.takes_port_ranges
            or plan.publish is None
            or plan.publish.ports is None
        ):
            return plan
        choose = partial(docker_ports.choose, plan.publish)
        publish = await self._look("list", "containers", choose)
        return msgspec.structs.replace(plan, publish=publish)

    async def start(self, container_id: str) -> None:
        """Start it. Raises `PortTaken`, `StageRefused`, `NotThere`, `EngineUnavailable`."""
        await self._launch("start", _called(container_id), lambda c: calls.start(c, container_id))

    async def connect_stage(
        self, container_id: str, network: Network, aliases: Sequence[str]
    ) -> None:
        """Make the endpoint of a running stage that was planned with ``connect_later``.

        After a failure Engine 20.10 leaves an interface behind in the container, so that it cannot be
        tried again. Raises `NotConnected`, `NotThere`, `EngineUnavailable`.
        """
        called = _called(container_id)
        if not self.capabilities.connects_late:
            raise NotConnected("the engine connects no stage late")
        try:
            await self._launch("leave", called, lambda c: calls.leave_none(c, container_id))
        except (StageRefused, EngineFailed) as exc:
            if isinstance(exc, StageRefused):  # trouble passes, a refusal does not
                self._cannot(connects_late=False)
            raise NotConnected(str(exc)) from exc
        connect = partial(
            calls.connect, container_id=container_id, network=network, aliases=aliases
        )
        await self._launch("connect stage", called, connect)

    async def attach_stdin(self, container_id: str) -> Input:
        """Hold the standard input of a running stage. Raises `NotThere`, `StageRefused`."""
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            try:
                attached = await self._looking.run(
                    lambda: docker_stdin.attach(self._clients, container_id), self._patience
                )
            except StageRefused:
                self._cannot(holds_input=False)  # so stages that need not wait do not
                raise
            except EngineFailed as exc:
                # Podman's monitor of a container sometimes refuses this connection.
                failed = exc
                if (await self.inspect(container_id)).status != "running":
                    raise NotThere(f"{_called(container_id)} has ended") from exc
                continue
            return docker_stdin.HeldInput(attached)
        raise failed

    async def inspect(self, container_id: str) -> StageState:
        """Return its state; status ``gone`` when there is no such container."""
        try:
            answer = await self._look(
                "inspect", _called(container_id), lambda c: c.inspect_container(container_id)
            )
        except NotThere:
            return StageState(id=container_id, status="gone")
        return bodies.stage_state(answer)

    async def stop(self, container_id: str, grace: float) -> None:
        """Ask it to end (its image's stop signal), and after ``grace`` seconds, rounded up, kill it."""
        seconds = math.ceil(grace)
        with contextlib.suppress(NotThere):
            await self._call(
                self._stopping,
                "stop",
                _called(container_id),
                lambda c: c.stop(container_id, timeout=seconds),  # docker-py adds it to its own
                self._patience + seconds,
            )

    async def remove(self, container_id: str) -> None:
        """Kill it if it runs, remove it, and return once the engine says that it is gone."""
        await self._insist("remove", _called(container_id), lambda c: calls.remove(c, container_id))

    async def logs(self, container_id: str, tail: int) -> list[LogLine]:
        """Return its last ``tail`` lines (at most 10 000), oldest first; empty when it is gone."""
        try:
            kept = Tail()
            async with asyncio.timeout(self._timeout):
                async for line in self._log_lines(container_id, bodies.log_query(tail)):
                    kept.add(line)
            return list(kept.lines)
        except TimeoutError as exc:
            raise EngineUnavailable("the engine did not deliver the logs in time") from exc

    async def follow_logs(self, container_id: str, tail: int) -> AsyncGenerator[LogLine, None]:
        """Yield the last ``tail`` lines and then new ones until the container ends."""
        had, reader = LinesRead(), FrameReader()
        following = self._log_lines(container_id, bodies.log_query(tail, follow=True), reader)
        async with contextlib.aclosing(following):
            async for line in following:
                had.add(line)
                yield line
        # With the container's end, Podman may end its answer before the last lines or within one, and Docker
        # before a last one that has no newline.
        since = had.since(reader.begun_at)
        again = bodies.log_query(MOST_LINES if since else tail, since=since)
        async with contextlib.aclosing(self._log_lines(container_id, again)) as lines:
            async for line in lines:
                if not had.had(line):
                    yield line

    async def _log_lines(
        self, container_id: str, query: Mapping[str, str], reader: FrameReader | None = None
    ) -> AsyncGenerator[LogLine, None]:
        reader = reader or FrameReader()
        stream = self._stream(
            f"/containers/{container_id}/logs", query, "logs", _called(container_id)
        )
        try:
            async with contextlib.aclosing(stream):
                async for chunk in stream:
                    for line in reader.feed(chunk):
                        yield line
        except NotThere:
            pass
        except ValueError as exc:
            # In the same body, Podman tells what it failed at: most often that it was removed meanwhile.
            if (await self.inspect(container_id)).status != "gone":
                raise EngineFailed(
                    "the engine ended a log with something that is not a log"
                ) from exc
        if "follow" not in query:
            for line in reader.flush():
                yield line

    async def stats(self, container_id: str) -> StageStats:
        """Return what it uses now. Raises `NotThere`."""
        # Engine 20.10 answers even a one-shot request only when it next collects, once a second
        # (moby#40478 has 0.7 s, too); in a lane of its own, that holds up no other look.
        one_shot = self.capabilities.one_shot_stats or None
        answer = await self._call(
            self._measuring,
            "stats",
            _called(container_id),
            lambda c: c.stats(container_id, stream=False, one_shot=one_shot),
        )
        return bodies.stage_stats(answer)

    def _cannot(self, **refused: bool) -> None:
        self.capabilities = msgspec.structs.replace(self.capabilities, **refused)

    # -- how calls are made

    async def _call(
        self,
        lane: Lane,
        during: str,
        subject: str,
        call: Callable[[APIClient], T],
        patience: float | None = None,
    ) -> T:
        def work() -> T:
            with self._clients.lease() as client, edge(during, subject):
                return call(client)

        return await lane.run(work, self._patience if patience is None else patience)

    async def _look(self, during: str, subject: str, call: Callable[[APIClient], T]) -> T:
        return await self._call(self._looking, during, subject, call)

    async def _launch(self, during: str, subject: str, call: Callable[[APIClient], T]) -> T:
        return await self._call(self._starting, during, subject, call)

    async def _insist(self, during: str, subject: str, call: Callable[[APIClient], bool]) -> None:
        """Repeat a removal, with growing pauses, until it says that the object is gone."""
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            with contextlib.suppress(NotThere):
                if not await self._call(self._removing, during, subject, call):
                    continue
            return
        raise EngineUnavailable(f"{subject} is stuck: the engine cannot remove it")

    async def _described(self, image: str, since: float | None = None) -> bodies.Json:
        """Return the description of an image, by name or id, cached because each start asks several times.

        ``since``: a moment of the monotonic clock, before which the engine must not have been asked.
        """
        async with self._asking[image]:
            now = time.monotonic()
            asked_at, found = self._images.get(image, (-math.inf, None))
            least = now - _IMAGE_REMEMBERED if since is None else since
            if found is None or (asked_at < least and found["Id"] != image):
                before = found
                found = await self._look("image", image, lambda c: calls.image(c, image))
                if before is not None and before["Id"] != found["Id"]:
                    self._images.pop(before["Id"], None)
                # What has an id never changes.
                self._images[image] = self._images[found["Id"]] = now, found
            return found

    def _stream(
        self, path: str, query: Mapping[str, str], during: str, subject: str
    ) -> AsyncGenerator[bytes, None]:
        translated = partial(edge, during, subject)

        def open_stream() -> ResponseStream:
            with contextlib.ExitStack() as on_failure:
                client = on_failure.enter_context(contextlib.closing(self._clients.make()))
                with translated():
                    url = f"{client.base_url}/v{client.api_version}{path}"
                    response = client.get(url, params=query, stream=True, timeout=self._timeout)
                    response.raise_for_status()
                    stream = ResponseStream(response, translated, client.close)
                on_failure.pop_all()
                return stream

        return read_in_thread(f"docker-{during}", open_stream)


def _called(container_id: str) -> str:
    return f"container {container_id[:12]}"
