# SPDX-License-Identifier: MIT
"""The command line of the daemon.

Exit codes: 0 ok, 1 it did not work, 2 wrong usage or settings that cannot be used, 74 the output cannot be
written, 130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from operatord_protocol.standard_streams import open_closed_ones

from . import __version__
from .core.engine_kinds import KINDS

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OUTPUT = 74
"""EX_IOERR of BSD's sysexits(3)."""
EXIT_INTERRUPTED = 128 + 2
EXIT_BROKEN_PIPE = 128 + 13
COMMON_OPTIONS = ("-h", "--help", "--version")
"""Options that may stand before a command."""
ROLES = ("viewer", "user", "operator")
SYSTEM_CONFIG = Path("/etc/operatord/operatord.yaml")


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
        _say(f"the output cannot be written: {exc.strerror}")
        code = EXIT_OUTPUT
    if code in (EXIT_OUTPUT, EXIT_BROKEN_PIPE):
        _give_up_output()
    return code


def _typed(argv: Sequence[str] | None) -> int:
    parser, words = build_parser(), sys.argv[1:] if argv is None else argv
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


class _Parser(argparse.ArgumentParser):
    """argparse's own passes over what cannot be written."""

    def print_help(self, file: object = None) -> None:
        """Print it. Raises `OSError`."""
        print(self.format_help(), end="", flush=True)  # noqa: T201

    def error(self, message: str) -> NoReturn:
        """Exit with the usage, and with a likely word for a slip."""
        from operatord_protocol.checking import likely_choice  # noqa: PLC0415

        super().error(message + likely_choice(message))


