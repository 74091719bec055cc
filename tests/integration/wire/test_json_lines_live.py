# SPDX-License-Identifier: MIT
"""The table of lines against a running daemon: what is answered, and what that does to others."""

from __future__ import annotations

import json
from pathlib import Path

import json_lines
import psutil
import pytest
from daemon_lab import Json, Served, Wire, served
from json_lines import FIRST, GROUPS, PARSE, PING, RESULT, SILENCE, Line

END = b"*/" + b"]" * 65
"""A line that is no JSON, and after which no text and no comment is open, whatever was before it."""


def said(reply: Json) -> str:
    """Return what a reply says, in the words of the table."""
    return str(reply["error"]["data"]["type"]) if "error" in reply else RESULT


async def answers(wire: Wire, lines: list[Line]) -> list[list[Json]]:
    """Send lines without waiting, each before `END` and a ping, and return what each was answered.

    The ping tells what belongs to which line, and that the connection goes on.
    """
    for number, line in enumerate(lines):
        wire.send(line.text, END, {"method": "system.ping", "id": f"after {number}"})
    found: list[list[Json]] = []
    for number, line in enumerate(lines):
        replies: list[Json] = []
        while (reply := await wire.line()).get("id") != f"after {number}":
            replies.append(reply)
        assert "result" in reply, f"what came after {line} was refused: {reply}"
        assert said(replies.pop()) == PARSE
        found.append(replies)
    return found


def check(line: Line, replies: list[Json]) -> None:
    """Compare what came back with what the table says."""
    if line.expected == SILENCE:
        assert replies == [], line
        return
    [reply] = replies
    assert said(reply) == line.expected, f"{line}: {reply}"
    if line.id is not None:
        assert reply["id"] == json.loads(line.id), line
    if "error" in reply:
        text = json.dumps(reply)
        assert len(text) < 2048, f"a long answer to {line.group}: {line.why}"
        assert "Traceback" not in text and "msgspec" not in text, reply


async def unharmed(daemon: Served, neighbour: Wire) -> None:
    """Check that nothing was begun or changed, that nothing broke, and that the neighbour is served."""
    status = await neighbour.call("system.status")
    assert status["draining"] is False
    assert (await neighbour.call("session.list")) == {"sessions": []}
    assert [each for each in daemon.log if each.get("level") == "error"] == []


@pytest.mark.parametrize("at_once", [True, False], ids=["pipelined", "one by one"])
async def test_each_line_is_answered_as_the_table_says(tmp_path: Path, at_once: bool) -> None:
    """A connection for each group of lines, and a neighbour that notices nothing."""
    async with served(tmp_path / "s", "--engine", "process") as daemon:
        neighbour = await daemon.wire()
        assert (await neighbour.call("system.ping"))["pong"]
        before = psutil.Process(daemon.process.pid).num_fds()
        for group in GROUPS:
            lines = [line for line in json_lines.lines() if line.group == group.name]
            wire = await daemon.wire()
            await wire.ask(PING)  # the rule about a connection's first line has a table of its own
            for part in [lines] if at_once else [[line] for line in lines]:
                for line, replies in zip(part, await answers(wire, part), strict=True):
                    check(line, replies)
                assert (await neighbour.call("system.ping"))["pong"]
            await wire.close()
        await unharmed(daemon, neighbour)
        assert psutil.Process(daemon.process.pid).num_fds() <= before
        await neighbour.close()


async def test_first_line_decides_whether_a_connection_goes_on(tmp_path: Path) -> None:
    """A connection for each line: what is closed executes nothing of what follows."""
    async with served(tmp_path / "s", "--engine", "process") as daemon:
        neighbour = await daemon.wire()
        for text, expected, closed, why in FIRST:
            wire = await daemon.wire()
            wire.send(text, '{"method":"system.drain","id":"second"}' if closed else PING)
            assert said(await wire.line()) == expected, why
            if closed:
                assert await wire.at_end(), why
            else:
                assert (await wire.line())["result"]["pong"], why
            await wire.close()
            assert (await neighbour.call("system.ping"))["pong"]
        await unharmed(daemon, neighbour)
        await neighbour.close()
