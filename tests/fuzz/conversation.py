# SPDX-License-Identifier: MIT
"""The fuzz target: a daemon in this process, and conversations with it of whatever lines one has.

`Target.converse` sends lines on a connection of their own and checks that each is answered as the protocol
says, that nothing is left unanswered, and that the daemon logs no error. What is not so is a `Finding`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daemon_lab import Lab, StreamingFake, in_process, until
from fake_engine import World
from oracle import PARSE, REQUEST, SEED, SILENCE, UNDERSTOOD, Expected, expected

LONGEST = 1024
"""Bytes of a line: the least that `limits.line_bytes` can be, so that a line over it is short, too."""
SETTINGS: dict[str, Any] = {
    "limits": {"line_bytes": LONGEST},
    "history": {"keep": 100},
    # What one conversation drains, another may wait for.
    "queue": {"deadline": 3},
    "log": {"level": "warning"},
    # A start is not to wait for a machine that is busy otherwise.
    "system_reserved": {"memory": 0, "disk": 0},
    "pressure": {"memory_stall": None},
}
PATIENCE = 120.0
"""Seconds until what has not come is called unanswered: there may be many conversations on a busy machine."""
FIRST = b'{"method":"system.ping","id":"the first"}'
"""Sent before all others: the rule about the beginning of a connection is not what is looked at here."""
END = b"*/" + b"-->" + b"]" * 65
"""No JSON, and after it no text and no comment is open, whatever was before."""
LAST = b'{"method":"system.ping","id":"the last"}'
HELD_BACK = "this line stands in"
"""How the refusal of a request begins that stands in a text over several lines."""
STILL_PENDING = "belongs to a request that is still pending"
LEFT_OUT = b"probe.register"
"""Not sent: the daemon connects to where it is told, and nobody knows who that would be."""

Json = dict[str, Any]


class Finding(AssertionError):
    """The daemon did something else than the protocol says."""

    lines: list[bytes]
    """What it was sent."""


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(logging.Formatter().format(record))


def questions(lines: Sequence[bytes]) -> tuple[list[bytes], bool]:
    """Return the lines that are read, without their ends, and whether the next one was too long."""
    found: list[bytes] = []
    for line in b"\n".join(lines).split(b"\n"):
        text = line.removesuffix(b"\r")
        if len(text) > LONGEST:
            return found, True
        if text.strip():
            found.append(text)
    return found, False


class Target:
    """A daemon to talk to. It has no images, so that a session that is started fails at once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._errors = _Errors()
        logging.getLogger().addHandler(self._errors)
        asyncio.get_running_loop().set_exception_handler(self._broken)

    def close(self) -> None:
        """Look at the log no more."""
        logging.getLogger().removeHandler(self._errors)
        asyncio.get_running_loop().set_exception_handler(None)

    def _broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.told.append(str(context))

    async def converse(self, lines: Sequence[bytes], cuts: Sequence[int] = ()) -> int:
        """Send lines, in pieces that end at ``cuts``, and return how many were read. Raises `Finding`."""
        lines = [line for line in lines if LEFT_OUT not in line]
        try:
            return await self._converse(lines, cuts)
        except Finding as exc:
            exc.lines = lines
            raise

    async def _converse(self, lines: Sequence[bytes], cuts: Sequence[int]) -> int:
        read, too_long = questions(lines)
        due = [expected(line) for line in read]
        sent = b"\n".join((FIRST, *lines, END, LAST, b""))
        try:
            async with asyncio.timeout(PATIENCE):
                check(read, due, await self._exchange(sent, cuts, due, too_long), too_long)
        except TimeoutError:
            waiting = [c.dispatcher._pending for c in self._lab.daemon.server._connections]
            raise Finding(f"not all of these were answered: {read}; pending: {waiting}") from None
        if self._errors.told:
            raise Finding(f"{self._errors.told[0]}\nafter {read}")
        return len(read)

    async def left(self) -> None:
        """Return when the daemon has noticed the end of all connections. Raises `Finding`.

        That of a subscriber that has half-closed takes it some seconds.
        """
        server = self._lab.daemon.server
        self._lab.fake.script.calls.clear()  # a test's book of all that was ever asked of the engine
        try:
            await until(lambda: server.connections == 0, "connections are left")
        except TimeoutError:
            raise Finding(
                f"{server.connections} connections are left of those that ended"
            ) from None

    async def shrunk(self, lines: list[bytes]) -> list[bytes]:
        """Return as few of ``lines`` as are enough for a finding, or all if they are none once more."""
        size = len(lines)
        while size := size // 2:
            for begin in range(0, len(lines), size):
                fewer = lines[:begin] + lines[begin + size :]
                if await self._finds(fewer):
                    lines, size = fewer, 2 * size
                    break
        return lines

    async def _finds(self, lines: list[bytes]) -> bool:
        self._errors.told.clear()
        try:
            await self.converse(lines)
        except Finding:
            return True
        return False

    async def _exchange(
        self, sent: bytes, cuts: Sequence[int], due: list[Expected], too_long: bool
    ) -> list[Json]:
        reader, writer = await asyncio.open_connection(*self._lab.address, limit=1 << 26)
        try:
            for begin, end in zip((0, *cuts), (*cuts, len(sent)), strict=True):
                writer.write(sent[begin:end])
                await asyncio.sleep(0)
            if not too_long:
                writer.write_eof()
            at_least = 3 + sum(SILENCE not in each.kinds for each in due)
            subscribed = any(each.subscribes for each in due)
            return [reply async for reply in _replies(reader, at_least, subscribed)]
        except ConnectionError as exc:
            raise Finding(f"the connection broke off: {exc}; {sent!r}") from exc
        finally:
            writer.close()


