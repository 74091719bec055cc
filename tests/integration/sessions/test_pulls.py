# SPDX-License-Identifier: MIT
"""Images that are not there are pulled where a stage allows it: once for all who wait, never for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, Refused, in_process, until
from fake_engine import Program

from operatord.provision import pulls

IMAGE = "registry.lab/camera:1"
STAGES: Json = {
    "camera": {"image": IMAGE, "port": 12345, "pull": "missing"},
    "stream": {"image": "demo-stream", "port": 12346},
}
CONFIG: Json = {
    "pipelines": {
        "pulled": {"stages": STAGES},
        "loaded": {"stages": STAGES | {"camera": STAGES["camera"] | {"pull": "never"}}},
    }
}


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Lab]:
    async with in_process(tmp_path / "s", CONFIG) as lab:
        lab.fake.world.registry[IMAGE] = Program()
        yield lab


def asked(lab: Lab) -> int:
    return [call for call, _ in lab.fake.script.calls].count("pull")


async def test_missing_image_is_pulled_once_and_progress_is_told(far: Lab) -> None:
    wire, other = await far.wire(), await far.wire()
    gate = far.fake.script.hold("pull")
    starting = [each.begin("session.start", pipeline="pulled") for each in (wire, other)]
    await gate.reached.wait()
    waiting = far.daemon.supervisor.registry
    await until(lambda: len(list(waiting.living())) == 2, "both wait")
    gate.open.set()
    sessions = [await wire.reply(starting[0]), await other.reply(starting[1])]
    assert [each["phase"] for each in sessions] == ["running", "running"]
    assert asked(far) == 1
    told = [note["params"].get("reason") for note in wire.notes if "method" in note]
    assert f"pulling {IMAGE}" in told
    await wire.call("session.start", pipeline="loaded")
    assert asked(far) == 1, "it is there"


async def test_image_is_not_pulled_unasked(far: Lab) -> None:
    wire = await far.wire()
    with pytest.raises(Refused) as refused:
        await wire.call("session.start", pipeline="loaded")
    assert (refused.value.type, refused.value.data["image"]) == ("image_missing", IMAGE)
    assert "build or pull it first" in str(refused.value)
    assert asked(far) == 0


async def test_why_it_cannot_be_pulled_is_a_sentence(far: Lab) -> None:
    far.fake.world.registry.clear()
    wire = await far.wire()
    with pytest.raises(Refused) as refused:
        await wire.call("session.start", pipeline="pulled")
    assert (refused.value.type, refused.value.data["image"]) == ("image_missing", IMAGE)
    assert "the registry has no image" in str(refused.value)
    assert "build or pull" not in str(refused.value)
    assert far.fake.empty


async def test_silent_registry_is_given_up(far: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "FIRST_WORD", 0.05)
    far.fake.script.hold("pull")
    wire = await far.wire()
    with pytest.raises(Refused) as refused:
        await wire.call("session.start", pipeline="pulled")
    assert "has said nothing" in str(refused.value)
    assert refused.value.type == "image_missing"


async def test_last_one_who_waits_ends_the_pull(far: Lab) -> None:
    wire, starter = await far.wire(), await far.wire()
    gate = far.fake.script.hold("pull")
    first, second = (starter.begin("session.start", pipeline="pulled") for _ in range(2))
    await gate.reached.wait()
    await until(
        lambda: [each.step for each in far.daemon.supervisor.registry.living()] == ["images"] * 2,
        "both wait",
    )
    under_way = far.daemon.supervisor.slots._starter._pulls._under_way
    [pull] = under_way.values()
    one, two = [each.id for each in far.daemon.supervisor.registry.living()]
    await wire.call("session.stop", session_id=one)
    assert not pull.task.done()
    await wire.call("session.stop", session_id=two)
    for each in (first, second):
        with pytest.raises(Refused):
            await starter.reply(each)
    with pytest.raises(asyncio.CancelledError):
        await pull.task
    assert under_way == {}
    assert far.fake.empty
