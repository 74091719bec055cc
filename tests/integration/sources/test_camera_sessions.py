# SPDX-License-Identifier: MIT
"""Sessions on cameras with the adapter that comes with operatord, beside servers of others."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from camera_lab import PASSWORD, rtsp_server
from daemon_lab import in_process, receive


async def test_camera_with_a_password_is_seen_and_read_and_the_password_is_in_no_log(
    tmp_path: Path,
) -> None:
    """Its server is none of ours. The password has letters that a URL has to write otherwise."""
    with rtsp_server(user="operator", password=PASSWORD) as server:
        url = server.url(f"operator:{quote(PASSWORD, safe='')}@")
        async with in_process(tmp_path / "state", {"engine": "process"}) as lab:
            wire = await lab.wire()
            seen = await wire.call("probe.register", name="cam", url=url)
            assert (seen["state"], seen["url"]) == ("up", server.url())
            assert seen["frame"]["fps"] == 25
            wrong = await wire.call("probe.register", name="bad", url=server.url("operator:x@"))
            assert "it refuses the credentials in the URL" in wrong["error"]
            asked = {"probe": {"width": 64}}
            session = await wire.call("session.start", probe="cam", count=10, env=asked)
            hello, frames, _ = await receive(session["location"])
            assert (hello["width"], len(frames)) == (64, 10)
            ended = await wire.call("session.wait", session_id=session["session_id"])
            logs = await wire.call("session.logs", session_id=session["session_id"])
    assert ended["outcome"] == "completed"
    said = json.dumps([ended, logs], ensure_ascii=False)
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said
