# SPDX-License-Identifier: MIT
"""The command line of the daemon.

Exit codes: 0 ok, 1 it did not work, 2 wrong usage or settings that cannot be used, 74 the output cannot be
written, 130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from operatord_protocol.standard_streams import open_closed_ones

from .commands.exits import EXIT_BROKEN_PIPE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OUTPUT, say
from .commands.parser import build_parser

COMMON_OPTIONS = ("-h", "--help", "--version")
"""Options that may stand before a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    open_closed_ones()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever letters the locale has
    try:
        code = _typed(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output went away, `head` for one.
        code = EXIT_BROKEN_PIPE
    except OSError as exc:
        say(f"the output cannot be written: {exc.strerror}")
        code = EXIT_OUTPUT
    if code in (EXIT_OUTPUT, EXIT_BROKEN_PIPE):
        _give_up_output()
    return code


def _typed(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    parser = build_parser(serves=words[:1] == ["serve"])
    try:
        if words and words[0].startswith("-") and words[0] not in COMMON_OPTIONS:
            parser.error(f"{_unknown(words[0], parser)} (a command's own options come after it)")
        args, strange = parser.parse_known_args(words)
        if strange:
            args.command.error(_unknown(strange[0], args.command))
    except SystemExit as exc:  # argparse has printed a help, a version or what is wrong
        return exc.code if isinstance(exc.code, int) else EXIT_FAILED
    return int(args.run(args))


def _unknown(word: str, command: argparse.ArgumentParser) -> str:
    """Return what to say of a word that a command does not know."""
    from operatord_protocol.checking import unknown_argument  # noqa: PLC0415

    return unknown_argument(word, command.format_help())


def _give_up_output() -> None:
    """Keep the interpreter from complaining, at its exit, of what is left in the buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
