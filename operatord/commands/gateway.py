# SPDX-License-Identifier: MIT
"""`operatord gateway`: answer HTTP for a daemon, as a client of it."""

from __future__ import annotations

import argparse
from typing import Any

from .exits import EXIT_FAILED, EXIT_USAGE, say

LISTEN = "127.0.0.1:5000"


def add_gateway(commands: Any) -> None:
    """Add `operatord gateway` and its options."""
    text = (
        "Answer HTTP for a daemon, as a client of it: a page, POST /post/, /api/v1/, /metrics. "
        "A daemon with the setting http.listen starts its own."
    )
    gateway = commands.add_parser("gateway", help="answer HTTP for a daemon", description=text)
    gateway.add_argument(
        "--listen", metavar="HOST:PORT", default=LISTEN,
        help=f"where to answer HTTP; port 0 picks a free one (default: {LISTEN})",
    )  # fmt: skip
    gateway.add_argument(
        "--address",
        help="the daemon's address, as for operatorctl (default: $OPERATORD_ADDRESS, else 127.0.0.1:7733)",
    )
    gateway.add_argument(
        "--host", metavar="NAME", action="append", default=[],
        help="a further name of this gateway, besides this machine's addresses; may be repeated",
    )  # fmt: skip
    gateway.add_argument("--from-daemon", action="store_true", help=argparse.SUPPRESS)
    gateway.set_defaults(run=_gateway)


def _gateway(args: argparse.Namespace) -> int:
    try:
        import aiohttp  # noqa: F401, PLC0415
    except ImportError:
        say("HTTP needs the extra http: pip install 'operatord[http]'")
        return EXIT_FAILED
    return _for_daemon() if args.from_daemon else _by_hand(args)


def _by_hand(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from operatord.gateway.process.serving import Place, serve  # noqa: PLC0415
    from operatord.gateway.upstream import Means  # noqa: PLC0415
    from operatord.settings.listeners import is_loopback  # noqa: PLC0415
    from operatord_client.address import parse_address  # noqa: PLC0415

    host, colon, port = args.listen.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit() or int(port) > 65535:
        say(f"--listen: expected HOST:PORT such as {LISTEN}, got {args.listen!r}")
        return EXIT_USAGE
    try:
        address = parse_address(args.address)
    except ValueError as exc:
        say(str(exc))
        return EXIT_USAGE
    means = Means(address, token_needed=not is_loopback(host))
    if means.token_needed:
        say(
            f"tokens go to {args.listen} unencrypted; a gateway of the daemon's can have TLS (http.tls)"
        )
    try:
        asyncio.run(serve(means, Place(host, int(port), args.host), _listening))
    except OSError as exc:
        say(f"cannot listen on {args.listen}: {exc.strerror or exc}")
        return EXIT_FAILED
    return 0


def _listening(url: str) -> None:
    say(f"answering at {url}")


def _for_daemon() -> int:
    """Serve for the daemon at the other end of standard input, until it has gone."""
    import asyncio  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from operatord import logs  # noqa: PLC0415
    from operatord.gateway.process.passage import Passage  # noqa: PLC0415
    from operatord.gateway.process.serving import serve_for  # noqa: PLC0415
    from operatord.machine.processes import end_with_parent  # noqa: PLC0415
    from operatord.settings.config import Logging  # noqa: PLC0415
    from operatord.stderr import never_wait  # noqa: PLC0415

    def configure(level: Any, format: Any) -> None:
        logs.configure(Logging(level=level, format=format))

    async def run() -> None:
        await serve_for(Passage(socket.socket(fileno=0)), configure)

    end_with_parent()
    never_wait()
    try:
        asyncio.run(run())
    except OSError as exc:  # no daemon at the other end, or a file that cannot be read
        say(f"the gateway cannot serve for a daemon: {exc.strerror or exc}")
        return EXIT_FAILED
    return 0
