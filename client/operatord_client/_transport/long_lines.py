# SPDX-License-Identifier: MIT
"""How long a line the daemon accepts, tested where a failure does no harm.

A line over the daemon's limit ends its connection, and every session that has it for its lease. No answer
tells the limit (`limits.line_bytes`). So before a line that is longer than every daemon accepts, a ping of
the same length is sent on a connection of its own.
"""

from __future__ import annotations

from operatord_client.errors import ClientError, UnsendableRequest
from operatord_protocol.errors import ParseError, WireError
from operatord_protocol.framing import LEAST_LINE_BYTES, LINE_BYTES, MOST_LINE_BYTES

ANYWHERE = LEAST_LINE_BYTES
"""Bytes of a line that every daemon takes, however it is configured."""
TRIAL_SECONDS = 5.0
"""Longest wait for the answer to such a ping."""


class LongLine(Exception):
    """A request for ``method`` is a line of ``length`` bytes, its end not counted, which may be too long."""

    def __init__(self, method: str, length: int) -> None:
        self.method = method
        self.length = length
        super().__init__(method, length)

    def lengthened(self, line: bytes) -> bytes:
        """Return ``line``, which is shorter, as one of this length that means the same."""
        return line.removesuffix(b"\n").ljust(self.length) + b"\n"

    def check(self) -> None:
        """Raises `UnsendableRequest` if no daemon takes it."""
        if self.length > MOST_LINE_BYTES:
            raise self._refused(f"a line is at most {MOST_LINE_BYTES} bytes")

    def judge(self, answer: Exception) -> None:
        """Look at what came instead of the ping's answer. Raises `UnsendableRequest`, or the error of another
        cause. If the limit remains unknown, the default one is assumed.
        """
        if isinstance(answer, ParseError):
            raise self._refused(answer.message.partition(";")[0]) from answer
        if not isinstance(answer, WireError | ClientError):
            raise answer
        if self.length > LINE_BYTES:
            unknown = f"could not find out whether this daemon accepts more: {answer}"
            raise self._refused(f"a line is at most {LINE_BYTES} bytes ({unknown})") from answer

    def _refused(self, why: str) -> UnsendableRequest:
        return UnsendableRequest(f"{self.method} is a line of {self.length} bytes, and {why}")
