# SPDX-License-Identifier: MIT
"""What the settings tell of a slip in a request's params."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.control.params import take_params
from operatord.core.pipelines import Pipeline, Stage, shipped
from operatord_protocol.errors import InvalidParams

PIPELINES = {**shipped(), "bare": Pipeline(stages={"camera": Stage(image="i", port=1)})}
EXAMPLE = '; env is given by stage, such as {"probe":{"fps":…}}'


def refusal(params: Any, method: str = "session.start") -> InvalidParams:
    with pytest.raises(InvalidParams) as caught:
        take_params(method, params, PIPELINES)
    return caught.value


@pytest.mark.parametrize("method", ["session.start", "session.plan"])
@pytest.mark.parametrize(
    ("params", "hint"),
    [
        ({"env": {"fps": 60}}, '; did you mean {"probe":{"fps":60}}?'),
        ({"env": {"fps": "60"}}, '; did you mean {"probe":{"fps":"60"}}?'),
        ({"env": {"fps": 60}, "plain_stream": True}, '; did you mean {"probe":{"fps":60}}?'),
        ({"env": {"policy": "live"}, "plain_stream": True}, '; did you mean {"stream":{"policy":"live"}}?'),
        (
            {"env": {"policy": "live"}},
            '; did you mean {"stream":{"policy":"live"}} or {"segmentation":{"policy":"live"}}?',
        ),
        ({"env": {"fps": None}}, '; did you mean {"probe":{"fps":…}}?'),
        ({"env": {"gain": 1}}, EXAMPLE),
        ({"env": {"probe": 60}}, EXAMPLE),
    ],
)  # fmt: skip
def test_variable_in_the_place_of_a_stage_is_told_where_it_belongs(
    params: Any, hint: str, method: str
) -> None:
    error = refusal(params, method)
    assert error.message.endswith(hint)
    assert error.data["path"].startswith("params.env.")


@pytest.mark.parametrize(
    "params",
    [
        {"env": {"fps": 60}, "pipeline": "bare"},
        {"env": {"fps": 60}, "pipeline": "nobody"},
        {"env": {"fps": 60}, "pipeline": 5},
        {"env": {"probe": {"fps": []}}},
        {"env": 60},
        {"count": 0},
    ],
)
def test_what_is_of_no_stage_is_refused_as_ever(params: Any) -> None:
    assert ";" not in refusal(params).message


def test_registered_probe_takes_no_variable() -> None:
    params = {"env": {"fps": 60}, "probe": "cam"}
    assert refusal(params).message.endswith('such as {"stream":{"policy":…}}')
