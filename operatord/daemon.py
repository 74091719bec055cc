# SPDX-License-Identifier: MIT
"""The composition root: the only place where the parts of the daemon meet.

The order of a shutdown, each step safe to repeat: stop listening; end the sessions and answer those who
wait for them, or settle what has been begun and leave the others running; end the connections; end the
watches; close the engine; close the journal; give up the state directory.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from operatord.settings import choice
from operatord_protocol.errors import Conflict
from operatord_protocol.messages import Reloaded
from operatord_protocol.methods import schemas

from . import __version__, logs
from .access.audit import Audit
from .access.logins import Credentials, Logins
from .control.peer import Services
from .control.views import Views
from .control.wire.server import Server
from .core.scheduling.learning import Learned
from .core.scheduling.room import Gpu
from .core.subnets import SubnetPool
from .engine_link.capabilities import CapabilityMemory
from .engine_link.link import EngineLink, LinkMeans
from .engine_link.ownership import Ownership
from .engines import base
from .lifecycle.engine_changes import EngineChanges, EngineHooks
from .lifecycle.forgotten import Forgotten
from .lifecycle.inspection import Inspection
from .lifecycle.reconcile import Reconciler
from .lifecycle.supervisor import Supervisor, SupervisorParts
from .machine.clock import Clock
from .machine.failpoints import fail_around
from .machine.gpus import find_gpus
from .machine.host import HostMonitor
from .machine.keeper import Keeper
from .machine.latency import without_collections
from .monitors.idle import IdleWatch
from .monitors.stall import StallWatch
from .monitors.usage import CallRate, UsageWatch
from .provision.blueprint import StartSettings
from .provision.starter import Starter
from .provision.subnet_count import SubnetCount
from .scheduling.admission import Admission, Machine
from .settings import credentials
from .settings.advertised import Advertised, advertised
from .settings.config import Config, ConfigError
from .settings.current import CurrentSettings
from .settings.listeners import ListenerSettings, is_loopback
from .settings.reloading import Reloading, changed
from .signals import Signals
from .state.directory import StateDir, StateDirLost
from .store.events import EventLog
from .store.journal import Journal, Retention
from .store.journal_file import JOURNAL, JournalFailed
from .streams.probes import ProbeRegistry
from .systemd.activation import name_of
from .systemd.manager import ServiceManager
from .systemd.status import StatusLine, status_line

log = logging.getLogger(__name__)

LEARNED = "learned"
LEARNED_EVERY = 60.0
"""Seconds between notes of what has been learned of the stages."""
MARGIN = 30.0
"""Seconds that a start or an end may take besides what the settings allow for the engine or the sessions."""
WATCHING = "the watch over the engine"
CALLBACKS = "what is done later, or on the side"
COMPARING = "what compares sessions with the engine"
"""What keeps running, as the log and `system.status` call it."""


class Fresh(NamedTuple):
    """Settings that were read anew."""

    config: Config
    advertised: Advertised
    known: Credentials
    changed: list[str]
    """Their names."""


class Parts(NamedTuple):
    """What may be handed to a daemon ready-made, by whoever embeds or tests it."""

    engine: base.Engine | None = None
    clock: Clock | None = None
    host: HostMonitor | None = None
    manager: ServiceManager | None = None


class Daemon:
    """A whole operatord. ``start``, then ``run_until_stopped``, or ``stop`` from elsewhere."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None = None,
        parts: Parts | None = None,
    ) -> None:
        """``reread``, called in a thread, returns the settings anew; ``parts`` replace what would be made.

        Raises `StateDirUnusable`, `ConfigError`, `OSError`.
        """
        parts = parts or Parts()
        self.settings = CurrentSettings(config)
        self._engine_host = choice.engine_host(config, os.environ)
        """None where the engine is on this machine; of another one, nothing can be measured here."""
        self._advertised = advertised(config, self._engine_host)
        known = credentials.load(config)
        self._reread = reread or (lambda: config)
        self.manager = parts.manager or ServiceManager()
        self.clock = parts.clock or Clock()
        self._begun = self.clock.now()
        self._state = StateDir(config.state_path)
        self.instance = self._state.instance
        self._choice = self._choose_engine(parts.engine)
        self.engine = fail_around(self._choice.engine)
        self.engine.be_patient(config.engine_patience)
        self.keeper = Keeper(self.clock)
        self.journal = self._open_journal()
        self.events = EventLog(self.clock, self.journal)
        self.host = parts.host or HostMonitor(self._state.path, self.clock)
        self._gpus = _configured_gpus(config)
        self._subnets = SubnetPool(config.subnets)
        self.supervisor = self._make_supervisor()
        self._subnet_count = self._make_subnet_count()
        self._forgotten = Forgotten(self.journal)
        self.link = self._make_link()
        self.reconciler = Reconciler(
            self.engine, self.supervisor, self._forgotten, self.instance, self.clock
        )
        self.probes = ProbeRegistry(
            self._sessions_on, self.events.emit, self.journal, lambda: self.config.limits
        )
        self._looks = self._make_watches()
        self.audit = Audit(self.clock.now)
        self.logins = Logins(known, self.clock.now, self.audit)
        self._reloading = Reloading(self._read_settings, self._use_settings, self.manager.reloading)
        self._status: StatusLine | None = None
        self.services = self._make_services()
        self.server = Server(self.services)
        self._stopping: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return self.settings.config

    def _choose_engine(self, given: base.Engine | None) -> choice.Choice:
        """Return the engine, and why it is that one. Raises `ConfigError`."""
        if given is not None:
            return choice.Choice(given, "it was given")
        return choice.choose_engine(self.config, self.instance, self._state.path, os.environ)

    def _make_supervisor(self) -> Supervisor:
        here = self._engine_host is None
        starter = Starter(self.engine, self._subnets, self._start_settings, self.clock, here=here)
        facts = self.host.facts()
        machine = Machine(facts["cpus"], facts["memory"], self._gpus or ())
        learned = _learned(self.journal)
        admission = Admission(self.settings, machine, self.clock, learned)
        parts = SupervisorParts(
            self.engine,
            starter,
            admission,
            self.settings,
            self.clock,
            self.journal,
            self.events.emit,
        )
        supervisor = Supervisor(parts)
        supervisor.transitions.on_defect = self.keeper.note
        self.journal.on_trouble = supervisor.note_journal
        return supervisor

    def _make_subnet_count(self) -> SubnetCount:
        here, tell = self._engine_host is None, self.supervisor.note_subnets
        count = SubnetCount(self.engine, self._subnets, tell, here=here)
        self.supervisor.on_no_subnets = count.doubt
        return count

    def _open_journal(self) -> Journal:
        try:
            path = self._state.path / JOURNAL
            return Journal(path, self._retention(), secure=self._secure_state)
        except JournalFailed:
            self._state.close()
            raise

    def _secure_state(self) -> None:
        try:
            self._state.secure()
        except StateDirLost as exc:
            raise JournalFailed(str(exc)) from exc

    def _retention(self) -> Retention:
        kept = self.config.history.kept
        return Retention(kept.rows, kept.days * 86400)

    def _make_link(self) -> EngineLink:
        ownership = Ownership(self.engine, self.instance, self._state.holder)
        capabilities = CapabilityMemory(self.engine, self.journal)
        means = LinkMeans(self.events.emit, self.clock, self._engine_patience, self._choice.because)
        return EngineLink(self.engine, self.supervisor.availability, ownership, capabilities, means)

    def _engine_changes(self) -> EngineChanges:
        keeper = self.keeper
        hooks = EngineHooks(
            measure=self._count,
            compare=lambda: keeper.attempt(COMPARING, self.reconciler.look, base.EngineError),
            leave=self._stop.set,
            broke=lambda exc: keeper.note(WATCHING, exc),
        )
        return EngineChanges(self.supervisor, hooks)

    def _engine_patience(self) -> float:
        return self.config.engine_patience

    def _make_watches(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what looks at sessions that run, by the name that the log calls it."""
        engine, supervisor, rate = self.engine, self.supervisor, CallRate(clock=self.clock)
        running, learned, emit = (
            supervisor.registry.running,
            supervisor.admission.learned,
            self.events.emit,
        )
        use = UsageWatch(engine, running, learned, rate)
        idle = IdleWatch(engine, running, supervisor.expiry, rate)
        stall = StallWatch(engine, running, lambda: self.config.stall_timeout, emit, rate)
        return {
            "the watch over use": use.run,
            "the watch for idle sessions": idle.run,
            "the watch for stalls": stall.run,
        }

    def _make_services(self) -> Services:
        return Services(
            version=__version__,
            instance=self.instance,
            settings=self.settings,
            inspection=Inspection(self.engine, self.supervisor.availability),
            supervisor=self.supervisor,
            probes=self.probes,
            events=self.events,
            host=self.host,
            measures_engine=self._engine_host is None,
            clock=self.clock,
            engine_facts=self._engine_facts,
            troubles=lambda: self.keeper.troubles() + logs.troubles(),
            uptime=lambda: self.clock.now() - self._begun,
            connections=lambda: self.server.connections,
            reload=self._reloading.reload,
            views=Views(self.supervisor),
            logins=self.logins,
            audit=self.audit,
        )

    def _engine_facts(self) -> dict[str, Any]:
        return self.link.facts() | self._forgotten.facts()

    def _start_settings(self) -> StartSettings:
        config = self.config
        return StartSettings(
            self.instance,
            self._advertised.host,
            config.port_range,
            config.start_timeout,
            self._advertised.address,
        )

    # Life

    async def start(self) -> tuple[str, int]:
        """Begin to watch the engine and to listen; return the TCP address.

        Raises `OSError`, `base.NotOurs`.
        """
        log.info("operatord %s, engine %s: %s", __version__, self.engine.name, self._choice.because)
        if self._choice.warning is not None:
            log.warning("%s", self._choice.warning)
        self.manager.starting(self._engine_patience() + MARGIN)
        if self._gpus is None:
            here = await find_gpus() if self._engine_host is None else []
            self._gpus = tuple(here)
        supervisor = self.supervisor
        supervisor.restorer.restore(
            self.engine.capabilities.adopts, supervisor.availability.problem
        )
        keep, changes = self.keeper.keep, self._engine_changes()
        keep(WATCHING, lambda: self.link.run(changes))
        keep("what writes down what was learned", self._note_learned)
        try:  # who asks at once is not to be refused because the cores are busy
            await asyncio.wait_for(self.link.watch.first_try.wait(), self._engine_patience())
        except TimeoutError:
            log.warning("the engine has not answered yet; listening without it")
        self.link.ownership.require()
        if self._engine_host is None:
            keep("the watch over the machine", lambda: self.host.run(self.supervisor.measure))
        keep("what finds out what the engine can do", self.link.capabilities.run)
        keep("the count of subnets", self._subnet_count.run)
        keep("what prepares slots", self.supervisor.slots.run)
        keep("the watch over slots' images", self.supervisor.slots.watch_images)
        for name, watch in self._looks.items():
            keep(name, watch)
        await self.supervisor.written()  # or that it cannot be is known before anybody asks
        schemas()  # worked out before anybody asks, or all wait for whoever asks first
        address = await self._listen()
        self._tell_manager()
        return address

    async def _listen(self) -> tuple[str, int]:
        """Listen wherever it is to be; return the address of TCP. Raises `OSError`."""
        for sock in self.manager.sockets:
            log.info("taking connections of %s, which the service manager has made", name_of(sock))
        self.server.hand_over(self.manager.sockets)
        host, port = await self.server.listen(*self.config.address)
        log.info("listening on %s:%d", host, port)
        if self.config.unix:
            await self.server.listen_unix(Path(self.config.unix))
            log.info("listening on %s", self.config.unix)
        for place, each in enumerate(self.config.listeners):
            await self._listen_also(place, each)
        self.server.listen_on_the_rest()
        for door in self.config.open_doors:
            log.info("%s", door)
        return host, port

    async def _listen_also(self, place: int, each: ListenerSettings) -> None:
        """Listen where one of `listeners` says. Raises `OSError`."""
        if each.is_unix:
            await self.server.listen_unix(Path(each.address), each.auth)
            log.info("listening on %s, auth: %s", each.address, each.auth)
            return
        host, port = await self.server.listen(*each.tcp, each.auth, place)
        how = "TLS" if each.tls else "no TLS"
        log.info("listening on %s:%d, %s, auth: %s", host, port, how, each.auth)
        if each.tls is None and not is_loopback(each.tcp[0]):
            log.warning("tokens go to %s in clear: set tls there", each.address)

    def _tell_manager(self) -> None:
        """Tell the service manager, if there is one, how it is, from now on."""
        self.manager.ready(self._status_line())
        if self.manager.listens:
            self._status = StatusLine(self.events, lambda: self.manager.say(self._status_line()))
            self.supervisor.availability.on_news = self._status.due

    def _status_line(self) -> str:
        phases = [record.phase for record in self.supervisor.registry.living()]
        return status_line(phases, self.engine.name, self.supervisor.availability.state)

    def handle_signals(self) -> None:
        """Make SIGTERM, SIGINT and SIGQUIT end `run_until_stopped`, and SIGHUP reread the settings."""
        Signals(self.clock, self._stop, self._reloading.reload_unasked).handle()

    def note_what_breaks(self) -> None:
        """Log and show what breaks outside of all tasks, in timers and other callbacks of the event loop."""

        def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            exc = context.get("exception")
            self.keeper.note(CALLBACKS, exc or RuntimeError(context["message"]))

        asyncio.get_running_loop().set_exception_handler(note)

    async def run_until_stopped(self) -> None:
        """Return once a signal came, or `stop` was called, and all is ended.

        Raises `base.NotOurs` if it had to end because the instance is another's now.
        """
        await self._stop.wait()
        await self.stop()
        self.link.ownership.require()

    async def stop(self) -> None:
        """Shut down in order. Idempotent: whoever comes second waits for the first."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._shut_down())
        self._stop.set()
        await asyncio.shield(self._stopping)

    async def _shut_down(self) -> None:
        if self._status is not None:
            self._status.end()
        self.manager.stopping(self.config.shutdown_timeout + MARGIN)
        self.server.stop_listening()
        if self.link.ownership.problem is None:
            await self._settle()
        else:
            self.supervisor.transitions.abort()  # what is on the engine is another's
        await self.server.close()
        self._reloading.close()
        await self.probes.close()
        await self.keeper.close()
        await self.link.close()
        await self.engine.close()
        self._write_learned()
        self.events.close()
        await self.journal.close()
        self._state.close()
        self.manager.close()
        log.info("stopped")

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(self.config.shutdown_timeout):
                if self._keeps:
                    await self.supervisor.shutdown.leave()
                else:
                    await self.supervisor.shutdown.close(min(self.config.stop_grace, 1.0))
        except TimeoutError:
            left = [
                r.id
                for r in self.supervisor.registry.living()
                if r.phase in ("starting", "stopping")
            ]
            log.error("not settled in time, left to the next start: %s", ", ".join(left))
            self.supervisor.transitions.abort()

    # The engine

    async def _count(self, info: base.EngineInfo) -> None:
        """Count with the engine's machine. Raises `base.EngineError`."""
        await self._subnet_count.ask()
        if info.root_dir and self._engine_host is None:
            self.host.watch_disk(Path(info.root_dir))
        self._subnet_count.tell()
        machine = self.supervisor.admission.machine
        self.supervisor.resize(
            machine._replace(cpus=info.cpus, memory=info.memory, gpus=self._gpus or ())
        )
        for name, problem in self.supervisor.admission.too_large().items():
            log.warning("pipeline %s cannot run here: %s", name, problem)

    @property
    def _keeps(self) -> bool:
        """Whether sessions go on without the daemon."""
        return self.config.on_shutdown == "keep" and self.engine.capabilities.adopts

    async def _note_learned(self) -> None:
        while True:
            await asyncio.sleep(LEARNED_EVERY)
            self._write_learned()

    def _write_learned(self) -> None:
        learned = self.supervisor.admission.learned.to_dict()
        self.journal.note_fact(LEARNED, msgspec.json.encode(learned))

    # Settings

    def _sessions_on(self, probe: str) -> list[str]:
        records = self.supervisor.registry.living()
        return [r.id for r in records if r.plan.upstream and r.plan.upstream.name == probe]

    def _read_settings(self) -> Fresh:
        """Read them, and what they mean, in a thread. Raises `Conflict`."""
        try:
            with without_collections():
                config = self._reread()
            same = config.advertise_host == self.config.advertise_host
            new = self._advertised if same else advertised(config, self._engine_host)
            known = credentials.load(config)
        except ConfigError as exc:
            raise Conflict(f"nothing was changed: {'; '.join(exc.problems)}") from exc
        found = changed(self.config, config)
        if known.tokens != self.logins.known.tokens and "auth" not in found:
            found = sorted([*found, "auth"])
        return Fresh(config, new, known, found)

    def _use_settings(self, fresh: Fresh) -> Reloaded:
        self.settings.config = fresh.config
        self._advertised = fresh.advertised
        self.logins.known = fresh.known
        self.server.look_again()
        self.engine.be_patient(fresh.config.engine_patience)
        self.supervisor.configure()
        self.journal.retention = self._retention()
        log.info("settings reread; changed: %s", ", ".join(fresh.changed) or "nothing")
        return Reloaded(reloaded=True, changed=fresh.changed)


def _learned(journal: Journal) -> Learned:
    """Return what an earlier life of the daemon has learned of the stages."""
    data = journal.fact(LEARNED)
    try:
        return Learned() if data is None else Learned.from_dict(msgspec.json.decode(data))
    except ValueError as exc:
        log.warning("what was learned of the stages cannot be read and is forgotten: %s", exc)
        return Learned()


def _configured_gpus(config: Config) -> tuple[Gpu, ...] | None:
    """Return the devices that the settings name; None when they are to be looked for."""
    if config.gpus == "auto":
        return None
    return tuple(Gpu(int(gpu.memory), gpu.id) for gpu in config.gpus)
