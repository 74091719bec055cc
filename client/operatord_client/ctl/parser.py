# SPDX-License-Identifier: MIT
"""Everything that can be typed, as one argparse tree; the completion scripts are drawn from it, too.

Each command sets ``run`` to the function that does it. Metavars in capitals that `completion` knows
(ID, PROBE, PIPELINE) are completed by asking the daemon.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, HelpFormatter

from . import completion, following, probes, sessions, system, values, watch

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from typing import Any

    Commands = _SubParsersAction[ArgumentParser]

PROG = "operatorctl"
PHASES = ("queued", "starting", "running", "stopping", "ended")
EPILOG = """\
Data goes to standard output, everything else to standard error. Where an ID is expected, the first
digits will do. Exit codes: 0 done, 1 refused or failed, 2 usage, 4 not found, 69 no daemon,
75 try again later, 130 interrupted."""


class Formatter(HelpFormatter):
    """argparse's own, with the width asked of the terminal directly: importing shutil is not free."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(_columns(), 100) - 2)


def _columns() -> int:
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size().columns or 80
    except OSError:
        return 80


def build() -> ArgumentParser:
    """Return the parser of operatorctl."""
    parser = ArgumentParser(
        prog=PROG,
        description="Talk to operatord: start, watch and stop streaming sessions.",
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--address",
        metavar="A",
        help="host:port or unix:/path (default: $OPERATORD_ADDRESS, else 127.0.0.1:7733)",
    )
    parser.add_argument("--token", metavar="T", help="log in with it (default: $OPERATORD_TOKEN)")
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "json"),
        default="table",
        help="json: the result as the daemon gave it, one line each",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_sessions, _add_following, _add_probes, _add_system, _add_completion):
        add(commands)
    return parser


def _command(commands: Commands, name: str, run: Any, help: str) -> ArgumentParser:
    parser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", formatter_class=Formatter
    )
    parser.set_defaults(run=run)
    return parser


def _id(parser: ArgumentParser) -> None:
    parser.add_argument(
        "id", metavar="ID", type=values.session_id, help="session, or its first digits"
    )


# --- sessions ------------------------------------------------------------------------------------


def _add_sessions(commands: Commands) -> None:
    start = _command(commands, "start", sessions.start, "start a session and print its location")
    _start_options(start)
    start.add_argument("--no-wait", action="store_true", help="return once accepted, not ready")
    start.add_argument(
        "--frames", action="store_true", help="take the frames too, then print a summary"
    )
    plan = _command(commands, "plan", sessions.plan, "say what a start would do, and do nothing")
    _start_options(plan)
    _add_stop(commands)
    _add_list(commands)
    _id(_command(commands, "get", sessions.get, "print a session"))
    _add_wait(commands)
    extend = _command(commands, "extend", sessions.extend, "renew the lease of a session")
    _id(extend)
    extend.add_argument("ttl", metavar="TTL", type=values.duration, help="from now, such as 5m")
    _id(_command(commands, "stats", sessions.stats, "print what each stage of a session uses"))


