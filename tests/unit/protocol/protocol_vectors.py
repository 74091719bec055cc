# SPDX-License-Identifier: MIT
"""Read the golden lines, see protocol/vectors/README.md; and the one walk from a line to its verdict."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from operatord_protocol.checking import convert_params
from operatord_protocol.codec import Refusal, Request, decode_line
from operatord_protocol.errors import MethodNotFound, WireError
from operatord_protocol.methods import METHODS

FOLDER = Path(__file__).parents[3] / "protocol" / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    """Return the vectors of one file."""
    lines = (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def raw(vector: dict[str, Any]) -> bytes:
    """Return the bytes that a vector is about."""
    if "base64" in vector:
        return base64.b64decode(vector["base64"])
    return str(vector["line"]).encode("utf-8")


def examine(line: bytes) -> tuple[Request | Refusal, bool]:
    """Do with a line all that comes before its execution; tell also whether it is answered."""
    request = decode_line(line)
    if isinstance(request, Refusal):
        return request, True
    try:
        if request.method not in METHODS:
            raise MethodNotFound(f"there is no method {request.method!r}")
        convert_params(request.params, METHODS[request.method].params)
    except WireError as exc:
        return Refusal(request.dialect, request.id, exc), request.wants_reply
    return request, request.wants_reply
