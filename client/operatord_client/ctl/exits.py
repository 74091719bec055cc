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

from collections.abc import Callable

from . import terminal

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
        return command() or OK
    except KeyboardInterrupt:
        terminal.note("")  # after the terminal's own ^C
        return INTERRUPTED
    except BrokenPipeError:
        terminal.give_up_out()
        return BROKEN_PIPE
    except Exception as exc:
        from .refusals import report  # noqa: PLC0415 - when all goes well, it is not needed

        return report(exc, as_json=as_json)
