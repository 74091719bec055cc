# SPDX-License-Identifier: MIT
"""Identifies a peer and limits its stay: its first bytes, its login and the time for that, its idle time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from operatord.access import logins
from operatord.access.doors import Auth
from operatord.access.identity import ANONYMOUS, LOCAL, Identity, how_to_log_in
from operatord.access.origin import Origin
from operatord.control.dispatch import Dispatcher
from operatord.control.peer import Services
from operatord_protocol.codec import Refusal
from operatord_protocol.errors import DeadlineExceeded, ParseError, Unauthorized, WireError

from .strangers import BLANKS, stranger

TURNED_AWAY_LINGER = 0.5
"""Seconds that a peer for whom there is no room may go on sending at most before it is cut off, in place of
`limits.refused_linger`: it holds a descriptor meanwhile."""


class Peer(Protocol):
    """The connection of whoever arrives."""

    dispatcher: Dispatcher
    source: Origin

    @property
    def is_used(self) -> bool:
        """Whether it waits for something, or has yet to read or to end what it has begun."""
        ...

    def refuse_all(self, error: WireError, linger: float | None = None) -> None:
        """Say why nothing more is done for it, answer what is pending, and end it."""
        ...

    def drop_all(self) -> None:
        """End what it has under way."""
        ...


class Arrival:
    """Looks after one connection. It refers to that only while a timer runs: a reference cycle would be left
    to the garbage collector, and thousands of connections that end at once would stop the daemon for a tenth
    of a second."""

    __slots__ = ("_auth", "_idle", "_late", "_place", "_services", "begun")

    def __init__(self, services: Services, auth: Auth | None, place: int | None) -> None:
        """``auth`` is how its listener learns who it is, None for the usual way.

        ``place`` is that of the listener among the `listeners` of the settings.
        """
        self._services = services
        self._auth = auth
        self._place = place
        self._late: asyncio.TimerHandle | None = None
        self._idle: Idle | None = None
        self.begun = False
        """Whether it is known that it talks to us: its first line has been looked at."""

    @property
    def line_bytes(self) -> int:
        """The longest line before login."""
        return min(logins.LINE_BYTES, self._services.config.limits.line_bytes)

    def meet(self, peer: Peer, transport: asyncio.BaseTransport) -> None:
        """Have the peer be who it is by its connection, or give it time to log in."""
        if (seconds := self._services.config.limits.idle_timeout) is not None:
            self._idle = Idle(seconds, lambda: peer.is_used, lambda: self._is_idle(peer))
        who = self._services.logins.newcomer(self._auth, transport)
        if not who.role:
            peer.dispatcher.identity = who
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(logins.SECONDS, self._login_is_late, peer)
            return
        peer.dispatcher.log_in(who)
        if who != LOCAL:
            self._services.audit.login(who, peer.source)

    def logged_in(self) -> None:
        """Wait for a login no longer."""
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def heard(self) -> None:
        """Note that something has come."""
        if self._idle is not None:
            self._idle.heard()

    def turned_away(self, data: bytes, pending: bytes) -> Refusal | None:
        """Return why to turn away what is not talking to us: no browser must be able to drive the daemon.

        ``pending`` has come before ``data``, and no line has ended in it.
        """
        pending = pending.lstrip(BLANKS)
        if pending and b"\n" not in data:
            return None  # what it begins with was looked at when that came
        begin = pending + data if pending else data.lstrip(BLANKS)
        if not begin:
            return None
        refusal = stranger(begin)
        # A brace may still begin a line of HTTP, which shows only where that ends.
        self.begun = refusal is not None or b"\n" in begin
        return refusal

    def look_again(self, peer: Peer, transport: asyncio.BaseTransport) -> None:
        """Disconnect the peer if its login is no longer valid by the present settings and tokens."""
        if not self._still_holds(peer.dispatcher.identity, transport):
            peer.drop_all()
            peer.dispatcher.identity = ANONYMOUS
            text = "this login is no longer valid: log in again"
            peer.refuse_all(Unauthorized(text), TURNED_AWAY_LINGER)

    def _still_holds(self, who: Identity, transport: asyncio.BaseTransport) -> bool:
        known = self._services.logins
        if not known.certificate_holds(self._place, transport):
            return False
        if who.token:
            return known.still_holds(who.token, who)
        return not who.role or who == known.newcomer(self._auth, transport)

    def end(self) -> None:
        """Look no more. Idempotent."""
        self.logged_in()
        if self._idle is not None:
            self._idle.stop()
            self._idle = None

    def _login_is_late(self, peer: Peer) -> None:
        self._late = None
        who, text = peer.dispatcher.identity, f"log in within {logins.SECONDS:g} s"
        text = text if who == ANONYMOUS else how_to_log_in(who)
        peer.refuse_all(Unauthorized(f"{text}; the connection is closed"), TURNED_AWAY_LINGER)

    def _is_idle(self, peer: Peer) -> None:
        seconds = f"{self._services.config.limits.idle_timeout or 0.0:g} s"
        text = f"no request came in {seconds} (limits.idle_timeout); the connection is closed"
        peer.refuse_all(DeadlineExceeded(text))


class Idle:
    """Ends a connection that is used for nothing, after `limits.idle_timeout`.

    It looks now and then whether that is so: a timer for each line would cost more than that.
    """

    __slots__ = ("_end", "_is_used", "_loop", "_seconds", "_since", "_timer")

    def __init__(
        self, seconds: float, is_used: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        """Call ``end`` once nothing has come for so long while the connection was not used otherwise."""
        self._seconds = seconds
        self._is_used = is_used
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    def heard(self) -> None:
        """Note that something has come."""
        self._since = self._loop.time()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._is_used():
            self._since = now
        left = self._since + self._seconds - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end()


def too_long(most: int, who: Identity) -> ParseError:
    """Return the error for a line of more than ``most`` bytes."""
    why = f"{most} bytes (limits.line_bytes)" if who.role else f"{most} bytes before login"
    return ParseError(f"a line is at most {why}; the connection is closed")
