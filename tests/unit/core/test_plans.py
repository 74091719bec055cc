# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from operatord.core.pipelines import Pipeline, Stage, shipped
from operatord.core.plans import (
    Adapted,
    SessionPlan,
    Source,
    Upstream,
    choose_pipeline,
    make_plan,
    stage_env,
)
from operatord.core.units import custom
from operatord.core.units import plain as unit_text
from operatord.provision.blueprint import late_line
from operatord_protocol.errors import InvalidParams, NotFound
from operatord_protocol.messages import SessionStartParams

PIPELINES = shipped()
ADDRESSES = {"probe": ("p", 1), "stream": ("s", 2), "segmentation": ("g", 3)}
PROBE = Upstream("bed-3", "192.0.2.7", 5000)


def params(**members: Any) -> SessionStartParams:
    return SessionStartParams(**members)


def plan(upstream: Upstream | None = None, **members: Any) -> SessionPlan:
    return make_plan(params(**members), PIPELINES, 100_000, upstream)


def test_choice_of_the_pipeline() -> None:
    assert choose_pipeline(params(), PIPELINES) == "segmented"
    assert choose_pipeline(params(plain_stream=False), PIPELINES) == "segmented"
    assert choose_pipeline(params(plain_stream=True), PIPELINES) == "stream"
    assert choose_pipeline(params(pipeline="stream"), PIPELINES) == "stream"
    for plain in (True, False):
        with pytest.raises(InvalidParams) as caught:
            choose_pipeline(params(pipeline="stream", plain_stream=plain), PIPELINES)
        assert caught.value.data["path"] == "params.pipeline"
    with pytest.raises(NotFound, match="segmented"):
        choose_pipeline(params(pipeline="segmentet"), PIPELINES)


def test_environment_is_the_originals() -> None:
    planned = plan(count=200)
    env = {stage: stage_env(planned, stage, ADDRESSES, "A" * 16) for stage in planned.stages}
    for found in env.values():
        assert (found["probe_ip"], found["probe_port"]) == ("p", "1")
        assert (found["stream_ip"], found["stream_port"]) == ("s", "2")
        assert (found["segmentation_ip"], found["segmentation_port"]) == ("g", "3")
        assert found["count"] == "200"
        assert found["OPERATORD_SESSION"] == "A" * 16
    assert env["stream"]["plain_stream"] == "False"
    assert plan(plain_stream=True).env["stream"]["plain_stream"] == "True"


@pytest.mark.parametrize("upstream", [None, PROBE])
def test_each_stage_is_told_its_name_and_that_of_its_upstream(upstream: Upstream | None) -> None:
    planned = plan(upstream)
    env = {stage: stage_env(planned, stage, ADDRESSES, "A" * 16) for stage in planned.stages}
    said = {
        stage: (found["OPERATORD_STAGE"], found.get("OPERATORD_UPSTREAM"))
        for stage, found in env.items()
    }
    assert said.pop("probe", None) == (None if upstream else ("probe", None))
    assert said == {"stream": ("stream", "probe"), "segmentation": ("segmentation", "stream")}


def test_only_the_last_stage_speaks_the_requested_format() -> None:
    formats = {stage: env["format"] for stage, env in plan(format="y4m").env.items()}
    assert formats == {"probe": "json", "stream": "json", "segmentation": "y4m"}


def test_count_is_the_default_for_a_managed_probe_only() -> None:
    assert plan().env["probe"]["count"] == "100000"
    assert "count" not in plan(PROBE).env["stream"]
    assert plan(PROBE, count=5).env["stream"]["count"] == "5"


def test_registered_probe_takes_the_place_of_the_stage() -> None:
    planned = plan(PROBE)
    assert list(planned.stages) == ["stream", "segmentation"]
    assert planned.upstream == PROBE
    with pytest.raises(InvalidParams) as caught:
        plan(PROBE, env={"probe": {"fps": 5}})
    assert caught.value.data["path"] == "params.env.probe"


def test_pipeline_without_a_probe_stage_takes_no_registered_one() -> None:
    for stages in ({"camera": Stage(image="i", port=1)}, {"probe": Stage(image="i", port=1)}):
        with pytest.raises(InvalidParams) as caught:
            make_plan(params(pipeline="x"), {"x": Pipeline(stages=stages)}, 1, PROBE)
        assert caught.value.data["path"] == "params.probe"


