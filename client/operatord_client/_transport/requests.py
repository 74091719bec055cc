# SPDX-License-Identifier: MIT
"""Encodes requests as lines. Values that JSON cannot express are refused here, with the member at fault. The
daemon could not read the id of such a line: it would answer without one, which ends all calls of the
connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operatord_client.errors import UnsendableRequest
from operatord_protocol import codec
from operatord_protocol.checking import clip

_BOUND = 2**63
"""Numbers have 64 bits, on the wire as in the daemon."""


def encoded(method: str, params: Mapping[str, Any], call_id: int) -> bytes:
    """Return the line of a request. Raises `UnsendableRequest`."""
    if not isinstance(params, Mapping):
        raise UnsendableRequest("params: give them by name, as a mapping")
    plain = _plain(params, "params", level=2)
    return codec.encode_request(_text(method, "method"), plain, call_id)


def _plain(value: Any, path: str, level: int) -> Any:
    """Return ``value`` made of Python's own types only; ``level`` counts containers, the line's included."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int | float):
        return _number(value, path)
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        raise UnsendableRequest(f"{path}: JSON cannot express {type(value).__name__}")
    if level > codec.DEPTH:
        raise UnsendableRequest(
            f"{path}: more than {codec.DEPTH} levels, or one that contains itself"
        )
    if isinstance(value, Mapping):
        return {
            _text(key, f"{path}, a name"): _plain(item, f"{path}.{clip(key)}", level + 1)
            for key, item in value.items()
        }
    return [_plain(item, f"{path}[{index}]", level + 1) for index, item in enumerate(value)]


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise UnsendableRequest(f"{path}: expected str, got {type(value).__name__}")
    try:
        return value.encode().decode()
    except UnicodeEncodeError as exc:  # a lone surrogate, as in names of files that are not UTF-8
        said = f"{path}: {clip(value)!r} cannot be written as UTF-8, which the daemon needs"
        raise UnsendableRequest(said) from exc


def _number(value: float, path: str) -> float:
    if isinstance(value, int):
        if not -_BOUND <= value < _BOUND:
            raise UnsendableRequest(f"{path}: a whole number of more than 64 bits")
        return int(value)
    if value - value != 0:
        raise UnsendableRequest(f"{path}: {value} is not a JSON number")
    return float(value)