class _ShowVersion(argparse.Action):
    """argparse's own does not tell when it cannot be written either."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and exit."""
        print(f"operatord {__version__}", flush=True)  # noqa: T201
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser, every command with its function as ``run``."""
    parser = _Parser(
        prog="operatord",
        description="Turns imaging probes into streams: listens for requests, starts, wires and "
        "stops the containers of each session, and answers with the stream's location.",
        epilog='Try it: "operatord demo". Ask a running one: '
        """echo '{"method":"system.status"}' | nc -N 127.0.0.1 7733. """
        "Exit codes: 0 ok, 1 it did not work, 2 usage or settings, 74 output cannot be written, "
        "130 interrupted, 141 nobody reads the output.",
    )
    parser.add_argument("--version", action=_ShowVersion, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_check_config(commands)
    _add_config(commands)
    _add_build_images(commands)
    _add_sweep(commands)
    _add_backup(commands)
    _add_restore(commands)
    _add_identity(commands)
    _add_token(commands)
    _add_demo(commands)
    _add_simulate(commands)
    _add_export_trace(commands)
    for command in commands.choices.values():
        command.set_defaults(command=command)
    return parser


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="run the daemon", description="Run the daemon.")
    _add_settings(serve)
    serve.set_defaults(run=_serve)


def _add_check_config(commands: Any) -> None:
    text = "Check the settings that `serve` would use with the same options, and print them."
    check = commands.add_parser(
        "check-config", help="check and print the settings", description=text
    )
    check.add_argument(
        "file", nargs="?", metavar="FILE", type=Path, help="the same as --config FILE"
    )
    check.add_argument("-q", "--quiet", action="store_true", help="check only, print nothing")
    _add_settings(check)
    check.set_defaults(run=_check_config)


def _add_config(commands: Any) -> None:
    text = (
        "Print the settings that `serve` would use with the same options; or where to begin from."
    )
    config = commands.add_parser("config", help="print the settings", description=text)
    config.add_argument(
        "--example", action="store_true",
        help="print a settings file with every key, its default and what it is for",
    )  # fmt: skip
    _add_settings(config)
    config.set_defaults(run=_config, quiet=False)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", type=Path,
        help=f"settings file (default: $OPERATORD_CONFIG, else {SYSTEM_CONFIG} if it is there)",
    )  # fmt: skip
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="TCP address; port 0 picks a free one"
    )
    parser.add_argument("--unix", metavar="PATH", help="listen on a Unix socket as well")
    parser.add_argument(
        "--engine", choices=tuple(KINDS),
        help="where stages run: containers of the engine that is named or found, or local processes",
    )  # fmt: skip
    parser.add_argument("--state-dir", metavar="DIR", help="what outlives a restart is kept there")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", choices=("auto", "text", "json"), help="the log on stderr")


def _add_build_images(commands: Any) -> None:
    text = (
        "Build the three emulator images on the container engine, which is found as the docker command finds "
        "it: $DOCKER_HOST, $DOCKER_CONTEXT, the current context, or a socket."
    )
    build = commands.add_parser("build-images", help="build the emulator images", description=text)
    build.add_argument(
        "--base", metavar="IMAGE",
        help="image with python3 to build on (default: the Dockerfiles' own; where no registry can "
        "be reached, one made with debootstrap)",
    )  # fmt: skip
    build.set_defaults(run=_build_images)


def _add_sweep(commands: Any) -> None:
    text = (
        "Remove what is left over on the engine: objects with the label of this state directory's "
        "instance that belong to no living session of its journal. Safe beside a daemon that works; "
        "where none runs, what was being started or removed when it died goes as well. Sessions that "
        "run, foreign objects and those of other instances are never touched."
    )
    sweep = commands.add_parser("sweep", help="remove what is left over, once", description=text)
    sweep.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    sweep.add_argument(
        "--grace", metavar="SECONDS", type=_seconds, default=10.0,
        help="time between the two looks that something has to be left over at (default: 10)",
    )  # fmt: skip
    sweep.add_argument(
        "--forgotten", action="store_true",
        help="remove also sessions that run and are in no journal, for it was damaged or moved away",
    )  # fmt: skip
    _add_settings(sweep)
    sweep.set_defaults(run=_sweep)


def _add_backup(commands: Any) -> None:
    text = (
        "Write the journal, with all that a daemon needs to go on from it, into one file. The daemon may go "
        "on meanwhile. `operatord restore` puts it back."
    )
    backup = commands.add_parser("backup", help="write the journal to a file", description=text)
    backup.add_argument("backup", metavar="FILE", type=Path, help="where to; it is written anew")
    _add_settings(backup)
    backup.set_defaults(run=_backup)


def _add_restore(commands: Any) -> None:
    text = (
        "Put a backup into a state directory that has no journal, while no daemon runs there. Sessions that "
        "have begun since go on running, but nobody knows them: `operatord sweep --forgotten` removes them."
    )
    restore = commands.add_parser("restore", help="put a backup back", description=text)
    restore.add_argument("backup", metavar="FILE", type=Path, help="what `operatord backup` wrote")
    _add_settings(restore)
    restore.set_defaults(run=_restore)


def _add_identity(commands: Any) -> None:
    text = (
        "Say which instance a state directory is, or settle it; for that, no daemon may run there."
    )
    identity = commands.add_parser(
        "identity", help="of a state directory: say or settle it", description=text
    )
    how = identity.add_mutually_exclusive_group()
    how.add_argument(
        "--new", action="store_true",
        help="for a copy: an instance of its own, that keeps history and probes, and has no sessions",
    )  # fmt: skip
    how.add_argument(
        "--take-over", action="store_true",
        help="for one that was moved or put back: go on in place of the one that is gone for good",
    )  # fmt: skip
    _add_settings(identity)
    identity.set_defaults(run=_identity)


def _add_token(commands: Any) -> None:
    text = (
        "Make, list and revoke the tokens in the file that auth.tokens of the settings names. A running "
        "daemon knows of it after a reload (operatorctl reload, or SIGHUP); who came with a revoked token is "
        "disconnected then."
    )
    token = commands.add_parser("token", help="who may log in", description=text)
    verbs = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = verbs.add_parser("new", help="make one and print it, once")
    new.add_argument("user", metavar="USER", help="whose it is")
    new.add_argument("--role", choices=ROLES, default="user", help="(default: user)")
    new.set_defaults(act="new")
    verbs.add_parser("list", help="print whose they are").set_defaults(act="show")
    revoke = verbs.add_parser("revoke", help="forget one")
    revoke.add_argument("id", metavar="ID", help="as `operatord token list` has it")
    revoke.set_defaults(act="revoke")
    for verb in verbs.choices.values():
        _add_settings(verb)
        verb.set_defaults(run=_token)


def _reading(read: Callable[[str], T], expected: str) -> Callable[[str], T]:
    """Return what reads a value, and says what is expected of one that it cannot read."""

    def checked(text: str) -> T:
        with contextlib.suppress(ValueError):
            return read(text)
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return checked


def _up_to_an_hour(text: str) -> float:
    if not 0 <= (seconds := float(text)) <= 3600:
        raise ValueError(text)
    return seconds


_seconds = _reading(_up_to_an_hour, "0 to 3600 seconds such as 10")
_whole = _reading(int, "a whole number such as 100")
_number = _reading(float, "a number such as 0.5")


def _add_demo(commands: Any) -> None:
    text = (
        "Run the main job before your eyes: a private daemon, one segmented session asked for over "
        "TCP, its frames received and compared with the truth, and the proof that nothing is left."
    )
    demo = commands.add_parser(
        "demo", help="watch one session from request to nothing", description=text
    )
    demo.add_argument("--engine", choices=tuple(KINDS), default="auto")
    demo.add_argument("--count", type=_whole, default=300, help="frames to ask for (default: 300)")
    demo.set_defaults(run=_demo)


def _add_simulate(commands: Any) -> None:
    text = (
        "Ask what would happen: run the daemon's own scheduler over a trace, with a clock that does not "
        "wait and no engine, and report how full the machines were, who waited how long and how "
        "evenly owners were served."
    )
    simulate = commands.add_parser(
        "simulate", help="what if: run the scheduler over a trace", description=text
    )
    _add_simulated_trace(simulate.add_argument_group("what is asked for"))
    _add_simulated_nodes(simulate.add_argument_group("who is asked"))
    add = simulate.add_argument_group("what is shown").add_argument
    add("--compare", action="store_true", help="the same trace first come, first served beside it")
    add("--picture", metavar="FILE", type=Path, help="draw utilisation and queue as SVG")
    add("--json", action="store_true", help="print one JSON object")
    simulate.set_defaults(run=_simulate)


def _add_export_trace(commands: Any) -> None:
    text = (
        "Write what a daemon was asked for, and how long it took, as a trace for `simulate --trace`. "
        "The daemon may go on meanwhile."
    )
    export = commands.add_parser(
        "export-trace", help="write the history as a trace for simulate", description=text
    )
    export.add_argument("trace", metavar="FILE", type=Path, help="where to: JSON lines")
    _add_settings(export)
    export.set_defaults(run=_export_trace)


def _add_simulated_trace(group: Any) -> None:
    add = group.add_argument
    add("--sessions", metavar="N", type=_whole, help="requests that come (default: 100000)")
    add(
        "--load", metavar="X", type=_number,
        help="demand for the scarcest thing as a part of what there is (default: 1.1, more than "
        "there is)",
    )  # fmt: skip
    add("--owners", metavar="N", type=_whole, help="who ask for equally much (default: 8)")
    add(
        "--flood", metavar="X", type=_number, nargs="?", const=10.0,
        help="the first owner asks for X times as much as each other one, on top (default: 10)",
    )  # fmt: skip
    add("--seed", metavar="N", type=_whole, default=1, help="the same seed, the same trace")
    add("--noise", metavar="X", type=_number, default=0.0, help="how wrong expected durations are: "
        "the standard deviation of their logarithm (default: 0)")  # fmt: skip
    add("--no-estimates", action="store_true", help="nobody knows how long a session lasts")
    files = group.add_mutually_exclusive_group()
    files.add_argument("--trace", metavar="FILE", type=Path, help="recorded requests: JSON lines")
    files.add_argument(
        "--write-trace", metavar="FILE", type=Path, help="write the requests, do nothing else"
    )


def _add_simulated_nodes(group: Any) -> None:
    add = group.add_argument
    add("--policy", choices=("easy", "fair", "fifo"), default="easy",
        help="easy: the daemon's own, fair with backfilling; fair: without; fifo")  # fmt: skip
    add("--nodes", metavar="N", type=_whole, default=1, help="machines, up to 1000 (default: 1)")
    add("--choices", metavar="D", type=_whole, default=2,
        help="machines drawn for each request, the best takes it (default: 2)")  # fmt: skip
    add("--cpus", metavar="X", type=_number, default=16.0, help="cores of one (default: 16)")
    add("--memory", metavar="SIZE", default="16GiB", help="of one (default: 16GiB)")
    add("--places", metavar="N", type=_whole, default=256, help="sessions on one (default: 256)")
    add("--gpus", metavar="N", type=_whole, default=0, help="graphics cards of one (default: 0)")
    add(
        "--start",
        metavar="X",
        type=_number,
        default=0.8,
        help="seconds a start takes (default: 0.8)",
    )
    add("--ageing", metavar="TIME", default="60s",
        help="waiting that counts as a level of priority (default: 60s)")  # fmt: skip


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given on the command line; None where they were not."""
    options: dict[str, Any] = {
        name: getattr(args, name) for name in ("listen", "unix", "engine", "state_dir")
    }
    log = {"level": args.log_level, "format": args.log_format}
    given = {key: value for key, value in log.items() if value is not None}
    return {**options, "log": given or None}