def test_allowed_env_is_laid_over_the_configured() -> None:
    stage = Stage(image="i", port=1, env={"gain": 1, "mode": "b"}, allow_env=["gain"])
    pipelines = {"x": Pipeline(stages={"camera": stage})}
    made = make_plan(params(pipeline="x", env={"camera": {"gain": 2.5}}), pipelines, 1)
    assert made.env["camera"] == {"format": "json", "count": "1", "gain": "2.5", "mode": "b"}


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({"nobody": {}}, "params.env.nobody"),
        ({"probe": {"PATH": "/x"}}, "params.env.probe.PATH"),
        ({"probe": {"fsp": 5}}, "params.env.probe.fsp"),
        ({"stream": {"plain_stream": True}}, "params.env.stream.plain_stream"),
        ({"probe": {"seed": "1\nPATH=/x"}}, "params.env.probe.seed"),
        ({"probe": {"seed": "1\x00"}}, "params.env.probe.seed"),
        ({"probe": {"seed": "1\x7f"}}, "params.env.probe.seed"),
    ],
)
def test_env_that_is_refused(env: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        plan(env=env)
    assert caught.value.data["path"] == path


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ({"fps": {"probe": 60}}, '; did you mean {"probe":{"fps":…}}?'),
        ({"stream": {"fps": 60}}, '; did you mean {"probe":{"fps":60}}?'),
        ({"stream": {"seed": "x" * 99}}, '; did you mean {"probe":{"seed":…}}?'),
        (
            {"probe": {"policy": "live"}},
            '; did you mean {"stream":{"policy":"live"}} or {"segmentation":{"policy":"live"}}?',
        ),
        ({"prob": {"fps": 60}}, "; did you mean 'probe'?"),
        ({"probe": {"fsp": 60}}, "; did you mean 'fps'?"),
    ],
)
def test_variable_at_another_place_is_told_where_it_belongs(env: Any, hint: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        plan(env=env)
    assert caught.value.message.endswith(hint)


def test_values_may_name_where_stages_are_found() -> None:
    stage = Stage(image="i", port=1, env={"probe_ip": "{stream.host}", "at": "x:{stream.port}"})
    pipelines = {"x": Pipeline(stages={"relay": stage})}
    made = make_plan(params(pipeline="x"), pipelines, 1)
    env = stage_env(made, "relay", {**ADDRESSES, "relay": ("r", 4)}, "A" * 16)
    assert (env["probe_ip"], env["at"]) == ("s", "x:2")
    assert env["relay_port"] == "4"


LITERALS = [
    "{relay.host}", "x{relay.port}x", "{relay.host}{relay.port}", "{", "}", "{{", "{{relay.host}}", "{}",
    "{0}", "{x.__class__}", "{relay.__class__}", "%s", "%(relay)s", "$relay", "${relay_ip}", "`id`", "\\",
    "'", '"',
]  # fmt: skip


@pytest.mark.parametrize("text", LITERALS)
@pytest.mark.parametrize("late_bind", ["native", "shim"])
def test_value_of_a_client_is_taken_as_it_is(
    text: str, late_bind: Literal["native", "shim"]
) -> None:
    """A17: only the configuration's values are filled in, in the environment and in the late line."""
    stage = Stage(
        image="i", port=1, allow_env=["note"], env={"note": "{relay.host}", "at": "{relay.port}"},
        late_bind=late_bind, command=["true"],
    )  # fmt: skip
    pipelines = {"x": Pipeline(stages={"relay": stage})}
    asked = params(pipeline="x", env={"relay": {"note": text}})
    made = make_plan(asked, pipelines, 1)
    env = stage_env(made, "relay", {"relay": ("r", 4)}, "A" * 16)
    assert (env["note"], env["at"]) == (text, "4")
    line = late_line(stage, env)
    if late_bind == "native":
        assert msgspec.json.decode(line)["env"]["note"] == text
    else:
        assert f"note={text}" in line.decode().splitlines()


def test_value_of_a_client_is_still_as_it_is_after_a_restart() -> None:
    """A17"""
    stage = Stage(image="i", port=1, allow_env=["note"], env={"at": "{relay.port}"})
    asked = params(pipeline="x", env={"relay": {"note": "{relay.host}"}})
    made = make_plan(asked, {"x": Pipeline(stages={"relay": stage})}, 1)
    again = msgspec.json.decode(
        msgspec.json.encode(made, enc_hook=unit_text), type=SessionPlan, dec_hook=custom
    )
    env = stage_env(again, "relay", {"relay": ("r", 4)}, "A" * 16)
    assert (env["note"], env["at"]) == ("{relay.host}", "4")


def test_digest_differs_whenever_the_plan_does() -> None:
    plans = [
        plan(), plan(count=5), plan(format="y4m"), plan(plain_stream=True), plan(PROBE),
        plan(msgspec.structs.replace(PROBE, port=5001)), plan(env={"probe": {"fps": 5}}),
    ]  # fmt: skip
    assert len({each.digest() for each in plans}) == len(plans)
    assert plan().digest() == plan().digest()


def test_length_of_a_stream_is_its_count_at_its_rate() -> None:
    assert plan(count=900).expected_seconds == 30
    assert plan(count=900, env={"probe": {"fps": 7.5}}).expected_seconds == 120
    assert plan(count=900, plain_stream=True, env={"probe": {"fps": "60"}}).expected_seconds == 15
    assert plan().expected_seconds == pytest.approx(100_000 / 30)


@pytest.mark.parametrize(
    "fps", [0, -5, "", "fast", "nan", "inf", 1e-310, "1e999", True, "{stream.port}"]
)
def test_length_at_a_rate_that_is_none_is_not_known(fps: Any) -> None:
    seconds = plan(count=2**31 - 1, env={"probe": {"fps": fps}}).expected_seconds
    assert seconds is None


def test_length_is_not_known_where_a_registered_probe_sets_the_rate_or_the_end() -> None:
    assert plan(PROBE, count=900).expected_seconds is None
    stages = {"probe": Stage(image="i", port=1), "out": Stage(image="i", port=2, env={"fps": 30})}
    pipelines = {"x": Pipeline(stages=stages)}
    endless = make_plan(params(pipeline="x"), pipelines, 300, PROBE)
    assert (endless.count, endless.expected_seconds) == (None, None)
    cut_short = make_plan(params(pipeline="x", count=300), pipelines, 1, PROBE)
    assert cut_short.expected_seconds == 10


def test_rate_is_the_first_stages_that_has_one() -> None:
    for rates in (("10", "30"), ("0", "10"), ("auto", "10"), (None, "10")):
        stages = {
            f"s{n}": Stage(image="i", port=1, env={} if fps is None else {"fps": fps})
            for n, fps in enumerate(rates)
        }
        made = make_plan(params(pipeline="x"), {"x": Pipeline(stages=stages)}, 20)
        assert made.expected_seconds == 2, rates


# Probes with a URL

READER = Stage(image="reader", port=12345, allow_env=["crop"], env={"loop": "False"})


def adapted(
    url: str = "rtsp://u:geheim@cam/1", reader: Stage = READER, **members: Any
) -> SessionPlan:
    return make_plan(params(**members), PIPELINES, 100_000, Adapted(Source("cam", url), reader))


def test_adapter_takes_the_place_of_the_probe() -> None:
    found = adapted(env={"probe": {"crop": "1:1:0:0"}})
    assert list(found.stages) == ["probe", "stream", "segmentation"]
    assert found.stages["probe"] == READER
    assert found.env["probe"] == {"format": "json", "loop": "False", "crop": "1:1:0:0"}
    assert (found.count, found.upstream, found.registered) == (None, None, "cam")
    assert adapted(count=7).env["probe"]["count"] == "7"
    with pytest.raises(InvalidParams, match=r"probe\.fps"):
        adapted(env={"probe": {"fps": 5}})


def test_recording_waits_to_be_read_and_a_camera_does_not() -> None:
    assert {env.get("unread") for env in adapted("file:/srv/a").env.values()} == {"hold"}
    assert {env.get("unread") for env in adapted().env.values()} == {None}


def test_stages_are_apart_where_the_adapter_has_the_port_of_another() -> None:
    assert adapted().network == "shared"
    same = msgspec.structs.replace(READER, port=12346)
    assert adapted(reader=same).network == "separate"
    named = msgspec.structs.replace(READER, extra_hosts=["cam:192.0.2.7"])
    assert adapted(reader=named).network == "separate"


def test_hash_of_a_plan_confirms_no_password_but_tells_sources_apart() -> None:
    assert adapted().digest() == adapted("rtsp://u:other@cam/1").digest()
    assert adapted().digest() != plan().digest()


def test_adapter_is_learned_as_what_it_is() -> None:
    assert [adapted().kind_of(each) for each in ("probe", "stream")] == ["probe@rtsp", "stream"]
    assert plan().kind_of("probe") == "probe"


def test_plan_with_a_source_survives_the_journal() -> None:
    found = adapted()
    written = msgspec.json.encode(found, enc_hook=unit_text)
    assert msgspec.json.decode(written, type=SessionPlan, dec_hook=custom) == found


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("rtsp://user:geheim@10.0.0.7:554/live", "rtsp:"),
        ("rtsp://10.0.0.7:554/live/geheim", "rtsp:"),  # a path may be a secret
        ("rtsp://user:geheim@10.0.0.7:554/a#b", "rtsp:"),  # as only another version would take it
        ("file:/srv/recordings/scan.mkv", "file:"),
    ],
)
def test_plan_without_credentials_keeps_the_scheme(url: str, kept: str) -> None:
    plan = adapted(url)
    assert plan.without_credentials() == msgspec.structs.replace(plan, source=Source("cam", kept))
