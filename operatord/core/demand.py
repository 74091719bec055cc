# SPDX-License-Identifier: MIT
"""What a plan takes, as admission counts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from operatord.core.scheduling.learning import Use
from operatord.core.scheduling.waiting import Shape

from .pipelines import PROBE
from .plans import SessionPlan
from .resources import MILLI, Vector

Hold = Callable[[str, Use], Use]
"""``hold(stage, declared)`` returns what to hold for a stage, at least what is declared."""


def as_declared(stage: str, declared: Use) -> Use:
    """Hold what the pipeline declares, for a `Hold`."""
    return declared


def shape_of(plan: SessionPlan, stages: Sequence[str], hold: Hold = as_declared) -> Shape:
    """Return what ``stages`` of ``plan`` take, with a place, a subnet and a port for the session."""
    uses = [hold(plan.kind_of(name), declared(plan, name)) for name in stages]
    chosen = [plan.stages[name] for name in stages]
    gpus = tuple(int(stage.gpu_memory) for stage in chosen for _ in range(stage.gpus))
    need = Vector(
        cpus=sum(use.cpus for use in uses),
        memory=sum(use.memory for use in uses),
        gpus=len(gpus),
        sessions=1,
        subnets=1,
        ports=1,
    )
    return Shape(need, gpus)


def declared(plan: SessionPlan, stage: str) -> Use:
    """Return what the pipeline reserves for ``stage``."""
    return Use(round(plan.stages[stage].cpus * MILLI), int(plan.stages[stage].memory))


def plain_part(plan: SessionPlan) -> tuple[str, ...] | None:
    """Return the stages that serve the plain stream, or None if the plan has no such part.

    The plain part is all stages but the last, if one of them streams. Devices are handed out once, for the
    whole session, so a part that needs devices cannot be started alone.
    """
    stages = tuple(plan.stages)[:-1]
    streams = [name for name in stages if name != PROBE]
    if not streams or any(plan.stages[name].gpus for name in stages):
        return None
    return stages
