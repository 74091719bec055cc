# SPDX-License-Identifier: MIT
"""One connection's conversation without I/O: bytes in, answered calls and notices out.

A shell writes the lines that `Core` makes, feeds it the bytes that arrive, and looks at its calls:

    call, line = core.request("system.ping", {})     # write line
    core.feed(data)                                  # until call.done
    call.result()                                    # JSON, or the error is raised

Reading and waiting are up to the shell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from operatord_client.address import DEFAULT_PORT
from operatord_client.errors import ClientError, ConnectionLost, UnexpectedAnswer
from operatord_client.notices import PROGRESS, Notice, Progress
from operatord_protocol import answers, codec
from operatord_protocol.errors import ParseError, WireError, from_wire
from operatord_protocol.framing import LineSplitter, LineTooLong
from operatord_protocol.messages import Session

from .long_lines import ANYWHERE, LongLine
from .requests import encoded

ANSWER_BYTES = 64 * 1024 * 1024
"""Longest line that is accepted from a daemon: descriptions and lists may be far longer than requests."""
NOTICES = 10_000
"""Notices that are kept for a reader; the oldest go first."""

T = TypeVar("T")


class Login(NamedTuple):
    """What a connection sends before anything else."""

    token: str
    timeout: float | None
    """Seconds to wait for the answer; None for ever."""

    @property
    def params(self) -> dict[str, str]:
        """The params of `auth.login`."""
        return {"token": self.token}


class Call:
    """A request that was made, and its outcome."""

    __slots__ = ("_error", "_raw", "done", "id", "is_private", "method", "progress")

    def __init__(self, call_id: int, method: str, params: Mapping[str, Any]) -> None:
        self.id = call_id
        self.method = method
        self.is_private = method == "session.start" and "request_key" not in params
        """Whether it starts a session that nobody else can know of."""
        self.done = False
        self.progress: deque[Progress] = deque()
        self._raw = b""
        self._error: WireError | None = None

    @property
    def news(self) -> bool:
        """Whether there is anything to be taken from it."""
        return self.done or bool(self.progress)

    def result(self) -> bytes:
        """Return the result as JSON, as it came. Raises the `WireError` that the daemon answered."""
        if self._error is not None:
            raise self._error
        return self._raw

    def undoing(self) -> bytes:
        """Return the line that undoes the call, if it has to be undone."""
        return b"" if self._error is not None else _undoing(self, self._raw)

    def answer(self, raw: bytes, error: WireError | None = None) -> None:
        """Settle it."""
        self._raw, self._error, self.done = raw, error, True


class Core:
    """Request ids, pending calls, and where each line from the daemon belongs."""

    def __init__(self) -> None:
        self._notices: deque[Notice] = deque(maxlen=NOTICES)
        self.lost: ClientError | None = None
        """Why nothing more will come, once that is so."""
        self.inbox = [b""]
        """The beginning of a line that has not ended yet, and what arrived after it, for `take_in`."""
        self._pending: dict[int, Call] = {}
        self._forsaken: dict[int, Call] = {}
        """Cancelled starts, until it is known whether the cancellation came in time."""
        self._last_id = 0
        self.line_bytes = ANYWHERE
        """Longest line that the daemon is known to accept, its end not counted."""

    @property
    def pending(self) -> int:
        """Calls without an answer."""
        return len(self._pending)

    def take_notice(self) -> Notice | None:
        """Return the oldest notice that was not taken yet."""
        return self._notices.popleft() if self._notices else None

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[Call, bytes]:
        """Return a new call and the line that makes it. Raises `UnsendableRequest`, `LongLine`."""
        line = encoded(method, params, self._last_id + 1)
        if (length := len(line) - 1) > self.line_bytes:
            raise LongLine(method, length)
        self._last_id += 1
        call = Call(self._last_id, method, params)
        self._pending[call.id] = call
        return call, line

    def abandon(self, call: Call) -> bytes:
        """Forget a call whose result nobody wants; return the line that cancels it, if one is needed.

        A start whose answer is there already, or on its way, is undone by stopping its session, which nobody
        else can know of. One with a ``request_key`` is left, since it can be asked for again.
        """
        if call.done:
            self._pending.pop(call.id, None)
            return call.undoing()
        if call.id not in self._pending:
            return b""
        self._forsaken[call.id] = call
        del self._pending[call.id]
        return codec.encode_request("request.cancel", {"id": call.id}, None)

    def abandon_all(self) -> bytes:
        """Forget all pending calls; return the lines that cancel them."""
        return b"".join(self.abandon(call) for call in tuple(self._pending.values()))

    def feed(self, data: bytes) -> bytes:
        """Take bytes that arrived; empty means the end of the connection. Returns as `take_in`."""
        self.inbox.append(data)
        return self.take_in()

    def take_in(self) -> bytes:
        """Take in what is in the `inbox`; return lines that are to go out because of it.

        A step that is interrupted is done anew the next time: a chunk leaves the inbox, and the beginning of
        a line takes its place, at once and when all its lines have been taken.
        """
        out = b""
        while len(self.inbox) > 1:
            rest, data = self.inbox[:2]
            if not data:
                self.lose(ConnectionLost("the daemon closed the connection"))
            splitter, line = LineSplitter(ANSWER_BYTES), b""
            try:
                for line in splitter.feed(rest + data):
                    out += self._take(line)
            except (LineTooLong, ParseError) as exc:
                self.lose(UnexpectedAnswer(_who_answers(line)), exc)
            self.inbox[:2] = [splitter.pending]
        return out

    def lose(self, error: ClientError, cause: BaseException | None = None) -> None:
        """Note, once, why nothing more will come."""
        if self.lost is None:
            error.__cause__ = cause
            self.lost = error

    def check(self) -> None:
        """Raises the `ClientError` with which the connection ended, if it has ended."""
        if self.lost is not None:
            raise type(self.lost)(*self.lost.args) from (self.lost.__cause__ or self.lost)

    def _take(self, line: bytes) -> bytes:
        """Take a line in; return one that is to go out because of it, or nothing."""
        answer = answers.decode_answer(line)
        error = None if answer.error is None else from_wire(answer.error)
        if answer.method is not None:
            self._notify(Notice(answer.method, answer.params))
        elif answer.id is None and error is not None:
            self._refuse_all(error)
        elif isinstance(answer.id, int):
            return self._settle(answer.id, bytes(answer.result), error)
        return b""

    def _settle(self, call_id: int, raw: bytes, error: WireError | None) -> bytes:
        """Answer a call; return the line that cancels it if nobody waits for it any more."""
        if call := self._pending.get(call_id):
            call.answer(raw, error)
            self._pending.pop(call_id, None)
        elif (call := self._forsaken.pop(call_id, None)) and error is None:
            return _undoing(call, raw)
        return b""

    def _notify(self, notice: Notice) -> None:
        if notice.method != PROGRESS:
            self._notices.append(notice)
        elif call := self._pending.get(notice.params.get("id", 0)):
            call.progress.append(Progress.from_params(notice.params))

    def _refuse_all(self, error: WireError) -> None:
        """An error without an id concerns the connection: too many connections, a line too long."""
        for call in self._pending.values():
            call.answer(b"", error)
        self._pending.clear()


def _who_answers(line: bytes) -> str:
    """Return what is said of whoever sends a line that is no answer."""
    if line.startswith(b"HTTP/"):
        return (
            "this port speaks HTTP: give the control port instead, which the daemon's setting listen has "
            f"({DEFAULT_PORT} unless it says another)"
        )
    return "what answers is not operatord"


def _undoing(call: Call, raw: bytes) -> bytes:
    """Return the line that stops what a start was answered with, when nobody else knows of it."""
    if not call.is_private:
        return b""
    try:
        session = decode_result(call.method, raw, Session)
    except UnexpectedAnswer:
        return b""
    return codec.encode_request("session.stop", {"session_id": session.session_id}, None)


def decode_result(method: str, raw: bytes, type_: type[T]) -> T:
    """Return a result as its message type. Raises `UnexpectedAnswer`."""
    try:
        return answers.decode_result(raw, type_)
    except ParseError as exc:
        raise UnexpectedAnswer(f"the answer to {method} is not what this client knows") from exc


def given(**params: Any) -> dict[str, Any]:
    """Return the params that are not None: on the wire, what is not said is absent."""
    return {name: value for name, value in params.items() if value is not None}
