# SPDX-License-Identifier: MIT
"""Converts params of a request to their type; the settings help to explain typos."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from operatord.core.pipelines import PROBE, Pipeline
from operatord.core.plans import by_stage
from operatord_protocol.checking import convert_params
from operatord_protocol.errors import InvalidParams
from operatord_protocol.methods import METHODS

_IN_ENV = re.compile(r"params\.env\.([^.\[]+)")
"""The path of a member where a stage is expected."""


def take_params(method: str, params: Any, pipelines: Mapping[str, Pipeline]) -> Any:
    """Return the params of a known ``method``. Raises `InvalidParams`."""
    try:
        return convert_params(params, METHODS[method].params)
    except InvalidParams as exc:
        path = exc.data["path"]
        hint = _of_which_stage(path, params, pipelines)
        if not hint:
            raise
        raise InvalidParams(f"{exc.message}{hint}", path=path) from exc


def _of_which_stage(path: str, params: Any, pipelines: Mapping[str, Pipeline]) -> str:
    """Return a hint for a variable that was given in place of a stage; empty if it is not one."""
    match = _IN_ENV.fullmatch(path)
    if match is None or match[1] not in params["env"]:
        return ""
    asked = "stream" if params.get("plain_stream") is True else "segmented"
    name = params.get("pipeline", asked)
    stages = dict(pipelines[name].stages) if type(name) is str and name in pipelines else {}
    if "probe" in params:
        stages.pop(PROBE, None)
    return by_stage(match[1], params["env"][match[1]], stages)
