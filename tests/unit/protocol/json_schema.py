# SPDX-License-Identifier: MIT
"""As much of JSON Schema (draft 2020-12) as the protocol's schemas use, and a check that it is no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "enum": lambda v, want: v in want,
    "minimum": lambda v, want: v >= want,
    "maximum": lambda v, want: v <= want,
    "exclusiveMinimum": lambda v, want: v > want,
    "minLength": lambda v, want: len(v) >= want,
    "maxLength": lambda v, want: len(v) <= want,
    "maxProperties": lambda v, want: len(v) <= want,
    "pattern": lambda v, want: re.search(want, v) is not None,
}
ANNOTATIONS = {"title", "description", "default"}
STRUCTURE = {"$ref", "$defs", "type", "anyOf", "properties", "required", "additionalProperties"}
KEYWORDS = {*ANNOTATIONS, *STRUCTURE, *CHECKS, "items", "propertyNames"}


def faults(schema: Any, defs: Schema) -> Iterator[str]:
    """Yield what makes ``schema`` no valid, self-contained schema."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"not a schema: {schema!r}"
        return
    yield from (f"unknown keyword {key}" for key in schema.keys() - KEYWORDS)
    if "type" in schema and schema["type"] not in TYPES:
        yield f"unknown type {schema['type']}"
    if "$ref" in schema and schema["$ref"].removeprefix("#/$defs/") not in defs:
        yield f"dangling {schema['$ref']}"
    if "pattern" in schema:
        re.compile(schema["pattern"])
    missing = set(schema.get("required", ())) - set(schema.get("properties", ()))
    yield from (f"required but not described: {name}" for name in missing)
    for inner in _inner(schema):
        yield from faults(inner, defs)


def _inner(schema: Schema) -> Iterator[Any]:
    for key in ("properties", "$defs"):
        yield from schema.get(key, {}).values()
    for key in ("items", "additionalProperties", "propertyNames"):
        if key in schema:
            yield schema[key]
    yield from schema.get("anyOf", ())


def violations(value: Any, schema: Any, defs: Schema, path: str = "$") -> list[str]:
    """Return what in ``value`` contradicts ``schema``."""
    if schema is True:
        return []
    if schema is False:
        return [f"{path}: nothing is allowed here"]
    if "$ref" in schema:
        return violations(value, defs[schema["$ref"].removeprefix("#/$defs/")], defs, path)
    if "anyOf" in schema and all(violations(value, one, defs, path) for one in schema["anyOf"]):
        return [f"{path}: fits no alternative"]
    if "type" in schema and not TYPES[schema["type"]](value):
        return [f"{path}: no {schema['type']}"]
    found = [
        f"{path}: {key}" for key in schema.keys() & CHECKS.keys() if _fails(value, schema, key)
    ]
    if isinstance(value, dict):
        found += _in_object(value, schema, defs, path)
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += violations(item, schema.get("items", True), defs, f"{path}[{index}]")
    return found


def _fails(value: Any, schema: Schema, key: str) -> bool:
    return not CHECKS[key](value, schema[key])


def _in_object(value: dict[str, Any], schema: Schema, defs: Schema, path: str) -> list[str]:
    properties = schema.get("properties", {})
    found = [f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value]
    for name, item in value.items():
        inner = properties.get(name, schema.get("additionalProperties", True))
        found += violations(name, schema.get("propertyNames", True), defs, f"{path}.{name}")
        found += violations(item, inner, defs, f"{path}.{name}")
    return found
