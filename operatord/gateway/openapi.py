# SPDX-License-Identifier: MIT
"""`GET /api/v1/openapi.json`: what may be asked over HTTP and what is answered, by the table of methods."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from operatord_protocol.codec import encode
from operatord_protocol.errors import ALL
from operatord_protocol.messages import Session, SessionStartParams
from operatord_protocol.methods import METHODS, PROTOCOL_VERSION, Method

from .answers import STATUS, answered
from .api import OF_A_CONNECTION, ROOT

Json = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get(f"{ROOT}/openapi.json", show)]


async def show(_: web.Request) -> web.StreamResponse:
    """Return the description."""
    return answered(_encoded())


@functools.cache
def _encoded() -> bytes:
    return encode(description())


@functools.cache
def description() -> Json:
    """Return what OpenAPI 3.1 says of this gateway."""
    methods = {name: each for name, each in METHODS.items() if name not in OF_A_CONNECTION}
    schemas, components = _schemas(list(methods.values()))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "operatord",
            "version": str(PROTOCOL_VERSION),
            "summary": "Starts, wires and cleans up containers that turn imaging probes into streams.",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/post/": {"post": _start(schemas)},
            **{
                f"{ROOT}/{name}": {"post": _call(name, each, schemas)}
                for name, each in methods.items()
            },
            "/healthz": {"get": _simple("This gateway serves.", {"healthy": {"const": True}})},
            "/readyz": {"get": _ready()},
            f"{ROOT}/openapi.json": {"get": _simple("This description.", {})},
        },
        "components": {
            "schemas": {**components, "Error": _error()},
            "responses": {
                "Error": {"description": "What is wrong, and what to do.", **_json(_named("Error"))}
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(methods: Sequence[Method]) -> tuple[dict[type, Json], Json]:
    """Return the schema of each type of params and result, and those that they refer to by name."""
    types = [kind for each in methods for kind in (each.params, each.result)]
    found, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    session = components[Session.__name__]
    session["properties"].pop("stages", None)
    session["additionalProperties"] = {"type": "string", "description": "a stage's container id"}
    for each in components.values():
        _leave_out_what_needs_a_connection(each.get("properties", {}))
    return dict(zip(types, found, strict=True)), components


def _leave_out_what_needs_a_connection(properties: Json) -> None:
    """Say what `Body.check` refuses."""
    lease = properties.get("lease", {})
    for each in [lease, *lease.get("anyOf", [])]:
        if "connection" in each.get("enum", []):
            each["enum"] = [word for word in each["enum"] if word != "connection"]
    if properties.get("follow", {}).get("type") == "boolean":
        properties["follow"] = {"const": False, "default": False}


def _call(name: str, method: Method, schemas: dict[type, Json]) -> Json:
    role = f" Role: {method.role}." if method.role else ""
    return {
        "operationId": name,
        "summary": method.summary + role,
        **_asked(schemas[method.params]),
        **_answers(schemas[method.result]),
    }


def _start(schemas: dict[type, Json]) -> Json:
    return {
        "operationId": "post",
        "summary": "Start a session, as the original system did; answer when its stream is there.",
        **_asked(schemas[SessionStartParams]),
        **_answers(schemas[Session]),
    }


def _asked(schema: Json) -> Json:
    return {"requestBody": _json(schema)}


def _answers(schema: Json) -> Json:
    found = {"description": "It is done.", **_json(schema)}
    return {"responses": {"200": found, "default": {"$ref": "#/components/responses/Error"}}}


def _simple(summary: str, properties: Json) -> Json:
    return {"summary": summary, "security": [{}], **_answers(_object(properties))}


def _ready() -> Json:
    shape = _json(_object({"ready": {"type": "boolean"}}))
    found = {"200": {"description": "Sessions can be started.", **shape}}
    found["503"] = {"description": "The daemon or its engine does not answer.", **shape}
    error = {"$ref": "#/components/responses/Error"}
    summary = "Whether sessions can be started."
    return {"summary": summary, "security": [{}], "responses": {**found, "default": error}}


def _error() -> Json:
    """Return the schema of the object that every error is answered with."""
    kinds = ", ".join(f"{each.type} ({STATUS[each.type]})" for each in ALL)
    data = _object({"type": {"type": "string"}, "retryable": {"type": "boolean"}})
    data["properties"]["type"]["description"] = f"Its kind, with the status: {kinds}."
    message = {"type": "string", "description": "A sentence for people: what is wrong, what to do."}
    error = _object({"code": {"type": "integer"}, "message": message, "data": data})
    return _object({"error": error})


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _named(name: str) -> Json:
    return {"$ref": REFERENCE.format(name=name)}


def _json(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}
