# SPDX-License-Identifier: MIT
"""top: machine, queue, slots and sessions, live on a terminal; elsewhere, or with --once, as they are now."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from operatord_client.ctl import terminal
from operatord_client.ctl.context import Context
from operatord_client.ctl.exits import OK
from operatord_protocol.visible import tidied

from .watch import GET_RICH

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from operatord_client.feeds import Feed
    from operatord_client.notices import Event

    from .drawing.top import TopScreen
    from .overview import Overview

MOST = 200
"""Sessions that are asked for, of each phase: more than any terminal has lines for."""
TICK = 1.0
"""Seconds between two looks while nothing happens: what is measured moves."""
SOONEST = 0.2
"""Seconds between two looks while much happens."""
KEY_PATIENCE = 0.1
"""Seconds until a key is noticed."""


def top(ctx: Context, args: Namespace) -> int:
    """Show how it is, until somebody leaves; once where there is nobody to see it move."""
    if args.once or ctx.as_json or sys.stdout is None or not sys.stdout.isatty():
        return _once(ctx)
    try:
        from .drawing.top import TopScreen  # noqa: PLC0415 - it imports rich
    except ImportError:
        terminal.note(f"rich is not installed, so this is printed once and not updated; {GET_RICH}")
        return _once(ctx)
    with ctx.client.events(reconnect=True) as feed, TopScreen() as screen:
        _live(ctx, feed, screen)
    return OK


def _once(ctx: Context) -> int:
    from .overview import plain  # noqa: PLC0415 - not for --help

    view = look(ctx)
    shown = {
        "status": view.status,
        "sessions": view.sessions,
        "metrics": list(view.metrics.values()),
    }
    ctx.show(shown, lambda _: plain(view))
    return OK


def look(ctx: Context) -> Overview:
    """Return how it is now. Raises as the client's calls."""
    from .overview import PHASES, Overview  # noqa: PLC0415 - not for --help

    status = ctx.call("system.status")
    sessions: list[Any] = []
    for phase in (each for each in PHASES if status["sessions"].get(each)):
        found = ctx.call("session.list", phase=phase, limit=MOST)["sessions"]
        sessions += [each for each in found if each["phase"] == phase]
    metrics = ctx.call("system.metrics")["metrics"]
    now = ctx.call("system.ping")["time"]
    known = {each["name"]: each for each in metrics}
    if not ctx.as_json:
        status, sessions = tidied(status), tidied(sessions)
    return Overview(status, sessions, known, now)


def _live(ctx: Context, feed: Feed[Event], screen: TopScreen) -> None:
    """Draw until q is typed. While the daemon is away, the last picture stays, and says so."""
    from operatord_client.errors import (  # noqa: PLC0415 - not for --help
        ConnectionLost,
        DaemonUnreachable,
    )

    view = look(ctx)
    while True:
        screen.show(view)
        if not _wait(feed, screen):
            return
        try:
            view = look(ctx)
        except (ConnectionLost, DaemonUnreachable) as exc:
            view = view._replace(away=str(exc))
            _reconnect(ctx)


def _reconnect(ctx: Context) -> None:
    from operatord_client.errors import DaemonUnreachable  # noqa: PLC0415 - not for --help

    with suppress(DaemonUnreachable):  # it is tried again with the next look
        ctx.client.reconnect()


def _wait(feed: Feed[Event], screen: TopScreen) -> bool:
    """Return True when it is time to look again, for something has happened or a while has passed; False to
    leave.
    """
    begun = time.monotonic()
    due = begun + TICK
    while (now := time.monotonic()) < due:
        if feed.take(min(KEY_PATIENCE, due - now)) is not None:
            due = min(due, max(time.monotonic(), begun + SOONEST))
        if screen.wants_to_leave():
            return False
    return True
