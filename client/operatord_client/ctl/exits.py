# SPDX-License-Identifier: MIT
"""How a command ends: its exit code.

    0    done
    1    refused by the daemon, or failed
    2    not understood: usage, or a parameter out of range
    4    no such session or probe
    69   no daemon there, or gone in the middle (EX_UNAVAILABLE)
    74   the output cannot be written (EX_IOERR)
    75   not now; try again later (EX_TEMPFAIL)
    129  the terminal was closed (SIGHUP)
    130  interrupted
    141  whoever read the output went away
    143  terminated (SIGTERM)

69, 74 and 75 are those of BSD's sysexits(3); the last four are 128 and a signal's number, as shells have it.
"""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 4
UNAVAILABLE = 69
OUTPUT_FAILED = 74
TRY_LATER = 75
SIGNALLED = 128
"""To which the number of the signal is added."""
INTERRUPTED = 130
BROKEN_PIPE = 141


class Refused(Exception):
    """What operatorctl itself refuses, with a sentence and the code to exit with."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        self.code = code
        super().__init__(message)
