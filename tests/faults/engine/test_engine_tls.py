# SPDX-License-Identifier: MIT
"""A daemon on an engine that lets in nobody without a certificate: ``dockerd --tlsverify``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from daemon_lab import Json, Wire, until
from engine_common import slowfault
from engine_private import PrivateEngine, private_engine, served_inside

pytestmark = pytest.mark.engine

ADDRESS = "tcp://127.0.0.1:2376"
"""Nobody else is in the engine's namespace."""
SETTINGS: Json = {
    "pipelines": {"stream": {"warm": 1}},
    "pressure": {"memory_stall": None},
    "system_reserved": {"disk": "16MiB"},
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def engine(authority: Authority) -> Iterator[PrivateEngine]:
    certificate, key = authority.sign("engine")
    options = (
        "--host", ADDRESS, "--tlsverify", "--tlscacert", str(authority.certificate),
        "--tlscert", str(certificate), "--tlskey", str(key),
    )  # fmt: skip
    with private_engine("512m", options=options) as made:
        yield made


async def frames(engine: PrivateEngine, location: Json) -> int:
    """Read a stream to its end; return how many frames it had."""
    reader, writer = await engine.reach(location)
    count = 0
    assert json.loads(await reader.readline())["type"] == "hello"
    while (header := json.loads(await reader.readline()))["type"] == "frame":
        await reader.readexactly(sum(part["bytes"] for part in header["parts"]))
        count += 1
    writer.close()
    return count


async def filled(wire: Wire) -> None:
    async def ready() -> bool:
        status: Json = await wire.call("system.status")
        return bool(status["warm"]["stream"]["ready"] == 1)

    await until(ready, "the slot is ready")


@slowfault
async def test_sessions_come_cold_and_warm_and_leave_nothing(
    engine: PrivateEngine, authority: Authority, tmp_path: Path
) -> None:
    """E4"""
    folder = authority.docker_folder(authority.client())
    env = {
        "DOCKER_HOST": ADDRESS,
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(folder),
        "REQUESTS_CA_BUNDLE": str(tmp_path / "none"),  # it is for others
    }
    async with served_inside(engine, tmp_path / "s", SETTINGS, env) as daemon:
        wire = await daemon.wire()
        asked: Json = {"plain_stream": True, "count": 3, "env": {"probe": {"fps": 0}}}
        await filled(wire)
        warm = await wire.call("session.start", **asked)
        cold = await wire.call("session.start", **asked)
        assert (warm["warm"], cold["warm"]) == (True, False)
        logs = await wire.call("session.logs", session_id=cold["session_id"])
        assert any('"listening"' in line["line"] for line in logs["lines"])
        used = await wire.call("session.stats", session_id=cold["session_id"])
        assert used["stages"]["probe"]["memory"] > 0
        for session in (warm, cold):
            assert await frames(engine, session["location"]) == 3
            ended = await wire.call("session.wait", session_id=session["session_id"], phase="ended")
            assert ended["outcome"] == "completed"
    assert daemon.left() == []
