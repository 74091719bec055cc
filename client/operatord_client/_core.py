# SPDX-License-Identifier: MIT
"""One connection's conversation without I/O: bytes in, answered calls and notices out.

A shell writes the lines that `Core` makes, feeds it the bytes that arrive, and looks at its calls:

    call, line = core.request("system.ping", {})     # write line
    core.feed(data)                                  # until call.done
    call.result()                                    # JSON, or the error is raised

Who reads, and who waits for whom, is the shell's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

from operatord_protocol import answers, codec
from operatord_protocol.errors import ParseError, WireError, from_wire
from operatord_protocol.framing import LineSplitter, LineTooLong

from .errors import ClientError, ConnectionLost, UnexpectedAnswer
from .notices import PROGRESS, Notice, Progress

ANSWER_BYTES = 64 * 1024 * 1024
"""Longest line that is taken from a daemon: descriptions and lists may be far longer than requests."""
NOTICES = 10_000
"""Notices that are kept for a reader; the oldest go first."""

T = TypeVar("T")


class Call:
    """A request that was made, and what has come of it."""

    __slots__ = ("_error", "_raw", "done", "id", "method", "progress")

    def __init__(self, call_id: int, method: str) -> None:
        self.id = call_id
        self.method = method
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

    def answer(self, raw: bytes, error: WireError | None = None) -> None:
        """Settle it."""
        self._raw, self._error, self.done = raw, error, True


class Core:
    """Request ids, pending calls, and where each line from the daemon belongs."""

    def __init__(self) -> None:
        self._notices: deque[Notice] = deque(maxlen=NOTICES)
        self.lost: ClientError | None = None
        """Why nothing more will come, once that is so."""
        self._splitter = LineSplitter(ANSWER_BYTES)
        self._pending: dict[int, Call] = {}
        self._last_id = 0

    @property
    def pending(self) -> int:
        """Calls without an answer."""
        return len(self._pending)

    def take_notice(self) -> Notice | None:
        """Return the oldest notice that was not taken yet."""
        return self._notices.popleft() if self._notices else None

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[Call, bytes]:
        """Return a new call and the line that makes it."""
        self._last_id += 1
        call = Call(self._last_id, method)
        self._pending[call.id] = call
        return call, codec.encode_request(method, dict(params), call.id)

    def abandon(self, call: Call) -> bytes:
        """Forget a pending call; return the line that takes it back, empty when none is needed."""
        if self._pending.pop(call.id, None) is None or self.lost is not None:
            return b""
        return codec.encode_request("request.cancel", {"id": call.id}, None)

    def feed(self, data: bytes) -> None:
        """Take what arrived; no bytes are the end of the connection."""
        if not data:
            self.lose(ConnectionLost("the daemon closed the connection"))
        try:
            for line in self._splitter.feed(data):
                self._take(line)
        except (LineTooLong, ParseError) as exc:
            self.lose(UnexpectedAnswer("what answers is not operatord"), exc)

    def lose(self, error: ClientError, cause: BaseException | None = None) -> None:
        """Note, once, why nothing more will come."""
        if self.lost is None:
            error.__cause__ = cause
            self.lost = error

    def check(self) -> None:
        """Raises the `ClientError` for which nothing more will come, if that is so."""
        if self.lost is not None:
            raise type(self.lost)(*self.lost.args) from (self.lost.__cause__ or self.lost)

    def _take(self, line: bytes) -> None:
        answer = answers.decode_answer(line)
        error = None if answer.error is None else from_wire(answer.error)
        if answer.method is not None:
            self._notify(Notice(answer.method, answer.params))
        elif answer.id is None and error is not None:
            self._refuse_all(error)
        elif isinstance(answer.id, int) and (call := self._pending.pop(answer.id, None)):
            call.answer(bytes(answer.result), error)

    def _notify(self, notice: Notice) -> None:
        if notice.method != PROGRESS:
            self._notices.append(notice)
        elif call := self._pending.get(notice.params.get("id", 0)):
            call.progress.append(Progress.from_params(notice.params))

    def _refuse_all(self, error: WireError) -> None:
        """An error to nobody in particular is of the connection: too many of them, a line too long."""
        for call in self._pending.values():
            call.answer(b"", error)
        self._pending.clear()


def decode_result(method: str, raw: bytes, type_: type[T]) -> T:
    """Return a result as its message type. Raises `UnexpectedAnswer`."""
    try:
        return answers.decode_result(raw, type_)
    except ParseError as exc:
        raise UnexpectedAnswer(f"the answer to {method} is not what this client knows") from exc


def given(**params: Any) -> dict[str, Any]:
    """Return the params that are not None: on the wire, what is not said is absent."""
    return {name: value for name, value in params.items() if value is not None}
