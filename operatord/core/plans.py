# SPDX-License-Identifier: MIT
"""From a request and a pipeline to a complete plan, before anything is created.

A plan says which stages are started and what each gets in its environment. Where the stages will find
each other is the engine's to say, so addresses are filled in by `stage_env` once the network exists.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from operatord_protocol.absent import given
from operatord_protocol.checking import suggestion
from operatord_protocol.errors import InvalidParams, NotFound
from operatord_protocol.messages import SessionStartParams

from .pipelines import ADDRESS, PROBE, Namespaces, Pipeline, Stage, env_text
from .sources.url import SourceUrl, parse_source, scheme_of
from .units import plain

_ordered = msgspec.json.Encoder(enc_hook=plain, order="sorted").encode
_CONTROL = {chr(code) for code in range(32)} | {"\x7f"}


class Upstream(msgspec.Struct, frozen=True):
    """A registered probe, as a session will use it."""

    name: str
    host: str
    port: int


class Source(msgspec.Struct, frozen=True):
    """A registered probe with a URL, as a session will use it: its stage ``probe`` is an adapter."""

    name: str
    url: str
    """With credentials: it goes to the adapter and into the journal, and nowhere else."""
    needs: str | None = None
    """The file, folder or device of the engine's machine that the adapter reads."""

    @property
    def scheme(self) -> str:
        """The scheme of the URL."""
        return scheme_of(self.url)

    @property
    def parsed(self) -> SourceUrl:
        """The URL, taken apart."""
        return parse_source(self.url, [self.scheme])


class Adapted(NamedTuple):
    """A registered probe with a URL, and the stage that reads it."""

    source: Source
    adapter: Stage


class SessionPlan(msgspec.Struct, frozen=True):
    """What a session will be. Its hash goes onto every object as a label."""

    pipeline: str
    network: Namespaces
    stages: dict[str, Stage]
    """The stages to start, in the order of the stream."""
    env: dict[str, dict[str, str]]
    """For each stage, all of its environment but the addresses."""
    format: str
    count: int | None = None
    """Frames to deliver; None when the registered probe decides."""
    upstream: Upstream | None = None
    literal: dict[str, tuple[str, ...]] = {}
    """For each stage, the variables that the request set. In these, no addresses are filled in."""
    source: Source | None = None
    """Of a registered probe with a URL; ``upstream`` is then None."""

    @property
    def registered(self) -> str | None:
        """The registered probe that it uses, if it uses one."""
        probe = self.upstream or self.source
        return None if probe is None else probe.name

    def kind_of(self, stage: str) -> str:
        """Return what ``stage`` is learned as: an adapter needs other resources than an emulator."""
        return f"{stage}@{self.source.scheme}" if stage == PROBE and self.source else stage

    @property
    def location_stage(self) -> str:
        """The stage whose port is the location."""
        return next(reversed(self.stages))

    @property
    def reaches_out(self) -> bool:
        """Whether its network has a way out: one of its stages needs it."""
        return any(stage.reaches_out for stage in self.stages.values())

    @property
    def expected_seconds(self) -> float | None:
        """How long the stream lasts at the rate that it is asked for; None if that cannot be told."""
        if self.count is None:
            return None
        for stage in self.stages:
            if (rate := _rate(self.env[stage].get("fps", ""))) is not None:
                seconds = self.count / rate
                return seconds if math.isfinite(seconds) else None
        return None

    def without_credentials(self) -> SessionPlan:
        """Return the plan with the scheme of its source's URL alone: a path may be a secret as well."""
        if self.source is None:
            return self
        source = msgspec.structs.replace(self.source, url=f"{self.source.scheme}:")
        return msgspec.structs.replace(self, source=source)

    def digest(self) -> str:
        """Return a short hash that differs whenever anything in the plan but its source's URL does: who
        knows the rest could try passwords with it."""
        source = self.source and msgspec.structs.replace(self.source, url="")
        plan = msgspec.structs.replace(self, source=source)
        return hashlib.sha256(_ordered(plan)).hexdigest()[:16]