async def _replies(
    reader: asyncio.StreamReader, at_least: int, subscribed: bool
) -> AsyncIterator[Json]:
    """Give the replies up to the end, or up to the last due if a subscription keeps the connection open."""
    count = 0
    while not (subscribed and count >= at_least):
        line = await reader.readline()
        if not line.strip():  # the end, maybe after blanks that asked whether anybody is there
            return
        reply = json.loads(line)
        if set(reply) <= {"jsonrpc", "method", "params"}:
            continue
        subscribed |= "subscription" in (reply.get("result") or {})
        count += 1
        yield reply


def _kind(reply: Json) -> str:
    if "error" not in reply:
        return UNDERSTOOD
    kind = reply["error"]["data"]["type"]
    return {"parse_error": PARSE, "invalid_request": REQUEST}.get(kind, UNDERSTOOD)


def check(read: list[bytes], due: list[Expected], replies: list[Json], too_long: bool) -> None:
    """Compare all that came back with all that was due. Raises `Finding`.

    Replies come as they are ready, so they are told apart by their ids, and counted where they have none.
    A request that was refused for what came before it is excused, and so is a notification's answer then.
    """
    own = (
        (FIRST, END) if too_long else (FIRST, END, LAST)
    )  # a line that is too long is answered as END is
    due = [*due, *map(expected, own)]
    excused = sum(map(_is_excused, replies))
    got = Counter(_key(reply) for reply in replies if not _is_excused(reply))
    owed = [
        each
        for each in sorted(due, key=_leeway)
        if SILENCE not in each.kinds and not _take(got, each)
    ]
    if len(owed) > excused:
        raise Finding(f"owed: {owed}, and {+got} came instead; {read}")
    if +got:
        raise Finding(f"nobody asked for {+got}; {read}")


def _leeway(due: Expected) -> int:
    """Return how many kinds of reply will do: those that only one will do for take theirs first."""
    return 2 * len(due.kinds) - (SEED not in due.kinds)


def _key(reply: Json) -> tuple[str, str]:
    kind = _kind(reply)
    return kind, json.dumps(reply.get("id")) if kind == UNDERSTOOD else ""


def _take(got: Counter[tuple[str, str]], due: Expected) -> bool:
    """Take a reply that is what is due; False when there is none."""
    for kind in due.kinds:
        keys = [(UNDERSTOOD, json.dumps(due.id))] if kind == UNDERSTOOD else [(kind, "")]
        if kind == SEED:
            keys = [(UNDERSTOOD, "null"), (REQUEST, "")]
        for key in keys:
            if got[key] > 0:
                got[key] -= 1
                return True
    return False


def _is_excused(reply: Json) -> bool:
    """Tell whether a request was refused for what came before it."""
    said = reply.get("error", {}).get("message", "")
    return HELD_BACK in said or STILL_PENDING in said


@asynccontextmanager
async def target(state_dir: Path) -> AsyncIterator[Target]:
    """Run a daemon for conversations."""
    async with in_process(state_dir, SETTINGS, engine=StreamingFake(World({}))) as lab:
        found = Target(lab)
        try:
            yield found
        finally:
            found.close()
