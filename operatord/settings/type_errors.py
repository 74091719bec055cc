# SPDX-License-Identifier: MIT
"""Messages about settings of the wrong type: the path, and what is expected there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from operatord.core.units import custom
from operatord_protocol.checking import explain

from .config import Config, to_dict

_UNQUOTED_TEXT = re.compile(r"expected str(?: \| null)?, got (?:bool|int|float)\Z")
_RANGE = "expected a range such as 20000-20999"
_LISTENER = "{address: 0.0.0.0:7734, auth: token, tls: {cert: FILE, key: FILE}}"
_ROLES = "expected a mapping of names to roles, such as {ada: user}"
_EXPECTED = {
    "auth": "expected a mapping such as {tokens: /etc/operatord/tokens}",
    "auth.certificates": _ROLES,
    "auth.peers": "expected a mapping such as {users: {ada: operator}, groups: {lab: user}}",
    "auth.peers.groups": _ROLES,
    "auth.peers.users": _ROLES,
    "gate_ports": _RANGE,
    "gpus": "expected auto or a list such as [{id: GPU-1a2b3c4d, memory: 8GiB}]",
    "http": "expected a mapping such as {listen: 127.0.0.1:5000}",
    "listen": "expected HOST:PORT such as 127.0.0.1:7733",
    "listeners": f"expected a list such as [{_LISTENER}]",
    "listeners[]": f"expected a mapping such as {_LISTENER}",
    "listeners[].tls": "expected a mapping such as {cert: FILE, key: FILE}; without TLS, leave it out",
    "pipelines": "expected a mapping such as {live: {stages: {camera: {image: demo-probe, port: 12345}}}}",
    "ports": _RANGE,
    "probes": "expected a mapping such as {allow: [10.0.0.0/8]}",
    "probes.allow": "expected a list such as [10.0.0.0/8, 192.168.0.0/16:12345-12399, file:/srv/recordings]",
    "sources": "expected a mapping such as {rtsp: {image: operatord-camera}}",
    "streams": "expected a mapping such as {allow: token}",
}
"""Messages for settings whose type says too little; ``[]`` stands for any item of a list."""
_ELSEWHERE = {
    "allow": "it stands below probes (where registered probes may be) or streams (who may read streams)",
    "peers": "it stands below auth, as in auth: {peers: {users: {ada: operator}}}",
    "certificates": "it stands below auth, as in auth: {certificates: {ada: user}}",
    "tls": f"it belongs to an address, as in listeners: [{_LISTENER}]",
    "token": "tokens are in a file that auth.tokens names; operatord token new writes one",
    "tokens": "it stands below auth, as in auth: {tokens: /etc/operatord/tokens}",
}
"""Where settings are that people look for at the top."""
_ITEM = re.compile(r"\[\d+\]")
_SHAPES = {"expected object": "expected a mapping", "expected array": "expected a list"}
"""What YAML calls it."""


def problem_of(exc: msgspec.ValidationError) -> tuple[str, str]:
    path, what = explain(exc, Config, root="")
    path = path.lstrip(".")
    if what.startswith("unknown member"):
        return path, f"unknown member; {_ELSEWHERE[path]}" if path in _ELSEWHERE else what
    if _UNQUOTED_TEXT.match(what):
        what += ": text, in quotes"
    for json, yaml in _SHAPES.items():
        what = what.replace(json, yaml)
    return path, _EXPECTED.get(_ITEM.sub("[]", path)) or what + _example(path, what)


def _example(path: str, what: str) -> str:
    """Return how a section of the settings is written, by what it has unless it is set."""
    found: Any = to_dict(Config())
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not what.startswith(_SHAPES["expected object"]):
        return ""
    for name, value in found.items():
        if isinstance(value, int | float | str):
            shown = f"{value:g}" if isinstance(value, float) else value
            return f"; it is written as in {path}: {{{name}: {shown}}}"
    return ""


def named(path: str, data: dict[str, Any]) -> str:
    """Return ``path`` with names for each ``[...]``, which is how msgspec writes any name in a mapping.

    The name is the first whose member, left alone in its mapping, is refused with the same path.
    """
    head, *rest = path.split("[...]")
    names = head.split(".")
    for tail in rest:
        inner = data
        for name in names:
            inner = inner[name]
        alone = (only for name in inner if _refused_at(only := _only(data, names, name)) == path)
        data = next(alone, {})
        if not data:
            return path
        inner = data
        for name in names:
            inner = inner[name]
        names += [*inner, *tail.split(".")[1:]]
    return ".".join(map(str, names))


def _only(data: dict[str, Any], names: Sequence[str], name: str) -> dict[str, Any]:
    """Return ``data`` with nothing but ``name`` in the mapping that ``names`` lead to."""
    if not names:
        return {name: data[name]}
    return {**data, names[0]: _only(data[names[0]], names[1:], name)}


def _refused_at(data: dict[str, Any]) -> str | None:
    try:
        msgspec.convert(data, Config, dec_hook=custom)
    except msgspec.ValidationError as exc:
        return problem_of(exc)[0]
    return None