def _rate(text: str) -> float | None:
    """Return frames a second; None for what is no number, and for 0, which is as fast as it goes."""
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if 0 < rate < math.inf else None


def pipeline_name(params: SessionStartParams) -> str:
    """Return what the pipeline that is asked for is called, if there is one. Raises `InvalidParams`."""
    plain, name = given(params.plain_stream), given(params.pipeline)
    if name is None:
        return "stream" if plain else "segmented"
    if plain is not None:
        raise InvalidParams(
            "params.pipeline: give either plain_stream or pipeline, not both",
            path="params.pipeline",
        )
    return name


def choose_pipeline(params: SessionStartParams, pipelines: Mapping[str, Pipeline]) -> str:
    """Return the name of the pipeline that is asked for. Raises `InvalidParams`, `NotFound`."""
    name = pipeline_name(params)
    if given(params.pipeline) is not None and name not in pipelines:
        raise NotFound(f"there is no pipeline {name!r}{suggestion(name, pipelines)}")
    return name


def make_plan(
    params: SessionStartParams,
    pipelines: Mapping[str, Pipeline],
    default_count: int,
    probe: Upstream | Adapted | None = None,
) -> SessionPlan:
    """Return the plan for a request. Raises `InvalidParams`, `NotFound`; nothing else has happened."""
    name = choose_pipeline(params, pipelines)
    pipeline = with_probe(name, pipelines[name], probe)
    stages = pipeline.stages
    _check_env(params, name, stages)
    serves = next(reversed(stages.values())).serves
    _check_format(params, name, serves)
    # A managed probe makes as many frames as it is told; a registered one is only cut short on request.
    unasked = default_count if probe is None else None
    count = given(params.count, unasked)
    source = probe.source if isinstance(probe, Adapted) else None
    # A recording's frames are not counted beforehand, and yet it is no live stream: it waits to be read.
    held = {"unread": "hold"} if source is not None and source.scheme == "file" else {}
    return SessionPlan(
        pipeline=name,
        network=pipeline.namespaces,
        stages=stages,
        env={stage: held | _env(params, stage, stages, count) for stage in stages},
        format=params.format if serves == "stream" else serves,
        count=count,
        upstream=probe if isinstance(probe, Upstream) else None,
        literal={stage: tuple(values) for stage, values in params.env.items()},
        source=source,
    )


def with_probe(name: str, pipeline: Pipeline, probe: Upstream | Adapted | None) -> Pipeline:
    """Return a pipeline as it is with a registered probe: without its stage ``probe``, or with an adapter in
    its place. Raises `InvalidParams`."""
    if probe is None:
        return pipeline
    stages = dict(pipeline.stages)
    _check_replaceable(name, stages)
    if isinstance(probe, Upstream):
        del stages[PROBE]
        return msgspec.structs.replace(pipeline, network=pipeline.namespaces, stages=stages)
    stages[PROBE] = probe.adapter
    adapted = msgspec.structs.replace(pipeline, stages=stages)
    if adapted.namespaces == "shared" and not adapted.can_share:
        return msgspec.structs.replace(adapted, network="separate")
    return adapted


def stage_env(
    plan: SessionPlan, stage: str, addresses: Mapping[str, tuple[str, int]], session_id: str
) -> dict[str, str]:
    """Return the whole environment of ``stage``; ``addresses`` has every stage's host and port."""
    env: dict[str, str] = {"OPERATORD_STAGE": stage}
    if (upstream := _before(plan, stage)) is not None:
        env["OPERATORD_UPSTREAM"] = upstream
    for name, (host, port) in addresses.items():
        env[f"{name}_ip"], env[f"{name}_port"] = host, str(port)
    # Said last, so that a pipeline may give a stage another upstream than its name suggests.
    literal = plan.literal.get(stage, ())
    env |= {
        key: value if key in literal else _fill_in(value, addresses)
        for key, value in plan.env[stage].items()
    }
    env["OPERATORD_SESSION"] = session_id
    return env


