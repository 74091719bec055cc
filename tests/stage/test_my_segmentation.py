# SPDX-License-Identifier: MIT
"""The example of a segmentation of one's own, built as README says, in a session on the engine."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from daemon_lab import Json, Refused, receive, until
from docker_lab import Engine, docker_served

from operatord.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_segmentation"
IMAGE = "my-segmentation"

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def image() -> str:
    """Build the image: a layer of Debian's packages, which the engine keeps for the next time."""
    assert main(["build-images", "stage"]) == 0
    engine = Engine()
    try:
        options = {"rm": True, "forcerm": True, "decode": True, "network_mode": "host"}
        said = list(engine.client.build(str(EXAMPLE), IMAGE, **options))
    finally:
        engine.close()
    assert not [each for each in said if "error" in each], said[-5:]
    return IMAGE


def settings(**changed: object) -> Json:
    """Return the example's pipeline, which has one slot that waits, without a limit by the machine's load."""
    config: Json = yaml.safe_load((EXAMPLE / "pipeline.yaml").read_text("utf-8"))
    config["pipelines"]["mine"] |= changed
    return config | {"pressure": {"cpu": None}}


def test_its_code_is_about_thirty_lines() -> None:
    text = (EXAMPLE / "my_segmentation.py").read_text("utf-8").partition('"""\n\n')[2]
    assert len([line for line in text.splitlines() if line.strip()]) <= 30


async def test_it_finds_the_object_from_a_warm_slot(image: str, tmp_path: Path) -> None:
    assert image == IMAGE
    async with docker_served(tmp_path / "s", config=settings(warm=1)) as daemon:
        wire = await daemon.wire()

        async def ready() -> bool:
            status: Json = await wire.call("system.status")
            return bool(status["warm"]["mine"]["ready"] == 1)

        await until(ready, "the slot is ready")
        env = {"probe": {"fps": 0}, "segmentation": {"smoothing": 3}}
        session = await wire.call("session.start", pipeline="mine", count=40, env=env)
        assert session["warm"]

        _, frames, end = await receive(session["location"])

        assert (len(frames), end["dropped"]) == (40, 0)
        for header, parts in frames:
            truth, mask = header["truth"], header["parts"][1]
            assert mask["area"] == parts["mask"].count(255)
            assert mask["area"] == pytest.approx(math.pi * truth["rx"] * truth["ry"], rel=0.15)
            assert mask["center"] == pytest.approx([truth["cx"], truth["cy"]], abs=3)
        done = await wire.call("session.wait", session_id=session["session_id"])
        assert (done["outcome"], done["frames"]) == ("completed", 40)
        wrong = {"segmentation": {"smoothing": 21}}
        with pytest.raises(Refused) as refusal:
            await wire.call("session.start", pipeline="mine", count=1, env=wrong)
        [said] = refusal.value.data["log"]
        assert said == "my_segmentation: smoothing must be a whole number from 0 to 20, not '21'"
    assert daemon.left() == []
