# SPDX-License-Identifier: MIT
"""The gateway says of a stream that is OpenIGTLink what to open it with, wherever a picture is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import IMAGES, StreamingFake, in_process
from streams_lab import a_site

from operatord.gateway.streams.viewer import REASON_BYTES
from operatord_protocol.stream import OPEN_ELSEWHERE

STAGE = {"image": IMAGES[0], "port": 18944, "serves": "openigtlink"}
STATUS = b"\0\1STATUS".ljust(34, b"\0") + bytes(24)


async def test_pictures_of_openigtlink_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamingFake, "HELLO", STATUS)
    pipelines = {"pipelines": {"slicer": {"stages": {"openigtlink": STAGE}}}}
    async with in_process(tmp_path / "state", pipelines) as lab, a_site(lab.address) as site:
        wire = await lab.wire()
        session = await wire.call("session.start", pipeline="slicer")
        path = f"/sessions/{session['session_id']}"
        for kind in ("stream.y4m", "snapshot.png"):
            status, error = await site.refused(f"{path}/{kind}")
            assert (status, error["data"]["type"]) == (409, "conflict")
            assert "open it in 3D Slicer" in error["message"]
        async with site.viewer(session["session_id"], watch=True) as viewer:
            assert await viewer.message() is None
            assert await viewer.close_code() == 1011
    assert len(OPEN_ELSEWHERE.encode()) <= REASON_BYTES  # what closes it is not cut short
