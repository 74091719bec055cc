# SPDX-License-Identifier: MIT
"""Asks the daemon in its own lines, one request after the other on a connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from operatord_protocol.answers import Answer, decode_answer, decode_result
from operatord_protocol.codec import encode
from operatord_protocol.errors import DaemonUnavailable, ParseError, WireError, from_wire
from operatord_protocol.framing import LineSplitter, LineTooLong
from operatord_protocol.messages import Session

ANSWER_BYTES = 64 * 1024 * 1024
"""Longest line that is accepted from the daemon."""
READ_BYTES = 256 * 1024
UNDO_SECONDS = 30.0
"""Time for a start to be undone whose client has gone."""
GONE = "the daemon closed the connection before it answered; what was asked for may have happened"


class Conversation:
    """One connection. What is asked is in the plain dialect, which is told no progress."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Own both ends of it."""
        self._reader, self._writer = reader, writer
        self._splitter = LineSplitter(ANSWER_BYTES)
        self._lines: list[bytes] = []
        self._last_id = 0

    async def ask(self, method: str, params: bytes = b"{}") -> bytes:
        """Return the result of a request as JSON; ``params`` are JSON in one line.

        Raises the `WireError` that it is refused with, `DaemonUnavailable`.
        """
        self._last_id += 1
        self._send(self._last_id, method, params)
        answer = await self._answer(self._last_id)
        if answer.error is not None:
            raise from_wire(answer.error)
        return bytes(answer.result)

    def _send(self, number: int, method: str, params: bytes) -> None:
        line = b'{"id":%d,"method":%b,"params":%b}\n' % (number, encode(method), params)
        self._writer.write(line)

    async def _answer(self, number: int) -> Answer:
        while True:
            answer = await self._next()
            if answer.method is None and answer.id in (number, None):
                return answer

    async def _next(self) -> Answer:
        """Return the next line. Raises `DaemonUnavailable`."""
        try:
            while not self._lines:
                data = await self._reader.read(READ_BYTES)
                if not data:
                    raise DaemonUnavailable(GONE)
                self._lines = self._splitter.feed(data)
            return decode_answer(self._lines.pop(0))
        except (OSError, LineTooLong, ParseError) as exc:
            raise DaemonUnavailable(GONE) from exc

    async def undo_start(self, *, is_private: bool) -> None:
        """Cancel the start that was asked for last. If its session is there, stop that, if it ``is_private``:
        nobody else can know of it.
        """
        number = self._last_id
        with suppress(TimeoutError, DaemonUnavailable, WireError):
            async with asyncio.timeout(UNDO_SECONDS):
                self._send(0, "request.cancel", encode({"id": number}))
                answer = await self._answer(number)
                if answer.error is None and is_private:
                    session = decode_result(bytes(answer.result), Session)
                    await self.ask("session.stop", encode({"session_id": session.session_id}))

    async def close(self) -> None:
        """Disconnect. Idempotent."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
