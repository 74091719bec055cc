# SPDX-License-Identifier: MIT
"""token new, list, revoke: `operatord token` by another name.

Tokens are in a file of the daemon's machine, and no daemon is asked: the first one has to be made before
anybody can log in. So what does it is operatord's own, run as it is installed beside this.
"""

from __future__ import annotations

import sys

from operatord_client.ctl.context import Context
from operatord_client.ctl.exits import Refused

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace


def new(_ctx: Context, args: Namespace) -> int:
    """Make a token and print it, once."""
    return _operatord(args, "new", "--role", args.role, "--", args.user)


def list_(_ctx: Context, args: Namespace) -> int:
    """Print whose tokens there are."""
    return _operatord(args, "list")


def revoke(_ctx: Context, args: Namespace) -> int:
    """Forget a token."""
    return _operatord(args, "revoke", "--", args.token_id)


def _operatord(args: Namespace, verb: str, *arguments: str) -> int:
    """Run `operatord token` and return its exit code. Raises `Refused`."""
    import subprocess  # noqa: PLC0415 - 30 ms that no other command need pay
    from importlib.util import find_spec  # noqa: PLC0415

    if find_spec("operatord") is None:
        raise Refused(
            "tokens are in a file on the daemon's machine, and operatord is not installed beside this "
            "operatorctl; run it on that machine"
        )
    given = () if args.config is None else ("--config", args.config)
    command = (sys.executable, "-P", "-m", "operatord", "token", verb, *given, *arguments)
    return subprocess.run(command, check=False).returncode
