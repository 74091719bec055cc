# SPDX-License-Identifier: MIT
"""The kinds of slots: for a pipeline, for a pipeline with an adapter as its probe, and networks alone."""

from __future__ import annotations

from msgspec.structs import replace

from operatord.core.pipelines import PROBE, Pipeline
from operatord.core.plans import Adapted, SessionPlan, Source, make_plan, with_probe
from operatord.settings.config import Config
from operatord_protocol.messages import SessionStartParams

SPARE = ""
"""In place of a kind's name, for a slot that is only a network."""
NO_STAGES = SessionPlan(pipeline=SPARE, network="shared", stages={}, env={}, format="json")


def slot_kinds(config: Config) -> list[str]:
    """Return the kinds that have stages, by the names that `system.status` shows."""
    warm = [scheme for scheme, adapter in config.sources.items() if adapter.warm]
    return [
        *config.pipelines,
        *(f"{name}@{scheme}" for name in _keeping(config) for scheme in warm),
    ]


def _keeping(config: Config) -> list[str]:
    """Return the pipelines that keep slots, and have a probe that an adapter can replace."""
    return [
        name
        for name, each in config.pipelines.items()
        if PROBE in each.stages and each.warm_bounds[1]
    ]


def pipeline_of(kind: str, config: Config) -> Pipeline | None:
    """Return what a slot of this kind is to be, with ``warm`` as for the kind; None if none is to be."""
    if kind in config.pipelines:
        return config.pipelines[kind]
    if kind == SPARE or kind not in slot_kinds(config):
        return None
    name, _, scheme = kind.rpartition("@")
    adapted = with_probe(name, config.pipelines[name], _unnamed(scheme, config))
    return replace(adapted, warm=config.sources[scheme].warm)


def plan_of(kind: str, config: Config) -> SessionPlan:
    """Return the plan of a slot of a kind that is to be."""
    if kind == SPARE:
        return NO_STAGES
    name, _, scheme = ("", "", "") if kind in config.pipelines else kind.rpartition("@")
    params = SessionStartParams(pipeline=name or kind)
    probe = _unnamed(scheme, config) if scheme else None
    return make_plan(params, config.pipelines, config.defaults.count, probe)


def _unnamed(scheme: str, config: Config) -> Adapted:
    """Return an adapter that does not know its source yet."""
    return Adapted(Source("", f"{scheme}:"), config.sources[scheme].stage)


def kind_of(plan: SessionPlan) -> str:
    """Return the kind of slot that would do for a plan."""
    return plan.pipeline if plan.source is None else f"{plan.pipeline}@{plan.source.scheme}"
