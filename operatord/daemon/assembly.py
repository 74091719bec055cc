# SPDX-License-Identifier: MIT
"""The parts of a daemon, made and connected; nothing runs yet."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from operatord import __version__, logs
from operatord.access.audit import Audit
from operatord.access.logins import Logins
from operatord.control.peer import Services
from operatord.control.views import Views
from operatord.control.wire.server import Server
from operatord.core.subnets import SubnetPool
from operatord.engine_link.capabilities import CapabilityMemory
from operatord.engine_link.link import EngineLink, LinkMeans
from operatord.engine_link.ownership import Ownership
from operatord.engines import base
from operatord.gate.keys import StreamKey
from operatord.lifecycle.engine_changes import EngineChanges, EngineHooks
from operatord.lifecycle.forgotten import Forgotten
from operatord.lifecycle.inspection import Inspection
from operatord.lifecycle.reconcile import Reconciler
from operatord.lifecycle.supervisor import Supervisor, SupervisorParts
from operatord.machine.clock import Clock
from operatord.machine.failpoints import fail_around
from operatord.machine.host import HostMonitor
from operatord.machine.keeper import Keeper
from operatord.metering.engine_calls import MeteredEngine
from operatord.metering.meters import Meters
from operatord.monitors.idle import IdleWatch
from operatord.monitors.stall import StallWatch
from operatord.monitors.usage import CallRate, UsageWatch
from operatord.provision.blueprint import StartSettings
from operatord.provision.starter import Starter
from operatord.provision.subnet_count import SubnetCount
from operatord.scheduling.admission import Admission, Machine
from operatord.settings import choice, credentials
from operatord.settings.checks import cautions
from operatord.settings.config import Config
from operatord.settings.current import CurrentSettings
from operatord.settings.reloading import Reloading
from operatord.state.directory import StateDir, StateDirLost
from operatord.store.events import EventLog
from operatord.store.journal import Journal, Retention
from operatord.store.journal_file import JOURNAL, JournalFailed
from operatord.streams.probes import ProbeRegistry, rules_of
from operatord.systemd.manager import ServiceManager
from operatord_protocol.messages import Reloaded

from .counting import Devices, EngineMachine
from .gateway import GatewayProcess
from .learned import LearnedMemory
from .reaching import Told, make_doors, reach_of, stream_warnings
from .settings_reader import Fresh, SettingsReader

log = logging.getLogger(__name__)

WATCHING = "the watch over the engine"
COMPARING = "what compares sessions with the engine"
"""What keeps running, as the log and `system.status` call it."""


class Parts(NamedTuple):
    """What may be handed to a daemon ready-made, by whoever embeds or tests it."""

    engine: base.Engine | None = None
    clock: Clock | None = None
    host: HostMonitor | None = None
    manager: ServiceManager | None = None


class Assembly:
    """Everything that a daemon is made of."""

    def __init__(self, config: Config, reread: Callable[[], Config], given: Parts) -> None:
        """``reread``, called in a thread, returns the settings anew; ``given`` replace what would be made.

        Raises `StateDirUnusable`, `ConfigError`, `OSError`.
        """
        self.settings = CurrentSettings(config)
        self.clock = given.clock or Clock()
        self.manager = given.manager or ServiceManager()
        self._begun = self.clock.now()
        engine_host = choice.engine_host(config, os.environ)
        self.here = engine_host is None
        """Whether the engine is on this machine; of another one, nothing can be measured here."""
        self.audit = Audit(self.clock.now)
        self.logins = Logins(credentials.load(config), self.clock.now, self.audit)
        self._reader = SettingsReader(self.settings, reread, engine_host, self.logins)
        self.state = StateDir(config.state_path)
        self.instance = self.state.instance
        self.choice = self._choose_engine(given.engine)
        self.engine = fail_around(self.choice.engine)
        self.engine.be_patient(config.engine_patience)
        self.meters = Meters(self.clock.now)
        self._metered = MeteredEngine(self.engine, self.meters.engine)
        self.keeper = Keeper(self.clock)
        self._stream_key = StreamKey(self.state.path)
        self.journal = self._open_journal()
        self.learned = LearnedMemory(self.journal)
        self.events = EventLog(self.clock, self.journal, meter=self.meters.events)
        self.host = given.host or HostMonitor(self.state.path, self.clock)
        self._make_sessions()
        self.link = self._make_link()
        self.looks = self._make_watches()
        self.reloading = Reloading(self._reader.read, self._use_settings, self.manager.reloading)
        self.services = self._make_services()
        self.server = Server(self.services)
        self.gateway: GatewayProcess | None = None

    def _make_sessions(self) -> None:
        """Make what gives sessions their room, lives them and compares them with the engine."""
        config = self.config
        self._subnets = SubnetPool(config.subnets)
        self.devices = Devices(config, here=self.here)
        self.supervisor = self._make_supervisor()
        self.subnet_count = self._make_subnet_count()
        self._machine = EngineMachine(
            self.supervisor, self.subnet_count, self.host, self.devices, here=self.here
        )
        self._forgotten = Forgotten(self.journal)
        self.reconciler = Reconciler(
            self._metered, self.supervisor, self._forgotten, self.instance, self.clock
        )
        self.reconciler.meter = self.meters.reconciles
        self.probes = ProbeRegistry(
            self._sessions_on,
            self.events.emit,
            self.journal,
            self.settings,
            sees_places=lambda: self._machine.shows_files,
        )

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return self.settings.config

    def _choose_engine(self, given: base.Engine | None) -> choice.Choice:
        """Return the engine, and why it is that one. Raises `ConfigError`."""
        if given is not None:
            return choice.Choice(given, "it was given")
        return choice.choose_engine(self.config, self.instance, self.state.path, os.environ)

    def _make_supervisor(self) -> Supervisor:
        self.doors = make_doors(
            self.state,
            self._stream_key,
            Told(self.audit, self.keeper.show),
            lambda: self.config.gate_port_range,
            lambda: self.supervisor.registry.living(),  # noqa: PLW0108  # it is made later
        )
        here = self.here
        starter = Starter(self._metered, self._subnets, self._start_settings, self.clock, here=here)
        starter.doors = self.doors
        facts = self.host.facts()
        machine = Machine(facts["cpus"], facts["memory"], self.devices.known)
        admission = Admission(self.settings, machine, self.clock, self.learned.learned)
        parts = SupervisorParts(
            self._metered,
            starter,
            admission,
            self.settings,
            self.clock,
            self.journal,
            self.events.emit,
            self.meters.sessions,
        )
        supervisor = Supervisor(parts)
        supervisor.transitions.on_defect = self.keeper.note
        self.journal.on_trouble = supervisor.note_journal
        return supervisor

    def _make_subnet_count(self) -> SubnetCount:
        here, tell = self.here, self.supervisor.note_subnets
        count = SubnetCount(self._metered, self._subnets, tell, here=here)
        self.supervisor.on_no_subnets = count.doubt
        return count

    def _open_journal(self) -> Journal:
        try:
            path = self.state.path / JOURNAL
            return Journal(path, self._retention(), secure=self._secure_state)
        except JournalFailed:
            self.state.close()
            raise

    def _secure_state(self) -> None:
        try:
            self.state.secure()
            self._stream_key.keep()
        except StateDirLost as exc:
            raise JournalFailed(str(exc)) from exc

    def _retention(self) -> Retention:
        kept = self.config.history.kept
        return Retention(kept.rows, kept.days * 86400)

    def _make_link(self) -> EngineLink:
        ownership = Ownership(self._metered, self.instance, self.state.holder)
        capabilities = CapabilityMemory(self._metered, self.journal)
        means = LinkMeans(self.events.emit, self.clock, self.engine_patience, self.choice.because)
        return EngineLink(
            self._metered, self.supervisor.availability, ownership, capabilities, means
        )

    def engine_changes(self, leave: Callable[[], None]) -> EngineChanges:
        """Return what listens to the link. ``leave`` ends the daemon, whose instance is another's."""
        keeper = self.keeper
        hooks = EngineHooks(
            measure=self._machine.count,
            compare=lambda: keeper.attempt(COMPARING, self.reconciler.look, base.EngineError),
            leave=leave,
            broke=lambda exc: keeper.note(WATCHING, exc),
        )
        return EngineChanges(self.supervisor, hooks)

    def engine_patience(self) -> float:
        """Seconds."""
        return self.config.engine_patience

    def _make_watches(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what looks at sessions that run, by the name that the log calls it."""
        engine, supervisor, rate = self._metered, self.supervisor, CallRate(clock=self.clock)
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
            inspection=Inspection(self._metered, self.supervisor.availability),
            supervisor=self.supervisor,
            probes=self.probes,
            events=self.events,
            meters=self.meters,
            host=self.host,
            measures_engine=self.here,
            clock=self.clock,
            engine_name=self.engine.name,
            engine_facts=self._engine_facts,
            troubles=lambda: self.keeper.troubles() + logs.troubles(),
            uptime=lambda: self.clock.now() - self._begun,
            connections=lambda: self.server.connections,
            reload=self.reloading.reload,
            views=Views(self.supervisor),
            logins=self.logins,
            audit=self.audit,
            reach=lambda origin, entrance: reach_of(
                self._reader.advertised, self.config, origin, entrance
            ),
            more_warnings=lambda: [
                *self._warnings(),
                *choice.engine_warnings(self.engine),
                *self.server.places.crowding.warnings,
            ],
        )

    def log_warnings(self) -> None:
        """Write what is to be known of listeners, streams, certificates and stages into the log."""
        for warning in (*self._warnings(), *cautions(self.config)):
            log.warning("%s", warning)

    def _warnings(self) -> list[str]:
        """Return what is to be known of listeners, streams and certificates."""
        known, now = self.logins.known, self.clock.wall()
        return [
            *self.config.clear_doors,
            *stream_warnings(self._reader.advertised, self.config),
            *credentials.certificate_warnings(self.config, known, now),
        ]

    def _engine_facts(self) -> dict[str, Any]:
        return self.link.facts() | self._forgotten.facts()

    def _start_settings(self) -> StartSettings:
        config = self.config
        return StartSettings(
            self.instance,
            self._reader.advertised.host,
            config.port_range,
            config.start_timeout,
            self._reader.advertised.address,
            rules_of(config, sees_places=self._machine.shows_files),
        )

    def _sessions_on(self, probe: str) -> list[str]:
        records = self.supervisor.registry.living()
        return [r.id for r in records if r.plan.registered == probe]

    def _use_settings(self, fresh: Fresh) -> Reloaded:
        self._reader.use(fresh)
        self.server.look_again()
        self.doors.reread_later()
        if self.gateway is not None:
            self.gateway.reread()
        self.engine.be_patient(fresh.config.engine_patience)
        self.supervisor.configure()
        self.journal.retention = self._retention()
        generation = self.settings.generation
        what = ", ".join(fresh.changed) or "nothing"
        log.info("settings reread, generation %d; changed: %s", generation, what)
        self.log_warnings()
        return Reloaded(reloaded=True, changed=fresh.changed, generation=generation)
