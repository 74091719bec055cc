# SPDX-License-Identifier: MIT
"""`operatord token`: what is printed when tokens are made, listed and revoked.

Each takes the arguments, the file, and what says something to people; and returns the exit code. Raises
`TokensUnusable`, `OSError`. ``args.daemons`` is the state directory, whose owner has to read the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from operatord.access import tokens
from operatord.machine.clock import Clock, rfc3339


class Misnamed(Exception):
    """Nobody can be called that. The text says why."""


def new(args: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Make a token and print it, once. Raises `Misnamed`."""
    if problem := tokens.user_problem(args.user):
        raise Misnamed(problem)
    token, text = tokens.new(path, args.user, args.role, rfc3339(Clock().wall()), args.daemons)
    print(text)  # noqa: T201
    say(
        f"this is token {token.id} of {token.user}, with the role {token.role}; it is not shown again"
    )
    return 0


def show(args: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Print whose tokens there are."""
    for token in tokens.read(path):
        print(token.id, f"{token.role:8}", token.created, token.user, sep="  ")  # noqa: T201
    return 0


def revoke(args: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Forget a token."""
    if (token := tokens.revoke(path, args.id)) is None:
        say(f"there is no token {args.id}; `operatord token list` has all")
        return 1
    print(f"the token {token.id} of {token.user} is revoked")  # noqa: T201
    if not tokens.read(path):
        say("no token is left: after a reload nobody can log in with one")
    return 0