def _config_file(args: argparse.Namespace) -> Path | None:
    chosen = getattr(args, "file", None) or args.config
    if chosen is not None:
        return Path(chosen)
    if path := os.environ.get("OPERATORD_CONFIG"):
        return Path(path)
    return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None


def _say(text: str) -> None:
    if sys.stderr is None:  # `print` would take standard output for it
        return
    with contextlib.suppress(OSError):  # then nobody can be told
        print(f"operatord: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _load(args: argparse.Namespace, *, to_serve: bool = False) -> Any:
    """Return the settings, or None after having said what is wrong with them.

    ``to_serve`` has names looked up that a daemon needs.
    """
    from .settings.advertised import advertised  # noqa: PLC0415
    from .settings.choice import engine_endpoint, engine_host  # noqa: PLC0415
    from .settings.config import ConfigError  # noqa: PLC0415
    from .settings.loading import load  # noqa: PLC0415
    from .settings.variables import in_small_letters, not_settings  # noqa: PLC0415

    for name in not_settings(os.environ):
        _say(
            f"{name} is no setting, and is passed over; `operatord check-config` prints all that are"
        )
    for name in in_small_letters(os.environ):
        _say(f"{name} is passed over: settings are in capital letters, {name.upper()}")
    try:
        config = load(_config_file(args), os.environ, _settings(args))
        engine_endpoint(config, os.environ)
        if to_serve:
            advertised(config, engine_host(config, os.environ))
        return config
    except ConfigError as exc:
        for problem in exc.problems:
            _say(f"{exc.path}: {problem}" if exc.path else problem)
        return None


def _config(args: argparse.Namespace) -> int:
    if not args.example:
        return _check_config(args)
    from importlib.resources import files  # noqa: PLC0415

    print(files("operatord").joinpath("operatord.yaml").read_text("utf-8"), end="")  # noqa: T201
    return 0


def _check_config(args: argparse.Namespace) -> int:
    config = _load(args, to_serve=True)
    if config is None:
        return EXIT_USAGE
    if not args.quiet:
        import yaml  # noqa: PLC0415

        from .settings.config import to_dict  # noqa: PLC0415

        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")  # noqa: T201
    return 0


def _serve(args: argparse.Namespace) -> int:
    from .stderr import never_wait  # noqa: PLC0415

    never_wait()
    config = _load(args, to_serve=True)
    if config is None:
        return EXIT_USAGE
    import asyncio  # noqa: PLC0415

    from . import logs  # noqa: PLC0415
    from .daemon import Daemon, Parts  # noqa: PLC0415
    from .engines.base import NotOurs  # noqa: PLC0415
    from .machine.latency import ask_for_short_slices, keep_collections_short  # noqa: PLC0415
    from .settings.loading import load  # noqa: PLC0415
    from .state.identity import StateDirUnusable  # noqa: PLC0415
    from .store.journal_file import JournalFailed  # noqa: PLC0415
    from .systemd.activation import UnusableSocket  # noqa: PLC0415
    from .systemd.manager import ServiceManager  # noqa: PLC0415

    logs.configure(config.log)

    async def run() -> None:
        ask_for_short_slices()
        manager = ServiceManager.from_environment(os.environ)
        daemon = Daemon(
            config,
            lambda: load(_config_file(args), os.environ, _settings(args), again=True),
            Parts(manager=manager),
        )
        daemon.handle_signals()
        daemon.note_what_breaks()
        try:
            await daemon.start()
        except (OSError, NotOurs):
            await daemon.stop()
            raise
        keep_collections_short()
        await daemon.run_until_stopped()

    try:
        asyncio.run(run())
    except (StateDirUnusable, JournalFailed, NotOurs, UnusableSocket) as exc:
        _say(str(exc))
        return EXIT_FAILED
    except OSError as exc:
        _say(_cannot_start(exc, config))
        return EXIT_FAILED
    return 0


def _cannot_start(exc: OSError, config: Any) -> str:
    """Say which address or file an error of the system is about, and what to do."""
    if exc.errno == errno.EADDRINUSE and not exc.filename:
        return (
            f"cannot start: {config.listen} is in use, perhaps by another operatord: stop that, or give "
            "this one another address with --listen"
        )
    if not exc.filename:
        return f"cannot start: {exc.strerror or exc} (listen: {config.listen})"
    if exc.filename == config.unix:
        return (
            f"cannot start: the Unix socket {config.unix} cannot be listened on: {exc.strerror}; choose "
            "another path with --unix"
        )
    state = config.state_path
    place = Path(os.fsdecode(exc.filename))
    if place == state or state in place.parents or place in state.parents:
        return (
            f"cannot start: the state directory {state} cannot be used: {exc.strerror}: {exc.filename}; "
            "choose one that you may write to with --state-dir, or run as who may write there"
        )
    return f"cannot start: {exc.strerror or exc}: {exc.filename}"


def _endpoint(engine: str) -> Any:
    """Return where the environment has the engine, or None after having said what is wrong with that."""
    from .settings.choice import DEFAULT, engine_endpoint  # noqa: PLC0415
    from .settings.config import ConfigError  # noqa: PLC0415
    from .settings.loading import from_dict  # noqa: PLC0415

    try:
        return engine_endpoint(from_dict({"engine": engine}), os.environ) or DEFAULT
    except ConfigError as exc:
        _say(f"{exc.path}: {exc}" if exc.path else str(exc))
        return None


def _build_images(args: argparse.Namespace) -> int:
    endpoint = _endpoint("docker")
    if endpoint is None:
        return EXIT_USAGE
    from .engines.base import EngineUnavailable  # noqa: PLC0415
    from .engines.docker.images import image_client  # noqa: PLC0415
    from .images import ImageError, build_images  # noqa: PLC0415

    try:
        with image_client(endpoint) as client:
            build_images(client, args.base, _say)
    except (ImageError, EngineUnavailable) as exc:
        _say(str(exc))
        return EXIT_FAILED
    return 0


def _export_trace(args: argparse.Namespace) -> int:
    config = _load(args)
    if config is None:
        return EXIT_USAGE
    from .simulation.recorded import TraceError  # noqa: PLC0415
    from .state.trace_export import NothingRecorded, export_trace  # noqa: PLC0415

    try:
        count = export_trace(config.state_path, args.trace)
    except (NothingRecorded, TraceError) as exc:
        _say(str(exc))
        return EXIT_FAILED
    print(f"{count} sessions written to {args.trace}")  # noqa: T201
    return 0


def _sweep(args: argparse.Namespace) -> int:
    config = _load(args)
    if config is None:
        return EXIT_USAGE
    from . import logs  # noqa: PLC0415
    from .state.sweep import Options, run_sweep  # noqa: PLC0415

    logs.configure(config.log)
    return run_sweep(config, Options(print, _say, args.grace, args.forgotten, args.dry_run))


def _backup(args: argparse.Namespace) -> int:
    from .state.upkeep import backup  # noqa: PLC0415

    return _upkeep(args, lambda config: backup(config.state_path, args.backup))


def _restore(args: argparse.Namespace) -> int:
    from .state.upkeep import restore  # noqa: PLC0415

    return _upkeep(args, lambda config: restore(args.backup, config.state_path))


def _identity(args: argparse.Namespace) -> int:
    from .state.upkeep import describe, renew, take_over  # noqa: PLC0415

    if args.take_over:
        return _upkeep(args, take_over)
    act = renew if args.new else describe
    return _upkeep(args, lambda config: act(config.state_path))


def _upkeep(args: argparse.Namespace, act: Callable[[Any], str]) -> int:
    """Do something with the state directory of the settings, and print what was done."""
    config = _load(args)
    if config is None:
        return EXIT_USAGE
    from . import logs  # noqa: PLC0415
    from .state.identity import StateDirUnusable  # noqa: PLC0415
    from .state.upkeep import CannotDo  # noqa: PLC0415

    logs.configure(config.log)
    try:
        print(act(config))  # noqa: T201
    except (StateDirUnusable, CannotDo) as exc:
        _say(str(exc))
        return EXIT_FAILED
    except OSError as exc:
        _say(f"{exc.strerror or exc}: {exc.filename or config.state_path}")
        return EXIT_FAILED
    return 0


def _token(args: argparse.Namespace) -> int:
    """Do something with the file of tokens that the settings name."""
    config = _load(args)
    if config is None:
        return EXIT_USAGE
    if config.auth.tokens is None:
        _say("auth.tokens names no file to keep tokens in; set it, or OPERATORD_AUTH_TOKENS")
        return EXIT_USAGE
    from . import token_commands  # noqa: PLC0415
    from .access.tokens import TokensUnusable  # noqa: PLC0415

    path = Path(config.auth.tokens).expanduser()
    try:
        return int(getattr(token_commands, args.act)(args, path, _say))
    except token_commands.Misnamed as exc:
        _say(str(exc))
        return EXIT_USAGE
    except TokensUnusable as exc:
        _say(f"{path}: {exc}")
    except OSError as exc:
        _say(f"{exc.filename or path}: {exc.strerror or exc}")
    return EXIT_FAILED


def _demo(args: argparse.Namespace) -> int:
    if _endpoint(args.engine) is None:
        return EXIT_USAGE
    from .demo import run_demo  # noqa: PLC0415

    return run_demo(args.engine, args.count)


def _simulate(args: argparse.Namespace) -> int:
    from .simulation.command import Unusable, run_simulate  # noqa: PLC0415

    try:
        return run_simulate(args)
    except Unusable as exc:
        _say(str(exc))
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
