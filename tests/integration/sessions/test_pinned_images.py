# SPDX-License-Identifier: MIT
"""A session is of the images that its names stood for when its start began, whatever happens to the names."""

from __future__ import annotations

import pytest
from daemon_lab import Json, Lab, Refused, Wire

from operatord.engines.base import ImageMissing


async def images(wire: Wire, session: Json) -> Json:
    found: Json = await wire.call("session.get", session_id=session["session_id"])
    ids: Json = found["images"]
    return ids


def made_of(lab: Lab) -> set[tuple[str, str | None]]:
    return {(each.plan.image, each.plan.image_id) for each in lab.fake.world.containers.values()}


async def test_name_that_changes_in_the_middle_of_a_start_changes_nothing(
    lab: Lab, wire: Wire
) -> None:
    gate = lab.fake.script.hold("create")
    starting = wire.begin("session.start")
    await gate.reached.wait()
    for image in ("demo-probe", "demo-stream", "demo-segmentation"):
        lab.fake.world.build(image)
    gate.open.set()
    session = await wire.reply(starting)
    names = {"probe": "demo-probe", "stream": "demo-stream", "segmentation": "demo-segmentation"}
    assert made_of(lab) == {(name, f"{name}@0") for name in names.values()}
    expected = {stage: {"name": name, "id": f"{name}@0"} for stage, name in names.items()}
    assert await images(wire, session) == expected
    later = await wire.call("session.start", plain_stream=True)
    assert (await images(wire, later))["stream"] == {"name": "demo-stream", "id": "demo-stream@1"}
    await wire.call("session.stop", session_id=session["session_id"])
    assert await images(wire, session) == expected


async def test_start_asks_once_what_its_images_are(lab: Lab, wire: Wire) -> None:
    await wire.call("session.start")
    asked = [subject for call, subject in lab.fake.script.calls if "image" in call]
    assert asked == ["demo-probe demo-stream demo-segmentation"]


async def test_image_that_goes_in_the_middle_of_a_start_is_called_by_its_name(
    lab: Lab, wire: Wire
) -> None:
    lab.fake.script.fail("create", ImageMissing("demo-stream"))
    with pytest.raises(Refused) as refused:
        await wire.call("session.start")
    assert (refused.value.type, refused.value.data["image"]) == ("image_missing", "demo-stream")


async def test_others_are_not_told(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    assert "images" not in session
    [listed] = (await wire.call("session.list"))["sessions"]
    assert "images" not in listed
