# SPDX-License-Identifier: MIT
"""Messages about settings of the wrong type: the path, and what is expected there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from operatord.core.units import custom
from operatord_protocol.checking import WRONG_NAME, choices, explain, suggestion

from .config import Config, to_dict

_MISMATCH = re.compile(r"expected (?P<wanted>[a-z |]+), got (?P<got>[a-z]+)(?P<hint>:.*)?\Z")
_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a mapping",
    "str": "text",
}
"""What a writer of YAML calls it."""
_NO_TEXT = ("bool", "int", "float")
_TRUTH_VALUES = ("yes", "no", "on", "off")
"""Words that YAML 1.1 reads as true and false."""
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
    "http.listen": "expected HOST:PORT such as 127.0.0.1:5000",
    "listen": "expected HOST:PORT such as 127.0.0.1:7733",
    "listeners": f"expected a list such as [{_LISTENER}]",
    "listeners[]": f"expected a mapping such as {_LISTENER}",
    "listeners[].tls": "expected a mapping such as {cert: FILE, key: FILE}; without TLS, leave it out",
    "pipelines": "expected a mapping such as {live: {stages: {camera: {image: demo-probe, port: 12345}}}}",
    "pipelines[...]": "expected a mapping such as {stages: {camera: {image: demo-probe, port: 12345}}}",
    "pipelines[...].stages": "expected a mapping such as {camera: {image: demo-probe, port: 12345}}",
    "pipelines[...].stages[...]": "expected a mapping such as {image: demo-probe, port: 12345}",
    "ports": _RANGE,
    "probes": "expected a mapping such as {allow: [10.0.0.0/8]}",
    "probes.allow": "expected a list such as [10.0.0.0/8, 192.168.0.0/16:12345-12399, file:/srv/recordings]",
    "probes.allow[]": "expected a network, a file or a device in quotes, such as '10.0.0.0/8:12345'",
    "sources": "expected a mapping such as {rtsp: {image: operatord-camera}}",
    "sources[...]": "expected a mapping such as {image: operatord-camera}; no adapter can be taken away",
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
_FREE = {"pipelines": (1, 3), "sources": (1,)}
"""Places in a path with names that their writer chooses: of a pipeline, of its stages, of an adapter."""
_ITEM = re.compile(r"\[\d+\]")


def sentence(exc: msgspec.ValidationError, data: dict[str, Any]) -> str:
    """Return what is wrong with ``data``, behind the path of the setting."""
    path, what = problem_of(exc)
    where = named(path, data)
    if what.startswith(WRONG_NAME):
        name = next(_refused(data, where.split("."), path), None)
        what += "" if name is None else f", got {name!r}"
    return f"{where}: {what}{_likely_name(where.split('.'), data)}"


def _likely_name(names: Sequence[str], data: Any) -> str:
    """Return ``; did you mean '…'?`` where something is missing from what was given a name that is a likely
    slip for one that every installation has."""
    known: Any = to_dict(Config())
    for place, name in enumerate(names):
        if place in _FREE.get(names[0], ()) and name not in known:
            hint = suggestion(name, known)
            return hint if hint.endswith("?") and _member(data, names) is None else ""
        known = known.get(name, {}) if isinstance(known, dict) else {}
    return ""


def _member(data: Any, names: Sequence[str]) -> Any:
    """Return what ``names`` lead to; None if there is nothing."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def problem_of(exc: msgspec.ValidationError) -> tuple[str, str]:
    path, what = explain(exc, Config, root="")
    path = path.lstrip(".")
    if what.startswith("unknown member"):
        return path, f"unknown member; {_ELSEWHERE[path]}" if path in _ELSEWHERE else what
    if what.startswith(WRONG_NAME):
        return path, what
    if (said := _EXPECTED.get(_ITEM.sub("[]", path))) is not None:
        return path, said
    match = _MISMATCH.match(what)
    return path, _mismatched(path, match) if match else what


def _mismatched(path: str, match: re.Match[str]) -> str:
    wanted, got = match["wanted"].split(" | "), match["got"]
    words = choices(Config, path) if "str" in wanted else []
    if words:
        return f"expected {_either(words)}, got {_TYPES.get(got, got)}{_truth(got)}"
    if "str" in wanted and got in _NO_TEXT:
        return f"expected text in quotes, got {_TYPES[got]}"
    expected = " or ".join(_TYPES.get(each, each) for each in wanted)
    said = f"expected {expected}, got {_TYPES.get(got, got)}{match['hint'] or ''}"
    return said + (_example(path) if wanted == ["object"] else "")


def _either(words: Sequence[str]) -> str:
    """Return the words as a choice, as they are written in YAML."""
    *others, last = (f"'{each}' in quotes" if each in _TRUTH_VALUES else each for each in words)
    return f"{', '.join(others)} or {last}" if others else last


def _truth(got: str) -> str:
    return ", which YAML reads yes, no, on and off as" if got == "bool" else ""


def _example(path: str) -> str:
    """Return how a section of the settings is written, by what it has unless it is set."""
    found: Any = to_dict(Config())
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    for name, value in found.items() if isinstance(found, dict) else ():
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
        name = next(_refused(data, names, path), None)
        if name is None:
            return path
        data = _only(data, names, name)
        names += [name, *tail.split(".")[1:]]
    return ".".join(map(str, names))


def _refused(data: dict[str, Any], names: Sequence[str], path: str) -> Iterator[str]:
    """Yield the names in the mapping that ``names`` lead to whose member alone is refused at ``path``."""
    inner: Any = data
    for name in names:
        inner = inner.get(name, {}) if isinstance(inner, dict) else {}
    yield from (name for name in inner if _refused_at(_only(data, names, name)) == path)


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
