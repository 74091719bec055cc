# SPDX-License-Identifier: MIT
"""logs and events: what is printed line by line, for as long as it comes."""

from __future__ import annotations

from . import render
from .context import Context

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

OLDER = "… there are older lines, more than fit into one answer; --follow prints them, too"


def logs(ctx: Context, args: Namespace) -> None:
    """Print what a session's stages wrote, and with ``--follow`` what they go on writing."""
    params = {"session_id": ctx.session_id(args.id), "stage": args.stage, "tail": args.tail}

    def rendered(line: dict[str, Any]) -> str:
        return render.log_line(line, times=args.times)

    def rendered_all(result: dict[str, Any]) -> str:
        lines = [OLDER] if result.get("truncated") else []
        return "\n".join((*lines, *map(rendered, result["lines"])))

    if not args.follow:
        ctx.answer("session.logs", params, rendered_all)
        return
    with ctx.client.logs(params.pop("session_id"), follow=True, **params) as feed:
        for line in feed:
            ctx.show({"stage": line.stage, "time": line.time, "line": line.line}, rendered)


def events(ctx: Context, args: Namespace) -> None:
    """Print what happens, until interrupted; with ``--reconnect`` across restarts of the daemon."""
    session = ctx.session_id(args.session) if args.session else None
    types = args.type or None
    wanted = {"session_id": session, "types": types, "since": args.since}
    with ctx.client.events(**wanted, reconnect=args.reconnect) as feed:
        for event in feed:
            ctx.show(event.data, render.event)
