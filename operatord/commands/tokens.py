# SPDX-License-Identifier: MIT
"""`operatord token`: who may log in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .exits import EXIT_FAILED, EXIT_USAGE, say
from .settings import add_settings, load_settings

ROLES = ("viewer", "user", "operator")


def add_token(commands: Any) -> None:
    """Add `operatord token` and its options."""
    text = (
        "Make, list and revoke the tokens in the file that auth.tokens of the settings names. A running "
        "daemon applies changes at a reload (operatorctl reload, or SIGHUP), and then disconnects clients "
        "with a revoked token."
    )
    token = commands.add_parser("token", help="make, list and revoke tokens", description=text)
    verbs = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = verbs.add_parser("new", help="make a token and print it once")
    new.add_argument("user", metavar="USER", help="who may log in with it")
    new.add_argument("--role", choices=ROLES, default="user", help="(default: user)")
    new.set_defaults(act="new")
    verbs.add_parser("list", help="print the tokens' IDs, users and roles").set_defaults(act="show")
    revoke = verbs.add_parser("revoke", help="forget one")
    revoke.add_argument("id", metavar="ID", help="its ID in `operatord token list`")
    revoke.set_defaults(act="revoke")
    for verb in verbs.choices.values():
        add_settings(verb)
        verb.set_defaults(run=_token)


def _token(args: argparse.Namespace) -> int:
    """Do something with the file of tokens that the settings name."""
    config = load_settings(args)
    if config is None:
        return EXIT_USAGE
    if config.auth.tokens is None:
        say("auth.tokens names no file to keep tokens in; set it, or OPERATORD_AUTH_TOKENS")
        return EXIT_USAGE
    from operatord.access.tokens import TokensUnusable  # noqa: PLC0415
    from operatord.state import token_file  # noqa: PLC0415

    path, args.daemons = Path(config.auth.tokens).expanduser(), config.state_path
    try:
        return int(getattr(token_file, args.act)(args, path, say))
    except token_file.Misnamed as exc:
        say(str(exc))
        return EXIT_USAGE
    except TokensUnusable as exc:
        say(f"{path}: {exc}")
    except OSError as exc:
        say(f"{exc.filename or path}: {exc.strerror or exc}")
    return EXIT_FAILED
