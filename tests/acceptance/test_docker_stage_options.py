# SPDX-License-Identifier: MIT
"""A session whose stage is given files, memory, a user or a way out of its own really streams, and nobody is
told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import shared_host
from daemon_lab import Json, Refused, receive, relays_to, until
from docker_lab import PROBE, docker_served
from outside import PORT, Outside, outside
from source_lab import host_probe

pytestmark = pytest.mark.engine

SECRET, VARIABLE = "open sesame", "open barley"
EMPTY = "import os; print(os.listdir('/run/secrets/token'))"
LOOKS = """
import json, os
files = [open(path).read() for path in ("/models/m", "/run/secrets/token")]
print(json.dumps([os.getuid(), os.environ["phrase"], *files]))
"""


STAGES: Json = {
    "probe": {"image": "demo-probe", "port": 12345, "late_bind": "native"},
    "stream": {"image": "demo-stream", "port": 12346, "late_bind": "native"},
}
WAYS: Json = {
    "pipelines": {
        "closed": {"stages": STAGES},
        "apart": {"network": "separate", "stages": STAGES},
        "opened": {"stages": STAGES | {"stream": STAGES["stream"] | {"egress": "lan"}}},
    },
    "pressure": {"cpu": None},
}
REACHES = f"""
import socket
try:
    print(socket.create_connection(({{host!r}}, {PORT}), 2).recv(100).decode())
except OSError:
    print("nobody")
"""


def configured(folder: Path) -> Json:
    """Return settings in which the streaming server has everything that an image may need."""
    models, token = folder / "models", folder / "token"
    models.mkdir()
    (models / "m").write_text("weights")
    token.write_text(SECRET)
    token.chmod(0o444)
    (folder / "stream.env").write_text(f"phrase={VARIABLE}\n")
    stage = {
        "volumes": [f"{models}:/models"],
        "tmpfs": ["/scratch:size=1m"],
        "read_only": True,
        "user": "4321:4321",
        "secrets": {"token": str(token)},
        "env_file": [str(folder / "stream.env")],
        "shm_size": "1MiB",
        "ulimits": {"nofile": 256},
        "healthcheck": "off",
    }
    return {"pipelines": {"stream": {"stages": {"stream": stage}}}, "pressure": {"cpu": None}}


@pytest.mark.every_engine
async def test_stage_with_files_and_a_user_of_its_own_streams(
    tmp_path: Path, engine_folder: Path
) -> None:
    async with docker_served(
        tmp_path / "s", "--log-level", "debug", config=configured(engine_folder)
    ) as daemon:
        wire = await daemon.wire()
        session = await wire.call(
            "session.start", plain_stream=True, count=50, env={"probe": {"fps": 0}}
        )
        said = daemon.engine.python(session["stream"], LOOKS)
        assert json.loads(said) == [4321, VARIABLE, "weights", SECRET]
        _, frames, end = await receive(session["location"])
        assert ([header["seq"] for header, _ in frames], end["frames"]) == (list(range(50)), 50)
        answers = [
            await wire.call(name) for name in ("pipeline.list", "session.list", "system.status")
        ]
        labels = [each["Labels"] for each in daemon.engine.containers(daemon.instance)]
        told = json.dumps([session, answers, labels, daemon.daemon.log])
        assert not any(each in told for each in (SECRET, VARIABLE, "/run/secrets", "/token"))
    assert daemon.left() == []


async def test_slot_has_what_its_session_will_need(tmp_path: Path, engine_folder: Path) -> None:
    config = configured(engine_folder)
    config["pipelines"]["stream"]["warm"] = 1
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()

        async def ready() -> bool:
            status: Json = await wire.call("system.status")
            return bool(status["warm"]["stream"]["ready"])

        await until(ready, "the slot is ready")
        session = await wire.call(
            "session.start", plain_stream=True, count=5, env={"probe": {"fps": 0}}
        )
        program = "import os; print(os.getuid(), open('/models/m').read())"
        said = daemon.engine.python(session["stream"], program)
        assert (session["warm"], said) == (True, "4321 weights\n")
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 5
    assert daemon.left() == []


async def test_secret_that_is_not_there_ends_the_start_with_a_sentence(
    tmp_path: Path, engine_folder: Path
) -> None:
    config = configured(engine_folder)
    (engine_folder / "token").unlink()
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        if any(
            each["Name"] == "Podman Engine" for each in daemon.engine.client.version()["Components"]
        ):
            session = await wire.call("session.start", plain_stream=True)
            assert daemon.engine.python(session["stream"], EMPTY) == "[]\n"  # PROTOCOL.md says so
            return
        with pytest.raises(Refused) as refused:
            await wire.call("session.start", plain_stream=True)
        assert refused.value.type == "start_failed"
        assert "among its volumes or secrets is not there" in str(refused.value)
        assert str(engine_folder) not in str(refused.value)
    assert daemon.left() == []


@pytest.fixture(scope="module")
def lan() -> Iterator[Outside]:
    with shared_host.block() as block, outside(str(block)) as found:
        yield found


@pytest.mark.every_engine
async def test_way_out_is_there_where_a_stage_asks_for_it(tmp_path: Path, lan: Outside) -> None:
    async with docker_served(tmp_path / "s", config=WAYS) as daemon:
        wire = await daemon.wire()
        found = {}
        for pipeline in WAYS["pipelines"]:
            session = await wire.call("session.start", pipeline=pipeline, count=5)
            said = daemon.engine.python(session["probe"], REACHES.format(host=lan.there)).strip()
            _, frames, _ = await receive(session["location"])
            found[pipeline] = (said, len(frames))
        # From the network with a way out, packets come with an address of this machine's.
        assert found == {"closed": ("nobody", 5), "apart": ("nobody", 5), "opened": (lan.here, 5)}


@pytest.mark.parametrize(("pipeline", "relays"), [("closed", 1), ("opened", 0)])
async def test_registered_probe_outside_is_read_either_way(
    tmp_path: Path, lan: Outside, pipeline: str, relays: int
) -> None:
    command = lan.python(str(PROBE))
    async with (
        host_probe(*command, probe_ip=lan.there, count="2000000000", fps="0") as port,
        docker_served(tmp_path / "s", config=WAYS) as daemon,
    ):
        wire = await daemon.wire()
        await wire.call("probe.register", name="bed-3", host=lan.there, port=port)
        session = await wire.call("session.start", probe="bed-3", pipeline=pipeline, count=5)
        assert len(relays_to(port)) == relays
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 5
        await wire.call("session.wait", session_id=session["session_id"])
        assert relays_to(port) == []
