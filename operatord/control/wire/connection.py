# SPDX-License-Identifier: MIT
"""One connection: bytes in, lines, requests for the dispatcher, replies, bytes out.

Replies to quick methods are joined into one write; equal requests are computed once a turn. Reading stops
while too many requests are under way, or while the peer does not read what it is sent, so that neither side
can fill the daemon's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Protocol

from msgspec import UNSET

from operatord.access.doors import Auth
from operatord.access.identity import ANONYMOUS
from operatord.access.origin import Entrance, Origin, entrance_of, origin_of
from operatord.control.dispatch import Dispatcher, takes_task
from operatord.control.peer import Services
from operatord.control.replies import Said, answer_alike, asked
from operatord_protocol import codec
from operatord_protocol.codec import Envelope, Line, Refusal, Reply, Request, RequestId
from operatord_protocol.errors import ParseError, TooManyRequests, WireError
from operatord_protocol.framing import LineSplitter, LineTooLong

from .arrival import TURNED_AWAY_LINGER, Arrival, too_long
from .backlog import Backlog
from .fragments import Fragment, fragment
from .intake import Intake
from .outbox import WRITE, Outbox
from .presence import Presence, notice_dead_peers
from .turns import Turn, Turns
from .unread import Unread

log = logging.getLogger(__name__)

GAVE_WAY = (
    "others need the place of this connection, which has not logged in: connect again, and log in"
)
UNSEEN = Origin("nobody yet")
"""Where a peer comes from before it is there."""
PASSING = frozenset(("request.cancel", "system.ping"))
"""Methods that are answered however many requests are pending, and before other connections' requests: the
first reduces the number, and the second shows that the daemon is there."""


class Host(Protocol):
    """The server that a connection belongs to."""

    services: Services
    turns: Turns
    unread: Unread
    intake: Intake

    def opened(self, connection: Connection) -> int:
        """Return a number for the connection. Raises `TooManyRequests`, which it is to be told."""
        ...

    def known(self, connection: Connection) -> None:
        """Hear that it is known who a connection is."""
        ...

    def closed(self, connection: Connection) -> None:
        """Forget the connection."""
        ...


class Connection(asyncio.BufferedProtocol):
    """A peer on a TCP or Unix socket. There may be thousands, most of them silent: hence the slots."""

    __slots__ = (
        "_arrival",
        "_backlog",
        "_eof",
        "_farewell",
        "_fragment",
        "_host",
        "_late_line",
        "_loop",
        "_out",
        "_presence",
        "_put_off",
        "_reading",
        "_refused",
        "_services",
        "_splitter",
        "_transport",
        "_turn",
        "_turns",
        "descriptor",
        "dispatcher",
        "entrance",
        "source",
    )

    _transport: asyncio.Transport
    _out: Outbox

    def __init__(self, host: Host, auth: Auth | None = None, place: int | None = None) -> None:
        """Belong to ``host``; for ``auth`` and ``place`` see `Arrival`."""
        self.descriptor = -1
        self.source = UNSEEN
        """Where the peer comes from; of one of the gateway, that is known before."""
        self.entrance = Entrance(None)
        """Where it has connected."""
        self._host = host
        self._services = host.services
        self._loop = asyncio.get_running_loop()
        self._arrival = Arrival(host.services, auth, place)
        self._splitter = LineSplitter(self._arrival.line_bytes)
        self.dispatcher = Dispatcher(host.services, self, ANONYMOUS)
        self._backlog = Backlog()
        self._turns = host.turns
        self._turn = Turn(self._work, lambda: self._backlog.asks_only(PASSING))
        self._reading = True
        self._put_off = False
        self._fragment: Fragment | None = None
        self._eof = False
        self._refused = False
        self._farewell = b""
        self._late_line: asyncio.TimerHandle | None = None
        self._presence: Presence | None = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register, or refuse when there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        most = int(self._services.config.limits.output_bytes)
        self._out = Outbox(transport, most, self._host.unread)
        sock = transport.get_extra_info("socket")
        self.descriptor = sock.fileno()
        notice_dead_peers(sock)
        if self.source is UNSEEN:
            self.source, self.entrance = origin_of(transport), entrance_of(transport)
        try:
            self.dispatcher.id = self._host.opened(self)
        except TooManyRequests as exc:
            self.refuse_all(exc, min(TURNED_AWAY_LINGER, self._linger))
            return
        self._arrival.meet(self, transport)

    @property
    def is_used(self) -> bool:
        """Whether the peer waits for something, or has yet to read or to end what it has begun."""
        unread = self._transport.get_write_buffer_size() > 0
        return self.dispatcher.is_used or bool(self._backlog or self._splitter.pending) or unread

    @property
    def _linger(self) -> float:
        return float(self._services.config.limits.refused_linger)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared buffer for the next bytes."""
        return self._host.intake.room(self)

    def buffer_updated(self, nbytes: int) -> None:
        """Take out what was read."""
        self.data_received(self._host.intake.take(self, nbytes))

    def data_received(self, data: bytes) -> None:
        """Receive bytes and answer what can be answered at once."""
        arrival = self._arrival
        arrival.heard()
        if self._refused:
            return
        if not arrival.begun and (away := arrival.turned_away(data, self._splitter.pending)):
            self._turn_away(away, self._linger)
            return
        try:
            block = self._splitter.take(data)
        except LineTooLong as exc:
            self._expect_end(False)
            self._backlog.add(exc.block)
            self.refuse_all(too_long(exc.limit, self.dispatcher.identity))
            self._turns.ask(self._turn, len(exc.block))
            return
        if self._splitter.pending or self._late_line is not None:
            self._expect_end(bool(self._splitter.pending), begun_now=bool(block))
        if block:
            self._backlog.add(block)
            self._turns.ask(self._turn, len(block))
            if self._backlog.is_long:
                self._read_on(False)

    def eof_received(self) -> bool:
        """Note that no more requests come; what is pending is still answered."""
        if self._eof:
            return True
        self._eof = True
        self._expect_end(False)
        if self._splitter.pending.strip() and not self._refused:
            text = "the input ended in the middle of a line, which was not executed; end it with a newline"
            self._out.send(codec.encode_error("plain", None, ParseError(text)))
        self._close_when_done()
        if not self._transport.is_closing():
            self._watch()
        # TLS has no half-closed connections here: asyncio closes one that the peer has ended, and says so.
        return self._transport.get_extra_info("ssl_object") is None

    def _watch(self) -> None:
        """See whether the peer is still there while something is due to it and its input is not read."""
        if self._presence is None:
            self._presence = Presence(self._transport, self._is_owed)
        self._presence.watch()

    def _is_owed(self) -> bool:
        owed = self.dispatcher.has_pending or self.dispatcher.has_kept or bool(self._backlog)
        return owed and (self._eof or not self._reading)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what the peer had under way."""
        self._host.closed(self)
        if self._presence is not None:
            self._presence.end()
        self._arrival.end()
        self.dispatcher.end()
        self._expect_end(False)
        self._backlog.clear()
        self._turn.end()
        self._out.close()

    def pause_writing(self) -> None:
        """Answer nothing more until the peer reads."""
        self._out.writable = False

    def resume_writing(self) -> None:
        """Go on where reading the peer's requests was stopped."""
        self._out.resume()
        self.dispatcher.all_due()
        self._turns.go_on(self._turn)

    # Requests

    def _expect_end(self, begun: bool, begun_now: bool = True) -> None:
        """Give a line that has ``begun`` its time to end, from now when it has ``begun_now``."""
        if self._late_line is not None and (begun_now or not begun):
            self._late_line.cancel()
            self._late_line = None
        if begun and self._late_line is None:
            self._late_line = self._loop.call_later(
                self._services.config.limits.line_timeout, self._line_is_late
            )

    def _line_is_late(self) -> None:
        self._late_line = None
        if not self._reading or self._put_off:
            self._expect_end(True)  # it is we who did not read on
        else:
            seconds = f"{self._services.config.limits.line_timeout:g} s"
            text = f"a line has {seconds} to end (limits.line_timeout); the connection is closed"
            self.refuse_all(ParseError(text))

    def _work(self, until: float) -> bool:
        """Work until then, as long as the peer reads; return whether there is more to do.

        An error here concerns no single request, and ends only this connection.
        """
        try:
            self._answer_until(until)
            self._feed_until(until)
        except Exception:
            log.exception("a connection is ended: what it was to be sent could not be made")
            self._transport.abort()
        return self._can_answer or (self.dispatcher.has_due and self._out.takes_more)

    def _answer_until(self, until: float) -> None:
        said: Said = {}
        out, backlog = self._out, self._backlog
        out.defer_flush()  # one flush follows below
        while self._can_answer:
            if not self.dispatcher.has_room:
                self._let_pass()
            elif backlog.aside:
                if self._turns.has_begun:
                    self._turn.wants_task = True
                    break
                self._carry_out(codec.decode_line(backlog.take_back()))
            elif self._fragment is not None:
                self._answer_next()
            else:
                self._answer_some(said, until)
            if out.is_full:
                out.flush()
            if self._turns.is_over(until):
                break
        out.flush()
        if self._transport.is_closing():
            backlog.clear()
            return
        backlog.leave()
        self._read_on(not backlog.is_long)
        if not self._reading and not self.dispatcher.has_room:
            self._watch()
        if not backlog:
            self._close_when_done()

    @property
    def _can_answer(self) -> bool:
        if not self._out.takes_more:
            return False
        return bool(self._backlog) if self.dispatcher.has_room else self._backlog.lets_pass

    def _read_on(self, wanted: bool) -> None:
        if wanted != self._reading and not self._eof:
            self._reading = wanted
            if not self._put_off:
                (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def put_off(self) -> None:
        """Read nothing until it is this peer's turn to be read."""
        self._put_off = True
        if self._reading:
            self._transport.pause_reading()

    def read_again(self) -> None:
        """Read on, unless too much waits already."""
        self._put_off = False
        if self._reading and not self._eof:
            self._transport.resume_reading()

    def _answer_some(self, said: Said, until: float) -> None:
        """Answer some lines, up to the first that is not one of many alike.

        Work per line here lowers a busy peer's request rate.
        """
        who = self.dispatcher.identity
        replies: list[Reply] = []
        other: Line | None = None
        wrong: WireError | None = None
        size = 0
        for line in self._backlog.decoded():
            if isinstance(line, Envelope):
                key = asked(line) if line.params else line.method
                known = said.get(key)
                result = known or answer_alike(line, key, self._services, who, said)
                if isinstance(result, WireError):
                    wrong = result
                elif result is not None:
                    if line.id is not UNSET or line.jsonrpc is UNSET:
                        replies.append(Reply(line.jsonrpc, line.id, result))
                        size += len(result)
                    if size > WRITE or (known is None and self._turns.now() >= until):
                        break
                    continue
            other = line
            break
        if replies:
            self._out.put(codec.encode_replies(replies))
        if isinstance(other, Envelope) and wrong is not None:
            self.dispatcher.refuse(other.request(), wrong)
        elif other is not None:
            said.clear()  # it may change what is said
            self._answer_alone(other)

    def _answer_next(self) -> None:
        """Answer one line by itself, for it may be a part of what the last ones began."""
        line = next(self._backlog.decoded(), None)
        if line is not None:
            self._answer_alone(line)

    def _answer_alone(self, line: Line) -> None:
        """Answer a line that is not one of many alike, or begin to, or put it aside if it has to wait."""
        request = self._understand(line)
        if self._turns.has_begun and _takes_task(request):
            self._put_aside(line)
            self._turn.wants_task = True
        else:
            self._carry_out(request)

    def _let_pass(self) -> None:
        """Answer the next line that passes the bound on pending requests; put aside those before it."""
        for line in self._backlog.decoded():
            request = self._understand(line)
            if isinstance(request, Request) and request.method not in PASSING:
                self._put_aside(line)
                continue
            self._carry_out(request)
            break

    def _understand(self, line: Line) -> Request | Refusal:
        """Return what a line asks for, which is nothing if it is a part of a text over several lines."""
        request, text = _request(line), self._fragment
        if isinstance(request, Request):
            if text is None or not text.holds(request):
                self._fragment = None
                return request
            self._fragment = text.after_object()
            return text.refuse(request)
        if isinstance(line, bytes) and (text is not None or isinstance(request.error, ParseError)):
            self._fragment = fragment(text, line)
        return request

    def _put_aside(self, line: Line) -> None:
        self._backlog.put_aside(line if isinstance(line, bytes) else codec.encode(line))

    def _feed_until(self, until: float) -> None:
        """Send what subscriptions have due, at least something of each visit."""
        dispatcher = self.dispatcher
        while dispatcher.has_due and self._out.takes_more:
            key, feed = dispatcher.next_due()
            if feed.pump(until):
                dispatcher.due_again(key, feed)
            if self._turns.now() >= until:
                break

    def _carry_out(self, request: Request | Refusal) -> None:
        """Do what is asked, or begin to."""
        if isinstance(request, Refusal):
            self._out.put(codec.encode_error(request.dialect, request.id, request.error))
        else:
            self.dispatcher.carry_out(request)

    # Ends

    def refuse_all(self, error: WireError, linger: float | None = None) -> None:
        """Do nothing more for the peer, and say why, unless it is being turned away already."""
        if not self._refused:
            seconds = self._linger if linger is None else linger
            self._turn_away(Refusal("plain", None, error), seconds)

    def _turn_away(self, refusal: Refusal, linger: float) -> None:
        """Send the reason, answer pending requests, and discard further input for a moment. Closing with
        unread input would reset the connection, and the peer would never read the reason.
        """
        self._refused = True
        self._farewell = codec.encode_error(refusal.dialect, refusal.id, refusal.error)
        self._loop.call_later(linger, self._transport.abort)
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._backlog or self._transport.is_closing():
            return
        if self._farewell:
            self._out.send(self._farewell)
            self._farewell = b""
        if self.dispatcher.has_pending:
            return
        if self._refused:
            self._out.flush()
            if self._eof:
                self._transport.close()
            elif self._transport.can_write_eof():
                with contextlib.suppress(OSError, RuntimeError):
                    self._transport.write_eof()
        elif self._eof and not self.dispatcher.has_kept:
            self._out.flush()
            self._transport.close()

    # The dispatcher's door

    def let_in(self) -> None:
        """Take as long lines and as much time as from anybody who has logged in."""
        self._arrival.logged_in()
        self._host.known(self)
        self._splitter.allow(self._services.config.limits.line_bytes)

    @property
    def takes_more(self) -> bool:
        """Whether the peer is there, and reads."""
        return self._out.takes_more

    def reply(self, request: Request, result: bytes) -> None:
        """Send what a request is answered."""
        self._out.send(codec.encode_result(request, result))

    def refuse(self, request: Request, error: WireError) -> None:
        """Send why it is not."""
        self._out.send(codec.encode_error(request.dialect, request.id, error))

    def notify(self, dialect: codec.Dialect, method: str, params: dict[str, Any]) -> bool:
        """Send a notification unless the peer takes no more."""
        if not self._out.takes_more:
            return False
        self._out.send(codec.encode_notification(dialect, method, params))
        return True

    async def drained(self) -> None:
        """Return when the peer takes more."""
        await self._out.drained()

    def begun(self) -> None:
        """Count a request that runs as a task."""
        self._turns.begun()

    def wake(self) -> None:
        """Ask for a turn: there is something to do."""
        if not self._transport.is_closing():
            self._turns.wait(self._turn)

    def cancel_waiting(self, request_id: RequestId) -> Request | None:
        """Forget a request that waits for room among the pending ones: it has done nothing yet."""
        for line in self._backlog.aside:
            request = codec.decode_line(line)
            if isinstance(request, Request) and request.id == request_id:
                self._backlog.take_back(line)
                return request
        return None

    def give_way(self) -> None:
        """End, for there is no room for who has not logged in."""
        self.refuse_all(TooManyRequests(GAVE_WAY, retry_after=1), TURNED_AWAY_LINGER)

    def look_again(self) -> None:
        """Send the peer away if it may not go on as who it is."""
        self._arrival.look_again(self, self._transport)

    def drop_all(self) -> None:
        """End what the peer has under way, and forget what it has asked for."""
        self._backlog.clear()
        self.dispatcher.end()

    def end(self) -> None:
        """Close from our side after sending what is written."""
        self._out.flush()
        self._transport.close()


def _request(line: Line) -> Request | Refusal:
    return line.request() if isinstance(line, Envelope) else codec.decode_with_care(line)


def _takes_task(request: Request | Refusal) -> bool:
    return isinstance(request, Request) and takes_task(request.method)
