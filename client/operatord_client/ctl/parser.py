# SPDX-License-Identifier: MIT
"""Everything that can be typed: a literal table of commands, made into one argparse tree.

Each command names the function that does it and the function that adds its arguments. Metavars in
capitals that `completion` knows (ID, PROBE, PIPELINE) are completed by asking the daemon.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter

from . import completion, terminal, values
from .verbs import following, living, probes, record, sessions, system, tokens, top, watch

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from .context import Context

    Run = Callable[[Context, Namespace], int | None]
    Fill = Callable[[ArgumentParser], None]

PROG = "operatorctl"
ROLES = ("viewer", "user", "operator")
PHASES = ("queued", "starting", "running", "stopping", "ended")
TLS_FILES = {
    "ca": "certificates of the authorities to trust",
    "cert": "your certificate",
    "key": "the key of your certificate",
}
"""Options of an address of TLS."""
TAKES_VALUE = ("--address", "--token", "--ca", "--cert", "--key", "--output", "-o")
"""Options that may stand before the command and whose value may be a word of its own."""
EPILOG = """\
Data goes to standard output, everything else to standard error. Where an ID is expected, the first
digits are enough. Exit codes: 0 done, 1 refused or failed, 2 usage, 4 not found, 69 no daemon,
74 output cannot be written, 75 try again later, 130 interrupted, 141 nobody reads the output,
129 and 143 ended by SIGHUP and SIGTERM, which release what a command holds, as Ctrl-C does."""


class Formatter(HelpFormatter):
    """argparse's own, with the width asked of the terminal directly."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(terminal.columns(), 100) - 2)