def _before(plan: SessionPlan, stage: str) -> str | None:
    """Return the name of the stage that ``stage`` reads from; None for a source."""
    stages = list(plan.stages)
    if place := stages.index(stage):
        return stages[place - 1]
    return None if plan.upstream is None else PROBE


def _fill_in(value: str, addresses: Mapping[str, tuple[str, int]]) -> str:
    """Return ``value`` with ``{stage.host}`` and ``{stage.port}`` replaced by what they stand for."""

    def found(match: re.Match[str]) -> str:
        if match[1] not in addresses:
            return match[0]
        host, port = addresses[match[1]]
        return host if match[2] == "host" else str(port)

    return ADDRESS.sub(found, value)


def _check_replaceable(name: str, stages: Mapping[str, Stage]) -> None:
    if PROBE not in stages or len(stages) == 1:
        raise InvalidParams(
            f"params.probe: the pipeline {name!r} has no stage that a registered probe could replace",
            path="params.probe",
        )


def _check_format(params: SessionStartParams, pipeline: str, serves: str) -> None:
    """Refuse what only the stream format can do. Raises `InvalidParams`."""
    if serves == "stream":
        return
    if params.format != "json":
        raise InvalidParams(
            f"params.format: the pipeline {pipeline!r} serves {serves}, and nothing else; leave format out",
            path="params.format",
        )
    if params.on_shortage == "degrade":
        raise InvalidParams(
            f"params.on_shortage: the pipeline {pipeline!r} serves {serves}, which its other stages cannot "
            "serve in the meantime; use queue or refuse",
            path="params.on_shortage",
        )


def _env(
    params: SessionStartParams, stage: str, stages: dict[str, Stage], count: int | None
) -> dict[str, str]:
    # Only the last stage speaks to requesters; between stages the stream is always json.
    last = next(reversed(stages))
    env: dict[str, str] = {"format": params.format if stage == last else "json"}
    if count is not None:
        env["count"] = str(count)
    env |= {key: env_text(value) for key, value in stages[stage].env.items()}
    env |= {key: env_text(value) for key, value in params.env.get(stage, {}).items()}
    return env


def _check_env(params: SessionStartParams, pipeline: str, stages: Mapping[str, Stage]) -> None:
    for stage, values in params.env.items():
        where = f"params.env.{stage}"
        if stage not in stages:
            is_variable = _takes(stage, stages)
            hint = by_stage(stage, None, stages) if is_variable else suggestion(stage, stages)
            raise InvalidParams(f"{where}: the session has no such stage{hint}", path=where)
        allowed = stages[stage].allow_env
        for key, value in values.items():
            path = f"{where}.{key}"
            if key not in allowed:
                is_of_another = _takes(key, stages)
                hint = by_stage(key, value, stages) if is_of_another else suggestion(key, allowed)
                raise InvalidParams(
                    f"{path}: the pipeline {pipeline!r} does not allow this key{hint}", path=path
                )
            # Late binding hands the environment over in lines: a line break would smuggle keys in.
            if isinstance(value, str) and not _CONTROL.isdisjoint(value):
                raise InvalidParams(f"{path}: control characters are not allowed", path=path)


def _takes(key: str, stages: Mapping[str, Stage]) -> list[str]:
    """Return the stages whose ``key`` a request may set."""
    return [name for name, stage in stages.items() if key in stage.allow_env]


def by_stage(key: str, value: object, stages: Mapping[str, Stage]) -> str:
    """Return a hint how to write a variable with its stage; empty if there is no such variable.

    A ``key`` that no stage takes is met with an example.
    """
    if takers := _takes(key, stages):
        shown = _shown(value)
        return f"; did you mean {' or '.join(_in_json(each, key, shown) for each in takers)}?"
    examples = [
        _in_json(name, stage.allow_env[0], "…") for name, stage in stages.items() if stage.allow_env
    ]
    return f"; env is given by stage, such as {examples[0]}" if examples else ""


def _in_json(stage: str, key: str, value: str) -> str:
    return f'{{"{stage}":{{"{key}":{value}}}}}'


def _shown(value: object) -> str:
    is_short = isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 32)
    return msgspec.json.encode(value).decode() if is_short else "…"
