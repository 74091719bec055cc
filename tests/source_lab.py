# SPDX-License-Identifier: MIT
"""Sources that operatord did not start: a probe on the host, a camera as far as its control connection goes,
and an adapter that notes what it was told and then does as the emulator does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
PROBE = Path(__file__).parents[1] / "emulators" / "probe" / "probe.py"
ADAPTER = f"""
import json, os, sys
env = dict(os.environ)
before = {{"before": env.get("source_url")}}
if env.pop("OPERATORD_LATE_BIND", ""):
    env.update(json.loads(sys.stdin.readline())["env"])
with open(env["note"], "w") as note:
    said = {{name: env.get(name) for name in ("source_url", "source_shown", "count")}}
    json.dump({{**before, **said}}, note)
env.setdefault("count", "5")
os.execve(sys.executable, [sys.executable, {str(PROBE)!r}], env)
"""
"""An adapter: what it is told goes into the file that its variable ``note`` names."""
SDP = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=framerate:25\r\na=x-dimensions:640,480\r\n"

DESCRIBED = f"200 OK\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}"
ALLOWED = "200 OK\r\nPublic: OPTIONS, DESCRIBE\r\n\r\n"


def adapter(note: Path, **more: Any) -> Json:
    """Return the settings of the adapter."""
    return {
        "image": "demo-probe",
        "command": [sys.executable, "-c", ADAPTER],
        "env": {"note": str(note), "fps": 0},
        **more,
    }


def settings(note: Path, *, allow: list[str] | None = None, **sources: Json) -> Json:
    """Return settings for local processes with this adapter, and others for more schemes."""
    return {
        "engine": "process",
        "sources": {"rtsp": adapter(note), **sources},
        "probes": {"allow": ["127.0.0.0/8", *(allow or [])]},
    }


def told(note: Path) -> Json:
    """Return what the adapter was told."""
    return json.loads(note.read_text())


@contextlib.asynccontextmanager
async def camera(
    answer: str | Callable[[str], str] = DESCRIBED,
) -> AsyncIterator[int]:
    """Serve RTSP at an address of this machine, with one answer to each DESCRIBE, or what is returned for its
    head; yield the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                number = head.lower().partition("cseq:")[2].split()[0]
                said = answer(head) if callable(answer) else answer
                said = ALLOWED if head.startswith("OPTIONS") else said
                status, _, rest = said.partition("\r\n")
                writer.write(f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{rest}".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def host_probe(*command: str, **env: str) -> AsyncIterator[int]:
    """Run a probe on the host's loopback and give its port; ``command`` runs it elsewhere."""
    process = await asyncio.create_subprocess_exec(
        *(command or (sys.executable, str(PROBE))), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "probe_ip": "127.0.0.1", "probe_port": "0", **env},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())["port"]
    finally:
        with contextlib.suppress(ProcessLookupError):  # a probe with a count ends by itself
            process.kill()
        await process.communicate()
