# SPDX-License-Identifier: MIT
"""How a command ends: its exit code, and one sentence on standard error.

    0    done
    1    refused by the daemon, or failed
    2    not understood: usage, or a parameter out of range
    4    no such session or probe
    69   no daemon there, or gone in the middle (EX_UNAVAILABLE)
    75   not now; try again later (EX_TEMPFAIL)
    130  interrupted
    141  whoever read the output went away

69 and 75 are those of BSD's sysexits(3); 130 and 141 are 128 and the signal's number, as shells have it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 4
UNAVAILABLE = 69
TRY_LATER = 75
INTERRUPTED = 130
BROKEN_PIPE = 141


class Refused(Exception):
    """What operatorctl itself refuses, with a sentence and the code to exit with."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        self.code = code
        super().__init__(message)


def run(command: Callable[[], int | None], *, as_json: bool = False) -> int:
    """Run a command and return its exit code; what went wrong is said on standard error."""
    try:
        code = command() or OK
        sys.stdout.flush()
    except KeyboardInterrupt:
        _end_line()
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()
        return BROKEN_PIPE
    except Exception as exc:
        return report(exc, as_json=as_json)
    return code


def report(exc: Exception, *, as_json: bool) -> int:
    """Say what went wrong and return the exit code. What is not foreseen is raised again."""
    from ..errors import ClientError, StreamError, WireError

    if isinstance(exc, WireError):
        print(_as_json(exc) if as_json else f"operatorctl: {_sentence(exc)}", file=sys.stderr)
        return _code_of_refusal(exc)
    if not isinstance(exc, ClientError | StreamError | Refused | ValueError):
        raise exc
    print(f"operatorctl: {exc}", file=sys.stderr)
    return _code(exc)


def _code(exc: Exception) -> int:
    from ..errors import CallTimeout, ConnectionLost, DaemonUnreachable

    if isinstance(exc, Refused):
        return exc.code
    if isinstance(exc, DaemonUnreachable | ConnectionLost):
        return UNAVAILABLE
    if isinstance(exc, CallTimeout):
        return TRY_LATER
    return USAGE if isinstance(exc, ValueError) else FAILED


def _code_of_refusal(exc: Exception) -> int:
    from ..errors import InvalidParams, NotFound

    if isinstance(exc, NotFound):
        return NOT_FOUND
    if isinstance(exc, InvalidParams):
        return USAGE
    return TRY_LATER if getattr(exc, "retryable", False) else FAILED


def _sentence(exc: Exception) -> str:
    """The daemon's sentence, and what its data adds for a person."""
    data = getattr(exc, "data", {})
    more = "".join(f"\n  {line}" for line in data.get("log", []))
    after = data.get("retry_after")
    return f"{exc}{'' if after is None else f' (try again in {after:g} s)'}{more}"


def _as_json(exc: Exception) -> str:
    from operatord_protocol.codec import encode

    return encode({"error": getattr(exc, "to_wire", dict)()}).decode()


def _end_line() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)  # the terminal has written ^C there


def _give_up_stdout() -> None:
    """Keep the interpreter from complaining, at its exit, of the rest that nobody will read."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - importing pathlib costs more
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
