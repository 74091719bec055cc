# SPDX-License-Identifier: MIT
"""The machine's graphics processors, as the driver's own program (nvidia-smi) lists them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process

from operatord.core.scheduling.room import Gpu

log = logging.getLogger(__name__)

PROGRAM = "nvidia-smi"
_QUERY = ("--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits")
_MIB = 2**20
# A GPU that shares the host's memory has none of its own to tell of, and the driver writes [N/A]
# (docs.nvidia.com/dgx/dgx-spark/known-issues.html). Other words in brackets mean a broken device.
_LINE = re.compile(r"^(GPU-[0-9A-Fa-f-]+), *(?:(\d{1,9})|\[(?:N/A|Not Supported)\])\s*\Z", re.ASCII)
_ANSWER_BYTES = 64 * 1024
_SHOWN = 200
"""Characters of an unexpected answer that go into the log."""
_LAST_WAIT = 1.0
"""Seconds for a killed process to be gone. One that hangs in a broken driver may never be."""


class _Unusable(Exception):
    """The program exists but gives no usable answer; the text says why."""


async def find_gpus(timeout: float = 10.0, answer_bytes: int = _ANSWER_BYTES) -> list[Gpu]:
    """Return the NVIDIA devices; none, with a warning, where the driver's program does not work.

    Their ids are the driver's UUIDs, which engines take as device ids and which outlive a reboot. A device
    that shares the host's memory has 0 bytes of its own.

    ``timeout`` in seconds: a driver that is not kept loaded takes a few to come up.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return []
    try:
        return _parsed(await _ask(program, timeout, answer_bytes))
    except _Unusable as exc:
        log.warning("no GPUs are used: %s %s", PROGRAM, exc)
        return []


async def _ask(program: str, timeout: float, answer_bytes: int) -> str:
    """Return what the program prints. Raises `_Unusable`."""
    try:
        # A session of its own, so that what the program may have started ends with it.
        process = await asyncio.create_subprocess_exec(
            program, *_QUERY, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError as exc:
        raise _Unusable(f"cannot be started: {exc.strerror}") from exc
    try:
        async with asyncio.timeout(timeout):
            answer = await _read(process, answer_bytes)
            code = await process.wait()
    except TimeoutError as exc:
        raise _Unusable(f"gave no answer within {timeout:g} s") from exc
    finally:
        await _end(process)
    if code:
        raise _Unusable(f"ended with the code {code}: {_shown(answer)}")
    return answer


async def _read(process: Process, limit: int) -> str:
    assert process.stdout is not None
    try:
        await process.stdout.readexactly(limit + 1)
    except asyncio.IncompleteReadError as exc:
        return exc.partial.decode("utf-8", "replace")
    raise _Unusable(f"printed more than {limit} bytes")


async def _end(process: Process) -> None:
    """Kill what still runs, and wait for it, so that no zombie is left."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        # Past this, asyncio's watcher of children still collects it, should the driver let it go.
        async with asyncio.timeout(_LAST_WAIT):
            await _drain(process)
            await process.wait()


async def _drain(process: Process) -> None:
    """Read to the end: asyncio neither notices the end of a pipe that nobody reads, nor closes it."""
    assert process.stdout is not None
    while await process.stdout.read(_ANSWER_BYTES):
        pass


def _parsed(answer: str) -> list[Gpu]:
    """Read lines of ``uuid, MiB``. Raises `_Unusable`."""
    matches = [_LINE.match(line) for line in answer.splitlines() if line.strip()]
    found = [Gpu(int(match[2] or 0) * _MIB, match[1]) for match in matches if match]
    if len(found) < len(matches):
        raise _Unusable(f"printed something that is not a list of devices: {_shown(answer)}")
    return found


def _shown(answer: str) -> str:
    return repr(" ".join(answer.split())[:_SHOWN])
