# SPDX-License-Identifier: MIT
"""Lines from a daemon, as a client reads them: the counterpart of `codec`'s requests.

Members that this version does not know are ignored, so that a later daemon can add some.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from .codec import RequestId
from .errors import ParseError
from .messages import Session, Sessions, session_from_wire

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """Any line from a daemon: a notification has a ``method``, a reply an ``error`` or a ``result``."""

    id: RequestId = None
    method: str | None = None
    params: dict[str, Any] = {}
    result: msgspec.Raw = msgspec.Raw()
    """JSON as it came."""
    error: dict[str, Any] | None = None


class _Sessions(msgspec.Struct, frozen=True):
    """`Sessions` before each of them is told from its stages."""

    sessions: list[dict[str, Any]] = []
    next: str | UnsetType = UNSET


_decode = msgspec.json.Decoder(Answer).decode


def decode_answer(line: bytes) -> Answer:
    """Return a line's content. Raises `ParseError` when no daemon could have sent it."""
    try:
        return _decode(line)
    except (ValueError, RecursionError) as exc:
        raise ParseError("this is not a line from a daemon") from exc


def decode_result(raw: bytes, type_: type[T]) -> T:
    """Return a result as its message type. Raises `ParseError`."""
    try:
        return _decode_result(raw, type_)
    except (ValueError, RecursionError) as exc:
        raise ParseError(f"this is not of the type {type_.__name__}") from exc


def _decode_result(raw: bytes, type_: type[T]) -> T:
    # A session's stages are members of its own on the wire, so it is not decoded in one go.
    value: Any
    if type_ is Session:
        value = session_from_wire(msgspec.json.decode(raw, type=dict[str, Any]))
    elif type_ is Sessions:
        wires = msgspec.json.decode(raw, type=_Sessions)
        sessions = [session_from_wire(wire) for wire in wires.sessions]
        value = Sessions(sessions=sessions, next=wires.next)
    else:
        value = msgspec.json.decode(raw, type=type_)
    return value  # type: ignore[no-any-return]
