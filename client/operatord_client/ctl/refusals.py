# SPDX-License-Identifier: MIT
"""Errors as a sentence and an exit code. Loaded when there is one."""

from __future__ import annotations

from operatord_client.errors import (
    CallTimeout,
    ClientError,
    ConnectionLost,
    DaemonUnreachable,
    InvalidParams,
    NotFound,
    StreamError,
    UnsendableRequest,
    WireError,
)
from operatord_protocol.codec import encode
from operatord_protocol.visible import on_one_line, tidied

from . import exits, terminal


def report(exc: Exception, *, as_json: bool) -> int:
    """Say what went wrong and return the exit code. Unexpected errors are raised again."""
    code = _code(exc)
    if code is None:
        raise exc
    if as_json and isinstance(exc, WireError):
        terminal.note(encode({"error": exc.to_wire()}).decode())
    else:
        terminal.note(f"operatorctl: {_sentence(exc)}")
    return code


def _code(exc: Exception) -> int | None:
    if isinstance(exc, exits.Refused):
        return exc.code
    for kind, code in CODES:
        if isinstance(exc, kind):
            return code
    if isinstance(exc, WireError):
        return exits.TRY_LATER if exc.retryable else exits.FAILED
    return exits.FAILED if isinstance(exc, ClientError | StreamError) else None


CODES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, exits.NOT_FOUND),
    (InvalidParams, exits.USAGE),
    (DaemonUnreachable, exits.UNAVAILABLE),
    (ConnectionLost, exits.UNAVAILABLE),
    (CallTimeout, exits.TRY_LATER),
    (terminal.OutputFailed, exits.OUTPUT_FAILED),
    (UnsendableRequest, exits.USAGE),
)


def _sentence(exc: Exception) -> str:
    """The daemon's sentence, and what its data adds for a person."""
    if not isinstance(exc, WireError):
        return on_one_line(str(exc))
    after = exc.data.get("retry_after")
    hint = f" (try again in {after:g} s)" if isinstance(after, int | float) else ""
    log = exc.data.get("log")
    lines = log if isinstance(log, list) else []
    return f"{on_one_line(exc.message)}{hint}" + "".join(f"\n  {line}" for line in tidied(lines))