class TellingParser(ArgumentParser):
    """argparse's own ignores output errors."""

    def print_help(self, file: object = None) -> None:
        """Print it. Raises `terminal.OutputFailed`, `BrokenPipeError`."""
        terminal.out(self.format_help().rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        """Exit with the usage, and with a likely word for a slip."""
        from operatord_protocol.checking import likely_choice  # noqa: PLC0415 - seldom needed

        super().error(message + likely_choice(message))


class LazyParser(TellingParser):
    """A command's parser that is made when it is first looked at.

    Two dozen parsers take 5 ms to make and one run wants one of them, so `__init__` only takes notes;
    the first attribute that is missed makes up for it.
    """

    def __init__(self, **settings: Any) -> None:
        self._notes: tuple[dict[str, Any], Fill] = (settings, _nothing)

    def on_first_use(self, fill: Fill) -> None:
        """Have ``fill`` add the arguments; at once if the parser has been looked at already."""
        notes = self.__dict__.get("_notes")
        if notes is None:
            fill(self)
        else:
            self._notes = (notes[0], fill)

    def _check_help(self, action: Action) -> None:
        """Skip a check of argparse's, which from Python 3.14 on would make every parser at once. It looks for
        help texts that cannot be formatted; `--help` would show these.
        """

    def __getattr__(self, name: str) -> Any:
        notes = self.__dict__.pop("_notes", None)
        if notes is None:
            raise AttributeError(name)
        settings, fill = notes
        super().__init__(formatter_class=Formatter, **settings)
        fill(self)
        return getattr(self, name)


class ShowVersion(Action):
    """argparse's own needs the version before it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest=SUPPRESS, nargs=0, default=SUPPRESS, help=help)

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        """Print it and exit."""
        from importlib.metadata import version  # noqa: PLC0415 - costs more than all the rest

        terminal.out(f"{PROG} {version('operatord')}")
        parser.exit()


def build() -> ArgumentParser:
    """Return the parser of operatorctl."""
    parser = TellingParser(
        prog=PROG,
        description="Talk to operatord: start, watch and stop streaming sessions.",
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=ShowVersion, help="print the version and exit")
    _common(parser)
    parser.set_defaults(
        verb=parser, address=None, token=None, **dict.fromkeys(TLS_FILES), output="table"
    )
    _add(parser, COMMANDS)
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    """Return what was typed. Exits with the usage of the command at fault when that cannot be understood."""
    parser, words = build(), sys.argv[1:] if argv is None else argv
    if (slip := _slip_before_command(words)) is not None:
        parser.error(_unknown(slip, parser))
    args, strange = parser.parse_known_args(words)
    if strange:
        args.verb.error(_unknown(strange[0], args.verb))
    return args


def _unknown(word: str, verb: ArgumentParser) -> str:
    """Return what to say of a word that a command does not know."""
    from operatord_protocol.checking import unknown_argument  # noqa: PLC0415 - when all goes well, not needed

    return unknown_argument(word, verb.format_help())


def _slip_before_command(words: Sequence[str]) -> str | None:
    """Return the first unknown option before the command; argparse would treat its value as the command."""
    rest = iter(words)
    for word in rest:
        name, is_whole, _ = word.partition("=")
        if not name.startswith("-"):
            break
        if name in TAKES_VALUE and not is_whole:
            next(rest, None)
        elif name.startswith("--") and not is_whole and name not in ("--help", "--version"):
            return name
    return None


def _add(parser: ArgumentParser, commands: tuple[Command, ...]) -> None:
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=LazyParser
    )
    for command in commands:
        made = subparsers.add_parser(command.name, help=command.help, aliases=command.also)
        command.add_to(made)


class Command:
    """A word that can be typed, what it does, and what may follow it."""

    def __init__(
        self, name: str, run: Run | None, help: str, fill: Fill, also: tuple[str, ...] = ()
    ) -> None:
        """``also``: other words for it, as other programs have them."""
        self.name = name
        self.also = also
        self.help = help
        self._run = run
        self._fill = fill

    def add_to(self, parser: LazyParser) -> None:
        """Make ``parser`` this command's when it is used."""
        parser.on_first_use(self._equip)

    def _equip(self, parser: ArgumentParser) -> None:
        parser.description = f"{self.help[0].upper()}{self.help[1:]}."
        parser.set_defaults(verb=parser)
        if self._run is not None:
            parser.set_defaults(run=self._run)
        self._fill(parser)
        _common(parser)


def _common(parser: ArgumentParser) -> None:
    """Add what may stand before or after the command: people write it in both places."""
    add = parser.add_argument
    add(
        "--address",
        metavar="A",
        default=SUPPRESS,
        help="host:port, tls://host:port or unix:/path (default: $OPERATORD_ADDRESS, else 127.0.0.1:7733)",
    )
    for name, what in TLS_FILES.items():
        variable = f"$OPERATORD_{name.upper()}"
        add(
            f"--{name}",
            metavar="FILE",
            default=SUPPRESS,
            help=f"with tls://: {what} (default: {variable})",
        )
    add(
        "--token",
        metavar="T",
        default=SUPPRESS,
        help="log in with this token (default: $OPERATORD_TOKEN)",
    )
    add(
        "-o",
        "--output",
        choices=("table", "json"),
        default=SUPPRESS,
        help="json: the result as the daemon gave it, on one line",
    )


# --- arguments, command by command ---------------------------------------------------------------


def _nothing(parser: ArgumentParser) -> None:
    pass


def _id(parser: ArgumentParser) -> None:
    parser.add_argument(
        "id", metavar="ID", type=values.session_id, help="session, or its first digits"
    )


def _quiet(parser: ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="only names, one on a line")


def _start(parser: ArgumentParser) -> None:
    _start_options(parser)
    parser.add_argument("--no-wait", action="store_true", help="return once accepted, not ready")
    parser.add_argument(
        "--frames",
        action="store_true",
        help="receive the frames, too, then print a summary; the session ends with operatorctl; "
        "with --lease or --request-key it ends by its lease instead (pinned, if none is given)",
    )
    _explain(parser)


def _explain(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--explain", action="store_true", help="print where the time went, step by step"
    )


def _get(parser: ArgumentParser) -> None:
    _id(parser)
    _explain(parser)


def _start_options(parser: ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plain", action="store_true", help="the pipeline `stream`: no segmentation")
    what.add_argument("--pipeline", metavar="PIPELINE", help="any configured pipeline")
    add = parser.add_argument
    add("--count", metavar="N", type=values.whole, help="frames to send")
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
    shortage = (
        "when there is no room; how long a queue takes is estimated as if all streams were read"
    )
    add("--on-shortage", choices=("queue", "refuse", "degrade"), help=shortage)
    add("--deadline", metavar="TIME", type=values.duration, help="be ready in time or not at all")
    add("--priority", metavar="N", type=values.whole, help="-10 to 10, higher goes first")
    add("--owner", metavar="NAME", help="owner of the session (for operators)")
    add("--request-key", metavar="KEY", help="the same key gives the same session")


def _stop(parser: ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", type=values.session_id, help="session")
    parser.add_argument(
        "-a", "--all", action="store_true", help="each that has not ended and that you may stop"
    )
    parser.add_argument("--grace", metavar="TIME", type=values.duration, help="for stages to exit")


def _list(parser: ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also those that have ended")
    parser.add_argument("--phase", choices=PHASES, help="only those")
    parser.add_argument("--owner", metavar="NAME", help="only those of NAME")
    parser.add_argument("--limit", metavar="N", type=values.whole, help="at most N")
    _quiet(parser)


def _wait(parser: ArgumentParser) -> None:
    _id(parser)
    parser.add_argument("--phase", choices=PHASES, help="default: ended")
    parser.add_argument("--timeout", metavar="TIME", type=values.duration, help="exit 75 after it")


def _extend(parser: ArgumentParser) -> None:
    _id(parser)
    parser.add_argument("ttl", metavar="TTL", type=values.duration, help="from now, such as 5m")


def _logs(parser: ArgumentParser) -> None:
    _id(parser)
    parser.add_argument("--stage", metavar="NAME", help="only this stage")
    parser.add_argument(
        "--tail", metavar="N", type=values.whole, help="the last N lines (default: 100)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    parser.add_argument(
        "-a", "--all", action="store_true", help="also what stages report to the daemon"
    )
    parser.add_argument("-t", "--times", action="store_true", help="with the time of each")


def _events(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--session", metavar="ID", type=values.session_id, help="only events of this session"
    )
    parser.add_argument(
        "--type", metavar="TYPE", action="append", help="such as session.running; may be repeated"
    )
    parser.add_argument("--since", metavar="SEQ", type=values.whole, help="start after this event")
    parser.add_argument(
        "-r", "--reconnect", action="store_true", help="reconnect after a restart of the daemon"
    )


def _top(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--once",
        action="store_true",
        help="print it and exit; the default if the output is not a terminal",
    )


def _record(parser: ArgumentParser) -> None:
    _id(parser)
    add = parser.add_argument
    add("file", metavar="FILE", help="what to write; - is standard output")
    add(
        "--format",
        choices=("raw", "y4m"),
        help="raw: the stream as it comes; y4m: its pictures, for players (default: by the file's name)",
    )
    add("--frames", metavar="N", dest="most", type=values.count, help="at most N frames")
    add(
        "--until",
        metavar="TIME",
        type=values.until,
        help="for this long, such as 90s, or until the stream's end (default: end)",
    )
    add(
        "--fps",
        metavar="N",
        type=values.rate,
        help="frames per second for players, if the stream says none (default: 30)",
    )
    add("--force", action="store_true", help="overwrite an existing file")


def _probe_add(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "address_of_probe",
        metavar="ADDRESS",
        type=values.probe_address,
        help="HOST:PORT where it serves the stream format, or a URL that the daemon has an adapter for, such "
        "as rtsp://USER:PASSWORD@HOST/PATH; -: a URL on standard input, where no list of processes shows it",
    )
    parser.add_argument(
        "--label",
        metavar="KEY=VALUE",
        type=values.label,
        action="append",
        default=[],
        help="may be repeated",
    )


def _probe_name(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="PROBE")


def _probe(parser: ArgumentParser) -> None:
    _add(parser, PROBE_COMMANDS)


def _tokens_of(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the daemon's settings (default: the same as for operatord)",
    )


def _token_new(parser: ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="who may log in with it")
    parser.add_argument("--role", choices=ROLES, default="user", help="default: user")
    _tokens_of(parser)


def _token_revoke(parser: ArgumentParser) -> None:
    parser.add_argument("token_id", metavar="TOKEN", help="its ID in `operatorctl token list`")
    _tokens_of(parser)


def _token(parser: ArgumentParser) -> None:
    _add(parser, TOKEN_COMMANDS)


def _drain(parser: ArgumentParser) -> None:
    parser.add_argument("--timeout", metavar="TIME", type=values.duration, help="wait this long")


def _shell(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(completion.SHELLS))


def _completion(_context: Context, args: Namespace) -> None:
    terminal.out(completion.script(build(), args.shell).rstrip("\n"))


# --- the table --------------------------------------------------------------------------------------

PROBE_COMMANDS = (
    Command("add", probes.add, "register a probe", _probe_add),
    Command("list", probes.list_, "print the probes", _quiet, ("ls",)),
    Command("get", probes.get, "print a probe, after connecting to it", _probe_name, ("check",)),
    Command("remove", probes.remove, "forget a probe", _probe_name, ("rm", "forget")),
)

TOKEN_COMMANDS = (
    Command("new", tokens.new, "make a token and print it once", _token_new),
    Command("list", tokens.list_, "print the tokens' IDs, users and roles", _tokens_of, ("ls",)),
    Command("revoke", tokens.revoke, "revoke a token", _token_revoke, ("rm",)),
)

COMMANDS = (
    Command("start", sessions.start, "start a session and print its location", _start),
    Command("plan", sessions.plan, "say what a start would do, without starting", _start_options),
    Command("stop", living.stop, "stop sessions; return when they are removed", _stop, ("rm",)),
    Command(
        "list", living.list_, "print the sessions that live, newest first", _list, ("ls", "ps")
    ),
    Command("get", sessions.get, "print a session", _get),
    Command("wait", sessions.wait, "wait until a session reaches a phase", _wait),
    Command("extend", sessions.extend, "renew the lease of a session", _extend),
    Command("stats", sessions.stats, "print what each stage of a session uses", _id),
    Command("logs", following.logs, "print what the stages of a session wrote", _logs),
    Command("events", following.events, "print events as they happen", _events),
    Command("watch", watch.watch, "follow a session until it ends", _id),
    Command("top", top.top, "watch the machine, the queue and all sessions; q leaves", _top),
    Command("record", record.record, "write the stream of a session to a file", _record),
    Command("probe", None, "add, list, get (and look at) and remove probes", _probe),
    Command("pipelines", system.pipelines, "print the pipelines", _quiet),
    Command("status", system.status, "print engine, room, sessions and queue", _nothing),
    Command("metrics", system.metrics, "print what the daemon counts and measures", _nothing),
    Command("ping", system.ping, "check that the daemon answers", _nothing),
    Command("describe", system.describe, "print the methods that the daemon knows", _nothing),
    Command("drain", system.drain, "start no more sessions", _drain),
    Command("undrain", system.undrain, "start sessions again", _nothing),
    Command("reload", system.reload, "reread the configuration", _nothing),
    Command("token", None, "make, list and revoke tokens, on the daemon's machine", _token),
    Command("completion", _completion, "print a completion script for a shell", _shell),
)
