# SPDX-License-Identifier: MIT
from __future__ import annotations

import msgspec

from operatord.core.demand import plain_part, shape_of
from operatord.core.pipelines import Pipeline, Stage, shipped
from operatord.core.plans import SessionPlan, Upstream, make_plan
from operatord.core.scheduling.learning import Use
from operatord.core.units import Bytes
from operatord_protocol.messages import SessionStartParams

MIB = 2**20
PROBE = Upstream("bed-3", "192.0.2.7", 5000)


def plan(
    pipeline: str = "segmented", upstream: Upstream | None = None, **stages: Stage
) -> SessionPlan:
    pipelines = shipped()
    if stages:
        pipelines[pipeline] = Pipeline(stages=stages)
    return make_plan(SessionStartParams(pipeline=pipeline), pipelines, 1000, upstream)


def stage(**members: object) -> Stage:
    return msgspec.structs.replace(Stage(image="x", port=1), **members)


def test_session_takes_what_its_stages_reserve_and_a_place() -> None:
    planned = plan()
    need, gpus = shape_of(planned, tuple(planned.stages))
    assert (need.cpus, need.memory) == (60, 96 * MIB)
    assert (need.sessions, need.subnets, need.ports) == (1, 1, 1)
    assert (need.gpus, gpus) == (0, ())


def test_registered_probe_takes_nothing() -> None:
    planned = plan(upstream=PROBE)
    assert shape_of(planned, tuple(planned.stages)).need.memory == 64 * MIB


def test_what_was_learned_is_taken_stage_by_stage() -> None:
    planned = plan()

    def hold(name: str, declared: Use) -> Use:
        return Use(1000, declared.memory) if name == "segmentation" else declared

    assert shape_of(planned, tuple(planned.stages), hold).need.cpus == 1020


def test_each_device_is_asked_for_with_its_memory() -> None:
    planned = plan("two", a=stage(gpus=2, gpu_memory=Bytes(MIB)), b=stage(gpus=1))
    need, gpus = shape_of(planned, tuple(planned.stages))
    assert (need.gpus, gpus) == (3, (MIB, MIB, 0))


def test_plain_part_is_all_but_the_last_stage() -> None:
    assert plain_part(plan()) == ("probe", "stream")
    assert plain_part(plan(upstream=PROBE)) == ("stream",)


def test_what_has_no_plain_part_has_none() -> None:
    assert plain_part(plan("stream")) is None, "a probe alone streams to nobody"
    assert plain_part(plan("one", only=stage())) is None
    assert plain_part(plan("hot", a=stage(gpus=1), b=stage())) is None, (
        "devices come with the whole"
    )
