# SPDX-License-Identifier: MIT
"""Pipelines whose last stage serves OpenIGTLink: what proves them, what their location says, what is refused.

The engine is the fake one; the stage itself is tried in tests/adapters.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import IMAGES, Lab, StreamingFake, in_process

from operatord_client.async_frames import async_open_frames
from operatord_client.frames import open_frames
from operatord_protocol.messages import Location
from operatord_protocol.stream import StreamError

BODY = struct.pack(">Hq20s", 1, 0, b"OK") + b"all is well\0"
SLICER = {
    "pipelines": {
        "slicer": {
            "stages": {
                "probe": {"image": IMAGES[0], "port": 12345},
                "openigtlink": {"image": IMAGES[1], "port": 18944, "serves": "openigtlink"},
            }
        }
    }
}


def greeting(kind: bytes = b"STATUS", version: int = 1, size: int = len(BODY)) -> bytes:
    return struct.pack(">H12s20sIIQQ", version, kind, b"operatord", 0, 0, size, 0) + BODY


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(StreamingFake, "HELLO", greeting())
    async with in_process(tmp_path / "state", SLICER) as running:
        yield running


@pytest.mark.parametrize("version", [1, 2])
async def test_a_greeting_proves_the_chain_and_the_location_says_what_it_speaks(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(StreamingFake, "HELLO", greeting(version=version))
    wire = await lab.wire()
    session = await wire.call("session.start", pipeline="slicer")
    location = session["location"]
    assert location["url"] == f"igtl://{location['host']}:{location['port']}"
    assert location["format"] == "openigtlink"


HELLO = StreamingFake.HELLO
NO_GREETINGS = {
    "a stream": HELLO,
    "an image": greeting(b"IMAGE"),
    "version 3": greeting(version=3),
    "too long": greeting(size=1 << 40),
}


@pytest.mark.parametrize("said", NO_GREETINGS.values(), ids=list(NO_GREETINGS))
async def test_what_is_no_greeting_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(StreamingFake, "HELLO", said)
    refused = await (await lab.wire()).refusal("session.start", pipeline="slicer")
    assert refused.type == "start_failed"
    assert (
        "'openigtlink' does not speak OpenIGTLink, with a STATUS message first" in refused.message
    )
    assert lab.fake.empty


WISHES: list[tuple[dict[str, Any], str]] = [
    ({"format": "y4m"}, "params.format"),
    ({"on_shortage": "degrade"}, "params.on_shortage"),
]


@pytest.mark.parametrize(("wish", "path"), WISHES, ids=["y4m", "degrade"])
async def test_what_only_a_stream_can_do_is_refused(lab: Lab, wish: Any, path: str) -> None:
    refused = await (await lab.wire()).refusal("session.start", pipeline="slicer", **wish)
    assert (refused.code, refused.data["path"]) == (-32602, path)
    assert "the pipeline 'slicer' serves openigtlink" in refused.message
    assert lab.fake.empty


async def test_clients_say_what_to_open_it_with(lab: Lab) -> None:
    wire = await lab.wire()
    session = await wire.call("session.start", pipeline="slicer")
    told = Location(**session["location"])
    for location in (told, told.url):  # of a URL, the first bytes tell
        with pytest.raises(StreamError, match="open it in 3D Slicer"):
            async with async_open_frames(location):
                pass


def test_the_blocking_client_says_the_same_without_connecting() -> None:
    location = Location(host="192.0.2.1", port=9, url="igtl://192.0.2.1:9", format="openigtlink")
    with pytest.raises(StreamError, match="open it in 3D Slicer"):
        open_frames(location)
