# SPDX-License-Identifier: MIT
"""What of a connection tells that an address can be reached from nowhere near."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Literal
from unittest.mock import AsyncMock

import pytest

from operatord.engines import base
from operatord.provision import doubt
from operatord.provision.doubt import PublishedStage

PLACE = PublishedStage(host="127.0.0.1", port=9, container_id="c", stage="stream")


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH])
async def test_address_to_which_there_is_no_way_refuses(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """F16: where networks are kept apart, a router says so in the address's place."""
    assert await _refuses(monkeypatch, OSError(number, "no"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNRESET, errno.ETIMEDOUT])
async def test_what_may_be_better_in_a_moment_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """F16: the start goes on, and is told by its own timeout."""
    assert not await _refuses(monkeypatch, OSError(number, "not now"))


async def test_silence_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """F16: a stage may be loading still."""
    monkeypatch.setattr(doubt, "CONNECTS", 0.01)
    assert not await _refuses(monkeypatch, None)


@pytest.mark.parametrize(
    ("stream", "line", "listens"),
    [
        ("stdout", '{"type":"listening","port":9}', True),
        ("stdout", '{ "type" : "listening" }', True),
        ("stderr", '{"type":"listening","port":9}', False),
        ("stdout", "listening", False),
    ],
)
async def test_stage_listens_that_says_so_to_the_daemon(
    stream: Literal["stdout", "stderr"], line: str, listens: bool
) -> None:
    """F16: it is read as everywhere else, however its JSON is written."""
    engine = AsyncMock(base.Engine)
    engine.inspect.return_value = base.StageState("c", "running")
    engine.logs.return_value = [
        base.LogLine("now", "stdout", "begun"),
        base.LogLine("now", stream, line),
    ]
    assert await doubt._listens(engine, "c") is listens


async def _refuses(monkeypatch: pytest.MonkeyPatch, error: OSError | None) -> bool:
    async def connect(host: str, port: int) -> socket.socket:
        if error is not None:
            raise error
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(doubt, "connect", connect)
    return await doubt._refuses(PLACE)
