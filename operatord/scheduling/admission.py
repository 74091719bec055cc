# SPDX-License-Identifier: MIT
"""Owns the scheduler's state: passes events to it, and explains its decisions in words and numbers.
`core.scheduling.scheduler` decides; the supervisor acts. This module turns plans into demands, settings and
facts of the machine into capacities, and monotonic moments into times of day.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from operatord.core import demand
from operatord.core.pipelines import Stage
from operatord.core.plans import SessionPlan
from operatord.core.resources import DIMENSIONS, MILLI, UNLIMITED, Vector, shown
from operatord.core.scheduling import scheduler
from operatord.core.scheduling.forecast import Standing, standings
from operatord.core.scheduling.learning import Learned, Use
from operatord.core.scheduling.ledger import Ask, Settings, State
from operatord.core.scheduling.pressure import Gauge, Kind, Sample, Watermarks
from operatord.core.scheduling.room import Gpu
from operatord.core.scheduling.waiting import Shape
from operatord.core.scheduling.why import Why, explain, never
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord
from operatord.session.snapshot import SavedHolding
from operatord.settings.config import Config
from operatord.settings.current import CurrentSettings
from operatord_protocol.absent import given
from operatord_protocol.messages import SessionStartParams, Ttl

STARTS_KEPT = 32
"""Durations of starts that are remembered for each pipeline."""


FORESEEN = 256
"""Kinds of requests that are known to be able to start, until the next event."""


class Machine(NamedTuple):
    """What there is before anything is kept back."""

    cpus: float
    memory: int
    """Bytes."""
    gpus: tuple[Gpu, ...] = ()
    subnets: int = UNLIMITED
    no_subnets: str | None = None
    """What occupies the subnets, in words, if none is left."""


class Admission:
    """Everything that is known about room, in one place."""

    def __init__(
        self,
        settings: CurrentSettings,
        machine: Machine,
        clock: Clock,
        learned: Learned | None = None,
    ) -> None:
        """Count with ``machine`` until `adjust` brings another."""
        self._current = settings
        self._machine = machine
        self._clock = clock
        self._gauge = Gauge()
        self._free: Vector | None = None
        self._blocked: dict[str, str] = {}
        self._starts: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=STARTS_KEPT))
        self._standings: dict[str, Standing] | None = None
        self._foreseen: dict[Ask, scheduler.Preview] = {}
        self._shapes: dict[tuple[str, ...], tuple[tuple[Stage, ...], Shape]] = {}
        self.learned = learned or Learned()
        self.state = State(_settings(settings.config, machine))

    # What happens

    def decide(self, event: scheduler.Event) -> list[scheduler.Action]:
        """Give the scheduler ``event``; return what is to be done."""
        self._standings = None
        self._foreseen.clear()
        return scheduler.decide(self.state, event, self._clock.now())

    @property
    def _config(self) -> Config:
        return self._current.config

    def adjust(self, machine: Machine | None = None) -> list[scheduler.Action]:
        """Count with the settings as they are now, and with another machine if there is one."""
        self._machine = machine or self._machine
        return self._changed(self.state.draining)

    def drain(self, draining: bool) -> list[scheduler.Action]:
        """Admit no more, or admit again."""
        return self._changed(draining)

    def _changed(self, draining: bool) -> list[scheduler.Action]:
        settings = _settings(self._config, self._machine)
        return self.decide(scheduler.Changed(settings, draining))

    def measure(self, sample: Sample, seconds: float) -> list[scheduler.Action]:
        """Take in what was measured ``seconds`` after the last time."""
        reserved, marks = self._config.system_reserved, self._watermarks()
        self._gauge.update(sample, marks, seconds)
        self._free = _unlimited(memory=sample.memory_available - int(reserved.memory))
        return self._measured()

    def block_starts(self, kind: str, reason: str | None) -> list[scheduler.Action]:
        """Block starts because of ``kind``; with an empty reason, allow them again."""
        self._blocked.pop(kind, None)
        if reason is not None:
            self._blocked[kind] = reason
        return self._measured()

    def _measured(self) -> list[scheduler.Action]:
        kind, reason = str(self._gauge.kind), self._gauge.reason(self._watermarks())
        for held, why in self._blocked.items():
            kind, reason = held, why
        return self.decide(scheduler.Measured(self._free, kind, reason))

    def _watermarks(self) -> Watermarks:
        pressure, reserved = self._config.pressure, self._config.system_reserved
        return Watermarks(
            cpu=pressure.cpu,
            memory_stall=pressure.memory_stall,
            memory=int(reserved.memory),
            disk=int(reserved.disk),
        )

    @property
    def machine(self) -> Machine:
        """What is counted with."""
        return self._machine

    @property
    def pressure(self) -> Kind:
        """What the machine is short of."""
        return self._gauge.kind

    def restore(self, record: SessionRecord, held: SavedHolding) -> None:
        """Debit what a session of an earlier life of the daemon holds."""
        lacks = self.shape(record.plan, record.missing) if record.missing else None
        # It already has a place, a subnet and a port.
        rest = (
            None
            if lacks is None
            else Shape(lacks.need._replace(sessions=0, subnets=0, ports=0), lacks.gpus)
        )
        self.decide(
            scheduler.Restored(
                record.id,
                record.owner,
                held.need,
                held.gpus,
                held.extra,
                lacks=rest if record.phase == "running" else None,
                priority=record.params.priority,
            )
        )

    def holding(self, session_id: str) -> SavedHolding | None:
        """Return what a session holds, for the journal."""
        found = self.state.room.holdings.get(session_id)
        if found is None:
            return None
        return SavedHolding(found.need, found.extra, tuple(gpu.id for gpu in found.gpus))

    def started(self, pipeline: str, seconds: float) -> None:
        """Remember how long a start took."""
        self._starts[pipeline].append(seconds)

    # Questions

    def ask(
        self,
        plan: SessionPlan,
        params: SessionStartParams,
        owner: str,
        session_id: str,
        patience: float | None = None,
    ) -> Ask:
        """Return what the scheduler needs to know of a request.

        One that says no deadline waits for ``patience`` seconds; None: for ever.
        """
        whole = self.shape(plan, tuple(plan.stages))
        plain = demand.plain_part(plan) if params.on_shortage == "degrade" else None
        return Ask(
            session_id,
            owner,
            whole.need,
            whole.gpus,
            priority=params.priority,
            on_shortage=params.on_shortage,
            latest=self._latest(plan, params, patience),
            seconds=self._seconds(plan, params),
            plain=self.shape(plan, plain).need if plain else None,
        )

    def shape(self, plan: SessionPlan, stages: Sequence[str]) -> Shape:
        """Return what ``stages`` take: what is declared, or what was learned if the pipeline wants that."""

        def learned(stage: str, declared: Use) -> Use:
            return self.learned.reservation_for(plan.pipeline, stage, declared)

        pipeline = self._config.pipelines.get(plan.pipeline)
        if pipeline is not None and pipeline.reservations == "learned":
            return demand.shape_of(plan, stages, learned)
        return self._declared_shape(plan, stages)

    def _declared_shape(self, plan: SessionPlan, stages: Sequence[str]) -> Shape:
        """Return what ``stages`` declare, worked out once for the same stages of the same settings."""
        key = (plan.pipeline, *stages)
        chosen = tuple(map(plan.stages.__getitem__, stages))
        known = self._shapes.get(key)
        if known is None or known[0] != chosen:
            self._shapes[key] = known = chosen, demand.shape_of(plan, stages)
        return known[1]

    def _latest(
        self, plan: SessionPlan, params: SessionStartParams, patience: float | None
    ) -> float | None:
        """Return the latest moment at which it can be started and still be ready by its deadline. This uses
        the quickest start seen so far, so only a request that cannot be ready is refused.
        """
        deadline = given(params.deadline, patience)
        if deadline is None:
            return None
        return self._clock.now() + deadline - min(self._starts[plan.pipeline], default=0.0)

    def _seconds(self, plan: SessionPlan, params: SessionStartParams) -> float | None:
        """Return how long the session is expected to live."""
        ends = [plan.expected_seconds, self._config.lease.max_age]
        ends.append(params.lease.ttl if isinstance(params.lease, Ttl) else None)
        return min((float(end) for end in ends if end is not None), default=None)

    def standing(self, session_id: str) -> Standing | None:
        """Return where a request stands in the queue."""
        return self.standings().get(session_id)

    def standings(self) -> dict[str, Standing]:
        """Return where each request stands; worked out when asked for the first time."""
        if self._standings is None:
            self._standings = standings(self.state, self._clock.now())
        return self._standings

    def why(self, session_id: str) -> Why | None:
        """Return why a request still waits."""
        waiting = self.state.queue.get(session_id)
        return None if waiting is None else explain(self.state, waiting, self._clock.now())

    def preview(self, ask: Ask) -> scheduler.Preview:
        """Return what would be decided now, changing nothing.

        While nobody waits, an answer for one kind of request holds until the next event.
        """
        kind = ask._replace(seconds=None)
        if (known := self._foreseen.get(kind)) is not None:
            return known
        self._standings = None
        found = scheduler.preview(self.state, ask, self._clock.now())
        lasts = isinstance(found.action, scheduler.Start) and not self.state.length
        if lasts and ask.latest is None and len(self._foreseen) < FORESEEN:
            self._foreseen[kind] = found
        return found

    def next_deadline(self) -> float | None:
        """Return the moment of the earliest deadline in the queue."""
        return scheduler.next_deadline(self.state)

    def too_large(self) -> dict[str, str]:
        """Return, for each pipeline that can never run here, why not."""
        found = {}
        for name, pipeline in self._config.pipelines.items():
            plan = SessionPlan(name, pipeline.namespaces, pipeline.stages, {}, "json")
            if why := never(self.state, self.shape(plan, tuple(pipeline.stages))):
                found[name] = why.text
        return found

    # For people

    def reservation(self, plan: SessionPlan) -> dict[str, float]:
        """Return what a session with this plan would hold."""
        need = self.shape(plan, tuple(plan.stages)).need
        return {
            name: shown(name, amount)
            for name, amount, most in zip(
                DIMENSIONS, need, self.state.settings.capacity, strict=True
            )
            if amount and most < UNLIMITED
        }

    def capacity(self) -> dict[str, float]:
        """Return what sessions may take together; dimensions without a bound are left out."""
        return amounts(self.state.settings.capacity)

    def reserved(self) -> dict[str, float]:
        """Return what they have taken."""
        bounded = self.capacity()
        return {name: v for name, v in amounts(self.state.room.used).items() if name in bounded}

    def free(self) -> dict[str, float]:
        """Return what a start could take now."""
        bounded = self.capacity()
        free = amounts(self.state.room.free)
        return {name: max(0, free[name]) for name in bounded}


def amounts(vector: Vector) -> dict[str, float]:
    """Return a vector in everyday units: cores, bytes, pieces; unbounded dimensions are left out."""
    return {
        name: shown(name, amount)
        for name, amount in zip(DIMENSIONS, vector, strict=True)
        if amount < UNLIMITED
    }


def _settings(config: Config, machine: Machine) -> Settings:
    reserved, ports = config.system_reserved, config.port_range
    capacity = Vector(
        cpus=max(0, round((machine.cpus - reserved.cpus) * MILLI)),
        memory=max(0, machine.memory - int(reserved.memory)),
        gpus=len(machine.gpus),
        sessions=config.limits.sessions,
        subnets=machine.subnets,
        ports=ports[1] - ports[0] + 1 if ports else UNLIMITED,
    )
    return Settings(
        capacity,
        machine.gpus,
        queue=config.limits.queue,
        per_owner=config.limits.sessions_per_owner,
        ageing=float(config.queue.ageing),
        no_subnets=machine.no_subnets,
    )


def _unlimited(**known: int) -> Vector:
    return Vector(*[UNLIMITED] * len(DIMENSIONS))._replace(**known)
