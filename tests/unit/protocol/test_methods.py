# SPDX-License-Identifier: MIT
"""The table of methods: its schemas say exactly what the types do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from json_schema import faults, violations
from protocol_vectors import load
from test_messages import BAD, GOOD

from operatord_protocol import messages as m
from operatord_protocol.methods import METHODS, schemas

SCHEMAS = schemas()
RESULTS = [vector for vector in load("replies") if "result" in vector["expect"]]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("side", ["params", "result"])
def test_schemas_are_valid_and_self_contained(name: str, side: str) -> None:
    schema = SCHEMAS[name][side]
    assert list(faults(schema, schema.get("$defs", {}))) == []
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_sentence_and_names_in_order(name: str) -> None:
    assert METHODS[name].summary.endswith(".")
    group, _, verb = name.partition(".")
    assert group.islower() and verb.islower()
    assert issubclass(METHODS[name].params, m.Params)
    assert issubclass(METHODS[name].result, m.Result)


def by_schema(type_: type[m.Params], params: dict[str, Any]) -> list[str]:
    name = next(name for name, method in METHODS.items() if method.params is type_)
    schema = SCHEMAS[name]["params"]
    return violations(params, schema, schema.get("$defs", {}))


@pytest.mark.parametrize("type_, params", GOOD)
def test_schemas_admit_good_params(type_: type[m.Params], params: dict[str, Any]) -> None:
    assert by_schema(type_, params) == []


@pytest.mark.parametrize("type_, params, path", BAD)
def test_schemas_refuse_bad_params(
    type_: type[m.Params], params: dict[str, Any], path: str
) -> None:
    assert by_schema(type_, params) != []


def test_every_method_has_a_golden_result() -> None:
    assert {vector["method"] for vector in RESULTS} == METHODS.keys()


@pytest.mark.parametrize("vector", RESULTS, ids=lambda vector: vector["name"])
def test_golden_results_fit_their_schema(vector: dict[str, Any]) -> None:
    schema = SCHEMAS[vector["method"]]["result"]
    result = {
        name: value
        for name, value in vector["expect"]["result"].items()
        if name not in ("heat", "generation")  # of a later version
    }
    assert violations(result, schema, schema.get("$defs", {})) == []


@pytest.mark.parametrize("vector", RESULTS, ids=lambda vector: vector["name"])
def test_golden_results_fit_their_type(vector: dict[str, Any]) -> None:
    result_type = METHODS[vector["method"]].result
    result = vector["expect"]["result"]
    if result_type is m.Session:
        session = m.session_from_wire(result)
        assert session.stages == vector["expect"]["stages"]
        assert m.session_to_wire(session).items() <= result.items()
    else:
        value = msgspec.convert(result, result_type)
        assert msgspec.to_builtins(value).keys() >= result.keys()


def test_the_schema_of_a_session_has_stages_as_members() -> None:
    schema = SCHEMAS["session.start"]["result"]["$defs"]["Session"]
    assert "stages" not in schema["properties"]
    assert schema["additionalProperties"]["type"] == "string"
