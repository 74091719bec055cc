# SPDX-License-Identifier: MIT
"""Pipelines, units and endings."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.core.endings import LINGER, Exit, judge, judge_start
from operatord.core.pipelines import Pipeline, Stage, problems, shipped
from operatord.core.units import Bytes, Duration

CHAIN = ("probe", "stream", "segmentation")


def pipeline(network: str = "separate", **stages: Stage) -> Pipeline:
    return Pipeline(network=network, stages=stages)  # type: ignore[arg-type]


def test_shipped_pipelines_have_no_problems() -> None:
    assert [problems(name, each) for name, each in shipped().items()] == [[], []]
    assert shipped()["segmented"].location_stage == "segmentation"


def test_contradictions_of_a_pipeline_are_sentences_with_their_path() -> None:
    stage = Stage(image="i", port=1)
    cases = {
        "pipelines.x.stages": pipeline(),
        "pipelines.x: with network: shared": pipeline("shared", a=stage, b=stage),
        "pipelines.x.stages.location": pipeline(location=stage),
        "pipelines.x.stages.owner": pipeline(owner=stage),
        "pipelines.x.stages.a.allow_env: stream_ip": pipeline(
            a=Stage(image="i", port=1, allow_env=["stream_ip"])
        ),
        "pipelines.x.stages.a.allow_env: OPERATORD_SESSION": pipeline(
            a=Stage(image="i", port=1, allow_env=["OPERATORD_SESSION"])
        ),
        "pipelines.x.stages.a.memory": pipeline(a=Stage(image="i", port=1, memory=Bytes(1024))),
    }
    for path, case in cases.items():
        [problem] = problems("x", case)
        assert problem.startswith(path)
    assert problems("x", pipeline("shared", a=stage, b=Stage(image="i", port=2))) == []
    assert problems("x", pipeline("separate", a=stage, b=stage)) == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (5, 5),
        (1.5, 1.5),
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2 h", 7200),
        ("1d", 86400),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert Duration.parse(value) == seconds


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (4096, 4096), ("64KiB", 65536), ("1.5MiB", 1572864), ("2 GiB", 2**31), ("1MB", 10**6)],
)
def test_sizes(value: object, size: int) -> None:
    assert Bytes.parse(value) == size


NONSENSE = [
    None, True, [], {}, "", "s", "5x", "-5s", "5 5s", "1e3s", "0x10", "５s", -1, math.inf, -math.inf,
    math.nan, 10**400, "9" * 400 + "s", "9" * 400 + "MiB", "nan", "inf",
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:20])
def test_what_is_no_duration_and_no_size_is_a_value_error(value: object) -> None:
    for kind in (Duration, Bytes):
        with pytest.raises(ValueError, match="expected"):
            kind.parse(value)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.integers())))
def test_units_raise_value_errors_only(value: object) -> None:
    for kind in (Duration, Bytes):
        try:
            assert kind.parse(value) >= 0
        except ValueError as exc:
            assert str(exc).startswith("expected")


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Bytes, "1G", "got '1G'; did you mean 1GiB?"),
        (Bytes, "512 m", "did you mean 512MiB?"),
        (Bytes, "1Gi", "did you mean 1GiB?"),
        (Bytes, "1.5gb", "did you mean 1.5GB?"),
        (Bytes, "1gib", "did you mean 1GiB?"),
        (Duration, "1min", "got '1min'; did you mean 1m?"),
        (Duration, "60 seconds", "did you mean 60s?"),
        (Duration, "2H", "did you mean 2h?"),
        (Duration, "500msec", "did you mean 500ms?"),
        (Duration, "3days", "did you mean 3d?"),
    ],
)
def test_spelling_of_another_program_is_told_with_ours(
    kind: type[Bytes] | type[Duration], value: str, said: str
) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(said)}$"):
        kind.parse(value)
    kind.parse(said.rpartition(" mean ")[2].rstrip("?"))


@pytest.mark.parametrize(
    ("value", "said"),
    [([1, "a"], "a list"), ({}, "a mapping"), (True, "true"), (None, "null"), ("x", "'x'")],
)
def test_what_is_no_size_is_told_in_words_of_yaml(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=f", got {said}$"):
        Bytes.parse(value)


def test_fractions_of_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        Bytes.parse(1.5)


def test_nothing_is_decided_while_the_last_stage_runs() -> None:
    assert judge(CHAIN, {}) is None
    assert judge(CHAIN, {"probe": Exit(0), "stream": Exit(0)}) is None


def test_last_stage_with_0_completes_and_the_others_get_a_moment() -> None:
    verdict = judge(CHAIN, {"segmentation": Exit(0)})
    assert verdict is not None
    assert (verdict.outcome, verdict.cause, verdict.after) == ("completed", "done", LINGER)
    everything = judge(CHAIN, dict.fromkeys(CHAIN, Exit(0)))
    assert everything is not None
    assert (everything.outcome, everything.after) == ("completed", 0)


@pytest.mark.parametrize("stage", CHAIN)
@pytest.mark.parametrize(
    ("how", "cause"), [(Exit(1), "exit"), (Exit(137), "exit"), (Exit(137, True), "oom"), (Exit(None), "exit")]
)  # fmt: skip
def test_failure_of_any_stage_fails_the_session(stage: str, how: Exit, cause: str) -> None:
    exits = {**dict.fromkeys(CHAIN, Exit(0)), stage: how}
    for decide in (judge, judge_start):
        verdict = decide(CHAIN, exits)
        assert verdict is not None
        assert (verdict.outcome, verdict.cause, verdict.stage) == ("failed", cause, stage)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (Exit(137, unwatched=True), "was killed by signal 9 (SIGKILL) while no daemon watched"),
        (Exit(4, unwatched=True), "ended with code 4 while no daemon watched"),
        (Exit(255, unwatched=True), "ended with code 255 while no daemon watched"),
        (Exit(137), "ended with code 137"),
        (Exit(137, True, unwatched=True), "used more memory than its limit and was killed"),
    ],
)
def test_end_that_nobody_watched_is_told_as_far_as_it_is_known(how: Exit, reason: str) -> None:
    verdict = judge(CHAIN, {"stream": how})
    assert verdict is not None
    assert verdict.reason == f"the stage 'stream' {reason}"


def test_of_those_that_fail_together_the_first_to_end_is_to_blame() -> None:
    for decide in (judge, judge_start):
        ends = {
            "probe": Exit(1, at=7.2),
            "stream": Exit(137, True, at=7.1),
            "segmentation": Exit(4, at=7.3),
        }
        verdict = decide(CHAIN, ends)
        assert verdict is not None
        assert (verdict.stage, verdict.cause) == ("stream", "oom")
        vanished = decide(CHAIN, ends | {"segmentation": Exit(None)})
        assert vanished is not None
        assert vanished.stage == "segmentation"
        at_once = decide(CHAIN, dict.fromkeys(CHAIN, Exit(1, at=7.0)))
        assert at_once is not None
        assert at_once.stage == "probe"


@pytest.mark.parametrize("code", [3, 4])
def test_who_says_that_its_upstream_failed_is_not_to_blame_if_it_has(code: int) -> None:
    """E2: a busy engine notes the ends of stages in any order."""
    for decide in (judge, judge_start):
        ends = {
            "probe": Exit(137, True, at=7.3),
            "stream": Exit(code, at=7.2),
            "segmentation": Exit(code, at=7.1),
        }
        verdict = decide(CHAIN, ends)
        assert verdict is not None
        assert (verdict.stage, verdict.cause) == ("probe", "oom")
        well = decide(CHAIN, ends | {"probe": Exit(0, at=7.0)})
        assert well is not None
        assert (well.stage, well.cause) == ("stream", "exit")


def test_end_of_the_last_stage_before_there_was_a_stream_fails_the_start() -> None:
    verdict = judge_start(CHAIN, {CHAIN[-1]: Exit(0)})
    assert verdict is not None
    assert (verdict.outcome, verdict.stage) == ("failed", CHAIN[-1])


def test_earlier_stages_may_have_sent_all_before_there_was_a_stream() -> None:
    assert judge_start(CHAIN, dict.fromkeys(CHAIN[:-1], Exit(0))) is None
    assert judge_start(CHAIN, {}) is None
