# SPDX-License-Identifier: MIT
"""Programs that people have read `stream.y4m` over HTTP, with a login's token: every frame, and its pixels.

`tools/test` installs them where they are to be had, and says at the end which are not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from daemon_lab import Wire, in_process, receive, run
from streams_lab import SIZE, Site, a_site

from operatord.access import tokens
from operatord.gateway.pictures import contour

COUNT = 20
OPENCV = """
import sys, cv2
video = cv2.VideoCapture(sys.argv[1])
with open(sys.argv[2], "wb") as file:
    while (read := video.read())[0]:
        file.write(read[1][:, :, 0].tobytes())
"""
PYAV = """
import sys, av
with av.open(sys.argv[1]) as video, open(sys.argv[2], "wb") as file:
    for frame in video.decode(video=0):
        file.write(frame.to_ndarray(format="gray").tobytes())
"""
FFMPEG = "-f rawvideo -pix_fmt gray {file}"
GSTREAMER = (
    "! avdemux_yuv4mpegpipe ! videoconvert ! video/x-raw,format=GRAY8 ! filesink location={file}"
)
PROGRAMS = {
    "ffmpeg": f"ffmpeg -v error -i {{url}} {FFMPEG}",
    "ffmpeg, by header": f"ffmpeg -v error -headers 'Authorization: Bearer {{token}}' -i {{place}} {FFMPEG}",
    "gstreamer": f"gst-launch-1.0 -q souphttpsrc location={{url}} {GSTREAMER}",
}
MODULES = {"opencv": ("cv2", OPENCV), "pyav": ("av", PYAV)}


class House(NamedTuple):
    """A daemon with logins, its gateway, and who may start sessions."""

    wire: Wire
    site: Site
    token: str


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    file = tmp_path / "tokens"
    _, token = tokens.new(file, "ada", "user", "now")
    config = {"engine": "process", "auth": {"tokens": str(file)}}
    async with in_process(tmp_path / "state", config) as lab, a_site(lab.address) as site:
        wire = await lab.wire()
        await wire.call("auth.login", token=token)
        yield House(wire, site, token)


async def truth(house: House) -> bytes:
    """Return the pictures of a session like that which is played, its masks' outlines drawn."""
    session = await house.wire.call("session.start", count=COUNT, env={"probe": {"fps": 0}})
    _, frames, _ = await receive(session["location"])
    parts = [(memoryview(each["image"]), memoryview(each["mask"])) for _, each in frames]
    return b"".join(contour.drawn(image, mask, 256) for image, mask in parts)


async def played(house: House, command: list[str], file: Path) -> bytes:
    """Return the pixels that a program writes into a file of a session, which is put into its command."""
    session = await house.wire.call("session.start", count=COUNT, env={"probe": {"fps": 100}})
    place = f"{house.site.url}/sessions/{session['session_id']}/stream.y4m"
    said = {
        "place": place,
        "url": f"{place}?token={house.token}",
        "token": house.token,
        "file": str(file),
    }
    for name, value in said.items():
        command = [word.replace(f"{{{name}}}", value) for word in command]
    code, _, err = await run(*command)
    assert (code, err) == (0, "")
    ended = await house.wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["frames"]) == ("completed", COUNT)
    return file.read_bytes()


def command_of(name: str) -> list[str]:
    """Return how a program is run; without it, the test is skipped."""
    if name in MODULES:
        module, program = MODULES[name]
        found, command = find_spec(module), [sys.executable, "-c", program, "{url}", "{file}"]
    else:
        command = shlex.split(PROGRAMS[name])
        found = shutil.which(command[0])
    if found:
        return command
    if name in os.environ.get("OPERATORD_NO_PLAYERS", "").split():
        pytest.skip("there is no such player to be had here")
    pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("name", [*PROGRAMS, *MODULES])
async def test_a_program_has_every_frame(house: House, tmp_path: Path, name: str) -> None:
    pixels = await played(house, command_of(name), tmp_path / "pixels")
    assert len(pixels) == COUNT * SIZE
    assert pixels == await truth(house)