def _start_options(parser: ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plain", action="store_true", help="the pipeline `stream`: no segmentation")
    what.add_argument("--pipeline", metavar="PIPELINE", help="any configured pipeline")
    add = parser.add_argument
    add("--count", metavar="N", type=int, help="frames to send")
    add("--probe", metavar="PROBE", help="a registered probe (default: an emulator)")
    add("--format", choices=("json", "y4m"), help="how frames are delivered")
    add(
        "--env",
        metavar="STAGE.KEY=VALUE",
        type=values.stage_variable,
        action="append",
        default=[],
        help="set a variable that the pipeline allows; may be repeated",
    )
    add("--lease", metavar="LEASE", type=values.lease, help="pinned, connection, or ttl=30s")
    add("--on-shortage", choices=("queue", "refuse", "degrade"), help="when there is no room")
    add("--deadline", metavar="TIME", type=values.duration, help="be ready in time or not at all")
    add("--priority", metavar="N", type=int, help="-10 to 10, higher goes first")
    add("--owner", metavar="NAME", help="whose session it is")
    add("--request-key", metavar="KEY", help="the same key gives the same session")


def _add_stop(commands: Commands) -> None:
    stop = _command(commands, "stop", sessions.stop, "stop sessions; returns when all is gone")
    stop.add_argument("ids", metavar="ID", nargs="+", type=values.session_id, help="session")
    stop.add_argument("--grace", metavar="TIME", type=values.duration, help="for stages to exit")


def _add_list(commands: Commands) -> None:
    parser = _command(commands, "list", sessions.list_, "print the sessions, newest first")
    parser.add_argument("--phase", choices=PHASES, help="only those")
    parser.add_argument("--owner", metavar="NAME", help="only those of NAME")
    parser.add_argument("--limit", metavar="N", type=int, help="at most N")
    parser.add_argument("-q", "--quiet", action="store_true", help="only ids")


def _add_wait(commands: Commands) -> None:
    wait = _command(commands, "wait", sessions.wait, "wait until a session reaches a phase")
    _id(wait)
    wait.add_argument("--phase", choices=PHASES, help="default: ended")
    wait.add_argument("--timeout", metavar="TIME", type=values.duration, help="exit 75 after it")


# --- what goes on ----------------------------------------------------------------------------------


def _add_following(commands: Commands) -> None:
    logs = _command(commands, "logs", following.logs, "print what the stages of a session wrote")
    _id(logs)
    logs.add_argument("--stage", metavar="NAME", help="only this stage")
    logs.add_argument("--tail", metavar="N", type=int, help="the last N lines (default: 100)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as more is written")
    logs.add_argument("-t", "--times", action="store_true", help="with the time of each line")
    events = _command(commands, "events", following.events, "print what happens, as it happens")
    events.add_argument("--session", metavar="ID", type=values.session_id, help="only of this one")
    events.add_argument(
        "--type", metavar="TYPE", action="append", help="such as session.running; may be repeated"
    )
    events.add_argument("--since", metavar="SEQ", type=int, help="begin after this event")
    _id(_command(commands, "watch", watch.watch, "follow a session until it ends"))


# --- probes, the daemon, the shell -----------------------------------------------------------------


def _add_probes(commands: Commands) -> None:
    help = "register, list, check and forget probes"
    probe = commands.add_parser("probe", help=help, formatter_class=Formatter)
    verbs = probe.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = _command(verbs, "add", probes.add, "make a probe known by name")
    add.add_argument("name", metavar="NAME")
    add.add_argument("address_of_probe", metavar="HOST:PORT", type=values.host_port)
    add.add_argument(
        "--label",
        metavar="KEY=VALUE",
        type=values.label,
        action="append",
        default=[],
        help="may be repeated",
    )
    list_ = _command(verbs, "list", probes.list_, "print the probes")
    list_.add_argument("-q", "--quiet", action="store_true", help="only names")
    get = _command(verbs, "get", probes.get, "print a probe, after connecting to it")
    get.add_argument("name", metavar="PROBE")
    remove = _command(verbs, "remove", probes.remove, "forget a probe")
    remove.add_argument("name", metavar="PROBE")


def _add_system(commands: Commands) -> None:
    pipelines = _command(commands, "pipelines", system.pipelines, "print the pipelines")
    pipelines.add_argument("-q", "--quiet", action="store_true", help="only names")
    _command(commands, "status", system.status, "print engine, room, sessions and queue")
    _command(commands, "ping", system.ping, "see whether the daemon answers")
    _command(commands, "describe", system.describe, "print the methods that the daemon knows")
    drain = _command(commands, "drain", system.drain, "admit no more sessions")
    drain.add_argument("--timeout", metavar="TIME", type=values.duration, help="wait this long")
    _command(commands, "undrain", system.undrain, "admit sessions again")
    _command(commands, "reload", system.reload, "have the configuration read again")


def _add_completion(commands: Commands) -> None:
    parser = _command(commands, "completion", _completion, "print a completion script for a shell")
    parser.add_argument("shell", choices=tuple(completion.SHELLS))


def _completion(_context: object, args: Any) -> None:
    print(completion.script(build(), args.shell), end="")
