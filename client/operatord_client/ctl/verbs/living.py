# SPDX-License-Identifier: MIT
"""list and stop: sessions that live, or all that are known."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from operatord_client.ctl import render, terminal
from operatord_client.ctl.context import Context
from operatord_client.ctl.exits import USAGE, Refused

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from typing import Any

LIVING = ("queued", "starting", "running", "stopping")
"""In the order of a life: asked for one after the other, no session is missed that moves on meanwhile."""


def list_(ctx: Context, args: Namespace) -> None:
    """Print sessions, or with ``--quiet`` their ids."""
    params = {"phase": args.phase, "owner": args.owner, "limit": args.limit}
    shown = _ids if args.quiet else partial(render.sessions, width=terminal.width())
    if args.all or args.phase:
        ctx.answer_list("session.list", "sessions", params, shown)
    else:
        ctx.print_items("sessions", _living(ctx, params)[: args.limit], shown)


def _living(ctx: Context, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sessions that have not ended, newest first."""
    found = {}
    for phase in LIVING:
        for info in ctx.all_of("session.list", "sessions", {**params, "phase": phase}):
            found[info["session_id"]] = info
    return sorted(found.values(), key=_created, reverse=True)


def _created(info: Mapping[str, Any]) -> str:
    return str(info.get("created", ""))


def _ids(result: Mapping[str, Any]) -> str:
    return "\n".join(info["session_id"] for info in result["sessions"])


def stop(ctx: Context, args: Namespace) -> None:
    """Stop sessions, one after the other; with ``--all`` each that lives, but for those of others that only
    they and operators may stop.
    """
    if bool(args.ids) == args.all:
        raise Refused("expected the ids of sessions, or --all", USAGE)
    if args.all:
        _stop_all(ctx, args.grace)
    for start_of_id in args.ids:
        _stop(ctx, ctx.session_id(start_of_id), args.grace)


def _stop_all(ctx: Context, grace: float | None) -> None:
    from operatord_client.errors import Forbidden  # noqa: PLC0415 - not for --help

    # Those that wait go first: they would take the place of one that is stopped before them.
    for info in sorted(_living(ctx, {}), key=_phase):
        with suppress(Forbidden):
            _stop(ctx, info["session_id"], grace)


def _phase(info: Mapping[str, Any]) -> int:
    return LIVING.index(info["phase"])


def _stop(ctx: Context, session_id: str, grace: float | None) -> None:
    ctx.answer("session.stop", {"session_id": session_id, "grace": grace}, _stopped)


def _stopped(info: Mapping[str, Any]) -> str:
    return f"{info['session_id']}  {info.get('outcome', info['phase'])}"
