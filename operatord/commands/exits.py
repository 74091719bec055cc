# SPDX-License-Identifier: MIT
"""Exit codes, and what is said to people on standard error."""

from __future__ import annotations

import contextlib
import sys

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OUTPUT = 74
"""EX_IOERR of BSD's sysexits(3)."""
EXIT_INTERRUPTED = 128 + 2
EXIT_BROKEN_PIPE = 128 + 13


def say(text: str) -> None:
    if sys.stderr is None:  # `print` would take standard output for it
        return
    with contextlib.suppress(OSError):  # then nobody can be told
        print(f"operatord: {text}", file=sys.stderr, flush=True)  # noqa: T201
