# SPDX-License-Identifier: MIT
"""Slots with an adapter, which is told what to read when its slot is claimed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Json, Wire, in_process, receive, until
from source_lab import adapter, camera, settings, told

from operatord.settings.config import ConfigError
from operatord.settings.loading import from_dict

KIND = "segmented@rtsp"


def keeping(note: Path, warm: int = 1) -> Json:
    rtsp = {**adapter(note), "warm": 1}
    return settings(note, rtsp=rtsp) | {"pipelines": {"segmented": {"warm": warm}}}


async def ready(wire: Wire, kind: str, count: int = 1) -> None:
    async def is_so() -> bool:
        return (await wire.call("system.status"))["warm"].get(kind, {}).get("ready") == count

    await until(is_so, f"{count} of {kind}")


async def test_slot_with_an_adapter_is_for_its_scheme_alone(tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    async with in_process(tmp_path / "state", keeping(note)) as lab, camera() as port:
        wire = await lab.wire()
        await ready(wire, "segmented")
        await ready(wire, KIND)
        assert (await wire.call("system.status"))["warm"].keys() == {"stream", "segmented", KIND}
        url = f"rtsp://user:geheim@127.0.0.1:{port}/live"
        await wire.call("probe.register", name="cam", url=url)
        await wire.call("probe.register", name="scan", url=f"igtl://127.0.0.1:{port}")
        session = await wire.call("session.start", probe="cam")
        assert session["warm"] is True
        assert session["registered_probe"] == "cam"
        known = told(note)
        assert (known["before"], known["source_url"], known["count"]) == (None, url, None)
        await receive(session["location"])
        plain = await wire.call("session.start", count=3, env={"probe": {"fps": 0}})
        assert plain["warm"] is True
        _, frames, _ = await receive(plain["location"])
        assert len(frames) == 3


async def test_slot_of_a_camera_that_is_gone_is_not_spoilt(tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    async with in_process(tmp_path / "state", keeping(note)) as lab:
        wire = await lab.wire()
        async with camera() as port:
            await wire.call("probe.register", name="cam", url=f"rtsp://127.0.0.1:{port}/")
        await ready(wire, KIND)
        refused = await wire.refusal("session.start", probe="cam")
        assert refused.type == "probe_unreachable"
        await ready(wire, KIND)
        assert not note.exists()


async def test_no_pipeline_without_slots_has_some_for_adapters(tmp_path: Path) -> None:
    async with in_process(tmp_path / "state", keeping(tmp_path / "n", warm=0)) as lab:
        status = await (await lab.wire()).call("system.status")
        assert status["warm"].keys() == {"stream", "segmented"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"file": {"warm": 1}}, "sources.file.warm: a slot is made before"),
        ({"rtsp": {"warm": 1, "late_bind": "off"}}, "sources.rtsp.warm: the adapter has late_bind: off"),
        ({"rtsp": {"warm": 1, "gpus": 1}}, "sources.rtsp.warm: the adapter has gpus"),
        ({"igtl": {"serves": "openigtlink"}}, "sources.igtl.serves: an adapter serves the stream format"),
        ({"tcp": {"image": "x"}}, "sources.tcp: tcp is the stream format itself"),
        ({"rtsp": {"env": {"source_url": "x"}}}, "sources.rtsp.env.source_url: is what a session is told"),
        ({"rtsp": {"allow_env": ["source_url"]}}, "sources.rtsp.allow_env: source_url is set"),
        ({"rtsp": {"memory": "1GiB"}}, "sources.rtsp.memory_limit: "),
        ({"RTSP": {"image": "x"}}, "sources"),
        ({"srt": {"port": 5}}, "sources.srt.image: is required"),
    ],
)  # fmt: skip
def test_adapter_that_contradicts_itself_is_a_sentence(source: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_dict({"sources": source})
    assert any(each.startswith(said) for each in refused.value.problems), refused.value.problems
