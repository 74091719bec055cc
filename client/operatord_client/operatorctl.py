# SPDX-License-Identifier: MIT
"""operatorctl: the daemon from a terminal. What can be typed is in `ctl.parser`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from operatord_protocol.standard_streams import open_closed_ones

from .ctl import exits, parser, terminal
from .ctl.context import Context
from .ctl.signals import Signals


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, see `ctl.exits`."""
    open_closed_ones()
    terminal.prepare()
    signals = Signals()
    try:
        with signals:
            code = _typed(argv, signals)
    except SystemExit as exc:  # argparse has printed a help, a version or what is wrong
        code = exc.code if isinstance(exc.code, int) else exits.FAILED
    except KeyboardInterrupt:
        if signals.came is None:
            terminal.note("")  # after the terminal's own ^C
        code = exits.INTERRUPTED
    except BrokenPipeError:
        code = exits.BROKEN_PIPE
    except terminal.OutputFailed as exc:
        terminal.note(f"{parser.PROG}: {exc}")
        code = exits.OUTPUT_FAILED
    code = _settled(code)
    return code if signals.came is None else exits.SIGNALLED + signals.came


def _settled(code: int) -> int:
    """Return the exit code once all of the output is written."""
    try:
        terminal.settle()
    except BrokenPipeError:
        code = exits.BROKEN_PIPE
    except terminal.OutputFailed as exc:
        if code != exits.OUTPUT_FAILED:  # and so has not been said yet
            terminal.note(f"{parser.PROG}: {exc}")
        code = exits.OUTPUT_FAILED
    if code in (exits.BROKEN_PIPE, exits.OUTPUT_FAILED):
        terminal.give_up_out()
    return code


def _typed(argv: Sequence[str] | None, signals: Signals) -> int:
    args = parser.parse(argv)
    if getattr(args, "frames", False) and (args.format == "y4m" or args.no_wait):
        args.verb.error("--frames needs the json format, and cannot be used with --no-wait")
    if getattr(args, "explain", False) and getattr(args, "no_wait", False):
        args.verb.error("--explain cannot be used with --no-wait")
    files = {name: getattr(args, name) for name in parser.TLS_FILES}
    tls = {name: file for name, file in files.items() if file is not None}
    context = Context(args.address, args.token, tls, as_json=args.output == "json")
    try:
        return _run(lambda: args.run(context, args), signals, as_json=context.as_json)
    finally:
        context.close()


def _run(command: Callable[[], int | None], signals: Signals, *, as_json: bool) -> int:
    """Run a command and return its exit code; what went wrong is said on standard error."""
    try:
        return command() or exits.OK
    except BrokenPipeError:
        return exits.BROKEN_PIPE
    except Exception as exc:
        if signals.came is not None:  # the terminal is closed, or the daemon gone as well
            return exits.FAILED
        from .ctl.refusals import report  # noqa: PLC0415 - when all goes well, it is not needed

        return report(exc, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
