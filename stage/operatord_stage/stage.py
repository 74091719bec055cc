# SPDX-License-Identifier: MIT
"""What every stage does: read settings, print lines for the daemon, obey signals, end with an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading

TYPE_CHECKING = (
    False  # here and in all modules of a stage: to import typing would be a tenth of its start
)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STAGE_HELP = """
With OPERATORD_LATE_BIND=1 a stage prints `waiting` and waits for one line {"env":{…}} on standard
input, which overrides the environment; then it reads its settings. At the end of input it exits
with 0.

Standard output: JSON lines `waiting`, `listening`, `report`. Standard error: sentences for people.
Exit codes: 0 done, 1 its own work failed, 2 bad setting, 3 no upstream or cannot listen, 4 the
upstream broke off or sent no valid stream, 5 all consumers left before the end, 128+n ended by
signal n.
"""

LINE_LIMIT = 64 * 1024
"""Bytes in any line that is read."""
CHECK = b'{"type":"check"}'
"""What a check sends, with any white space."""
SPACES = b" \t\r\n"
"""White space that may stand anywhere in such a line."""
LINGER = 5.0
"""Seconds that a consumer may take to close once it has everything."""

OWN_FAILURE = 1
"""Exit code: the stage's own work failed; Python's own code for an exception that nobody caught."""
BAD_SETTING = 2
"""Exit code: a setting, or the command line, is not what it may be."""
NO_NEIGHBOUR = 3
"""Exit code: nobody answers upstream, or the own address cannot be had."""
BROKEN_STREAM = 4
"""Exit code: the upstream broke off, or what it sent is not the stream format."""
NOT_DELIVERED = 5
"""Exit code: the last consumer left before it had everything."""


class Fault(Exception):
    """A reason to end the process: an exit code and a sentence for standard error."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def encode(message: dict[str, object]) -> bytes:
    """Return a message as one line of the stream format. Raises `TypeError` or ValueError if it cannot be."""
    text = json.dumps(message, separators=(",", ":"), allow_nan=False, default=plain)
    return text.encode() + b"\n"


def plain(value: Any) -> object:
    """Return a number or an array of numpy as JSON has it, without importing numpy. Raises `TypeError`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"JSON has no word for a {type(value).__name__}")


def say(**message: object) -> None:
    """Print one JSON line at once; a reader that has gone must not end the stream."""
    with contextlib.suppress(OSError):
        os.write(1, encode(message))


def text(name: str, default: str) -> str:
    """Return a setting; one that is set but empty counts as not set."""
    return os.environ.get(name, "").strip() or default


def number(name: str, default: int, low: int, high: int) -> int:
    """Return a setting that is a whole number from low to high. Raises `Fault`."""
    value = text(name, str(default))
    with contextlib.suppress(ValueError):
        if low <= int(value) <= high:
            return int(value)
    raise Fault(BAD_SETTING, f"{name} must be a whole number from {low} to {high}, not {value!r}")


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Return a setting that is one of the allowed words, in any case. Raises `Fault`."""
    value = text(name, default).lower()
    if value in allowed:
        return value
    words = ", ".join(filter(None, allowed))  # an empty one stands for the default
    raise Fault(BAD_SETTING, f"{name} must be one of {words}, not {value!r}")


def switch(name: str, default: str) -> bool:
    """Return a setting that is true or false. Raises `Fault`."""
    return choice(name, default, ("true", "false")) == "true"


def late_bind(rehearse: Callable[[], None]) -> None:
    """If so asked, wait for the line that lays a session's settings over the environment.

    What is done for the first time takes two to ten times as long, so a rehearsal comes before it.
    """
    if os.environ.get("OPERATORD_LATE_BIND") != "1":
        return
    with contextlib.suppress(OSError):
        rehearse()
    say(type="waiting")
    line = sys.stdin.buffer.readline(LINE_LIMIT)
    if not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        raise SystemExit(0)  # end of input: this warm process is not needed any more
    try:
        env = json.loads(line)["env"]
        os.environ.update({name: str(value) for name, value in env.items()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise Fault(BAD_SETTING, 'the line on standard input is not {"env":{…}}') from exc


def watch_signals() -> list[Callable[[], None]]:
    """End the process on SIGTERM or SIGINT with code 128+n, whatever it is waiting in.

    Return a list: what is put into it is called before the end. A thread takes the signals,
    because a handler would only run once the main thread is back from C, and a name look-up can
    take many seconds. Being blocked, the signals also reach PID 1 of a container, for which the
    kernel drops those left at their default.
    """
    last_words: list[Callable[[], None]] = []
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        code = 128 + signal.sigwait(signals)
        threading.Timer(0.5, os._exit, (code,)).start()  # should standard output be stuck
        for call in last_words:
            with contextlib.suppress(Exception):  # whatever it is, the process ends
                call()
        os._exit(code)

    threading.Thread(target=wait, daemon=True).start()
    return last_words


def run(
    script: str,
    help_text: str,
    serve: Callable[[list[Callable[[], None]]], None],
    rehearse: Callable[[], None],
) -> int:
    """Serve one session; return the exit code, and print a fault's sentence.

    `serve` is given the list of what is to be called before a signal ends the process.
    """
    if sys.argv[1:] == ["--help"]:
        print(help_text, STAGE_HELP, sep="", end="")
        return 0
    try:
        if sys.argv[1:]:
            raise Fault(BAD_SETTING, "settings come from the environment, see --help")
        last_words = watch_signals()
        late_bind(rehearse)
        serve(last_words)
    except Fault as fault:
        print(f"{script}: {fault}", file=sys.stderr)
        return fault.code
    return 0
