# SPDX-License-Identifier: MIT
"""Pictures of each format from a probe through a session's stream to players, a PNG and the clients."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import numpy
import pytest
from daemon_lab import PATIENCE, Json, Wire
from streams_lab import Site

from operatord_client.async_frames import async_open_frames
from operatord_protocol.pictures.pixels import PIXELS
from operatord_protocol.pictures.yuv import planes

WIDTH, HEIGHT, FRAMES = 33, 17, 3
IMAGES = {
    name: random.Random(name).randbytes(WIDTH * HEIGHT * pixels.bytes)
    for name, pixels in PIXELS.items()
}
HELLO = {"type": "hello", "stream": "scope", "width": WIDTH, "height": HEIGHT, "count": FRAMES}
SCALE = {"spacing": [0.2, 0.3], "depth": 80}


@asynccontextmanager
async def a_probe(format: str, image: bytes) -> AsyncIterator[Json]:
    """Be a probe that sends everybody the same few pictures; yield its address."""
    parts = [{"name": "image", "bytes": len(image)}]
    messages = [({**HELLO, "format": format, **SCALE}, b"")]
    messages += [({"type": "frame", "seq": seq, "parts": parts}, image) for seq in range(FRAMES)]
    messages += [({"type": "end", "frames": FRAMES}, b"")]
    stream = b"".join(json.dumps(said).encode() + b"\n" + data for said, data in messages)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(stream)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}


async def started(wire: Wire, address: Json, **more: object) -> Json:
    await wire.call("probe.register", name="scope", **address)
    session: Json = await wire.call("session.start", probe="scope", plain_stream=True, **more)
    return session


async def decoded(ffmpeg: str, file: bytes, format: str) -> bytes:
    """Return the pixels that ffmpeg finds in a file."""
    exact = ["-sws_flags", "accurate_rnd+full_chroma_int+bitexact"]
    command = [ffmpeg, "-v", "error", "-i", "-", "-fps_mode", "passthrough", *exact]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "-f", "rawvideo", "-pix_fmt", format, "-"],
        input=file,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == b""
    return bytes(done.stdout)


class Seen(NamedTuple):
    """A format: its colours as players are told them, ffmpeg's name, and a PNG's bits and kind."""

    colours: bytes
    theirs: str
    png: bytes
    off: int = 0
    """How far a level may be off that a player gets."""


SEEN = {
    "gray8": Seen(b"Cmono", "gray", b"\x08\x00"),
    "gray16le": Seen(b"Cmono16", "gray16le", b"\x10\x00"),
    "rgb24": Seen(b"C444", "rgb24", b"\x08\x02", off=3),
}


@pytest.mark.parametrize("format", SEEN)
async def test_everybody_gets_the_picture(wire: Wire, site: Site, ffmpeg: str, format: str) -> None:
    """A PNG has it exactly."""
    colours, theirs, png, off = SEEN[format]
    image = IMAGES[format]
    async with a_probe(format, image) as address:
        session = await started(wire, address)
        place = f"/sessions/{session['session_id']}"
        _, _, file = await site.get(f"{place}/snapshot.png")
        assert file[24:26] == png
        assert await decoded(ffmpeg, file, theirs) == image
        _, _, file = await site.get(f"{place}/stream.y4m")
        first, _, rest = file.partition(b"\n")
        assert colours in first.split()
        sent = planes(image) if format == "rgb24" else image
        assert rest.count(sent) == FRAMES
        found = numpy.frombuffer(await decoded(ffmpeg, file, theirs), numpy.uint8).astype(int)
        assert abs(found - numpy.frombuffer(FRAMES * image, numpy.uint8)).max() <= off


async def test_a_client_gets_arrays_and_what_the_probe_says(wire: Wire) -> None:
    image = IMAGES["gray16le"]
    async with a_probe("gray16le", image) as address:
        location = (await started(wire, address))["location"]
        async with async_open_frames(location["url"]) as stream:
            frames = [frame async for frame in stream]
            assert (stream.hello.spacing, stream.hello.depth) == ((0.2, 0.3), 80)
    assert [frame.array.dtype for frame in frames] == [numpy.uint16] * FRAMES
    assert frames[0].array.shape == (HEIGHT, WIDTH)
    assert frames[0].array.tobytes() == image


async def test_a_location_of_y4m_in_colour_is_refused_in_a_sentence(wire: Wire, site: Site) -> None:
    async with a_probe("rgb24", IMAGES["rgb24"]) as address:
        session = await started(wire, address, format="y4m")
        status, error = await site.refused(f"/sessions/{session['session_id']}/snapshot.png")
    assert status >= 400
    assert "no grey pictures (Cmono, Cmono16)" in error["message"]
