# SPDX-License-Identifier: MIT
"""watch: one session followed until it ends, drawn on a terminal and in plain lines elsewhere."""

from __future__ import annotations

import sys

from operatord_client.ctl import render, terminal
from operatord_client.ctl.context import Context
from operatord_client.ctl.fitting import GAP
from operatord_protocol.visible import tidied

from .following import followed
from .sessions import code_of
from .view import View

GET_RICH = (
    "it comes with the extra `cli`: pip install 'operatord[cli]' (pipx: pipx inject operatord rich)"
)
WITHOUT_RICH = (
    f"rich is not installed, so this is a line for each change and no picture; {GET_RICH}"
)

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Protocol

    class Screen(Protocol):
        """Where a session is shown. ``tick`` is how often it wants news, in seconds, None for never."""

        @property
        def tick(self) -> float | None: ...
        def __enter__(self) -> object: ...
        def __exit__(self, *exc_info: object) -> None: ...
        def show(self, view: View) -> None:
            """Show the present state."""


def watch(ctx: Context, args: Namespace) -> int:
    """Show a session until it has ended; 1 when it ended badly."""
    session_id = ctx.session_id(args.id)
    screen = _screen(ctx)
    with ctx.client.events(session_id=session_id) as feed, screen:
        view = _look(ctx, session_id, screen, "")
        while not view.ended:
            event = next(followed(feed), None) if screen.tick is None else feed.take(screen.tick)
            view = _look(ctx, session_id, screen, "" if event is None else event.type)
    return code_of(view.session)


def _look(ctx: Context, session_id: str, screen: Screen, event: str) -> View:
    session = ctx.call("session.get", session_id=session_id)
    if not ctx.as_json:
        session = tidied(session)
    stats: dict[str, Any] = {}
    if screen.tick is not None and session["phase"] == "running":
        stats = _stats(ctx, session_id)
    view = View(session, stats, event)
    screen.show(view)
    return view


def _stats(ctx: Context, session_id: str) -> dict[str, Any]:
    from operatord_client.errors import ApplicationError  # noqa: PLC0415 - not for --help

    try:
        stages: dict[str, Any] = ctx.call("session.stats", session_id=session_id)["stages"]
    except ApplicationError:
        return {}  # it ended meanwhile, or the engine is away: the rest is still worth showing
    tidy: dict[str, Any] = tidied(stages)
    return tidy


def _screen(ctx: Context) -> Screen:
    if ctx.as_json:
        return JsonScreen(ctx)
    if sys.stdout is not None and sys.stdout.isatty():
        try:
            from .drawing.session import LiveScreen  # noqa: PLC0415 - the one that imports rich
        except ImportError:
            terminal.note(WITHOUT_RICH)
            return PlainScreen()
        return LiveScreen()
    return PlainScreen()


class JsonScreen:
    """The session as the daemon has it, a line for each change."""

    tick = None

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._last: dict[str, Any] | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def show(self, view: View) -> None:
        """Print what is new."""
        if view.session != self._last:
            self._last = view.session
            self._ctx.show(view.session, str)


class PlainScreen:
    """A line for each change, for pipes and terminals without rich."""

    tick = None

    def __init__(self) -> None:
        self._last = ""

    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def show(self, view: View) -> None:
        """Print what is new."""
        line = summary(view)
        if line != self._last:
            self._last = line
            terminal.out(line)


def summary(view: View) -> str:
    """Return a session on one line."""
    session = view.session
    words = [session["session_id"], session["phase"]]
    if session.get("position") is not None:
        words.append(f"position {session['position']}")
    words += [
        render.unread(session),
        session.get("outcome"),
        session.get("location", {}).get("url"),
    ]
    if view.frames is not None:
        words.append(f"{view.frames} frames")
    words.append(session.get("reason"))
    return GAP.join(filter(None, words))
