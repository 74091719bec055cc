# SPDX-License-Identifier: MIT
"""Streams into files: what came, as it came, or its pictures for players; whole frames, whatever ends it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from client_stub import SESSION_ID, StreamServer, StubDaemon, golden_stream, located, stream_of
from daemon_lab import PATIENCE

from operatord_client import AsyncClient, Client, LocationUnreachable, Recorded, StreamError
from operatord_client._recording.cutter import Cutter
from operatord_client._recording.tape import Tape
from operatord_protocol.pictures.pixels import PIXELS
from operatord_protocol.stream import End, Frame, StreamParser

Serve = Callable[..., StreamServer]
WHOLE = golden_stream("a whole stream")
Y4M = b"YUV4MPEG2 W2 H2 F25:1 Ip A1:1 Cmono\n" + b"".join(
    b"FRAME Xseq=%d\n" % seq + bytes([seq] * 4) for seq in range(5)
)
ONE_FRAME = WHOLE[: WHOLE.rindex(b'{"type"') - 1]
"""All but the end, and a byte of the second frame."""
EXAMPLES = [WHOLE, stream_of(3, dice=0.5), Y4M]


def taped(stream: bytes, chunk: int, path: Path, **options: Any) -> Recorded:
    with Tape(path, **options) as tape:
        for start in range(0, len(stream), chunk):
            if tape.done:
                break
            tape.feed(stream[start : start + chunk])
        if not tape.done:
            tape.feed(b"")
    return tape.so_far


def frames_in(data: bytes) -> list[Frame]:
    return [item for item in StreamParser().feed(data) if isinstance(item, Frame)]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("stream", EXAMPLES, ids=["plain", "masks", "y4m"])
def test_raw_is_the_stream_byte_for_byte(tmp_path: Path, stream: bytes, chunk: int) -> None:
    recorded = taped(stream, chunk, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == stream
    assert recorded.ended
    assert recorded.bytes == len(stream)


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_y4m_has_the_pictures_and_no_masks(tmp_path: Path, chunk: int) -> None:
    recorded = taped(stream_of(3, dice=0.5), chunk, tmp_path / "f.y4m")
    head, *frames = (tmp_path / "f.y4m").read_bytes().split(b"FRAME ")
    assert head == b"YUV4MPEG2 W4 H1 F30:1 Ip A1:1 Cmono Xstream=stub\n"
    pictures = [frame.image for frame in frames_in(stream_of(3, dice=0.5))]
    assert [frame.partition(b"\n")[2] for frame in frames] == pictures
    assert (recorded.frames, recorded.ended) == (3, True)


@pytest.mark.parametrize(
    ("path", "format", "is_y4m"),
    [
        ("a.y4m", None, True),
        ("a.Y4M", None, True),
        ("a.stream", None, False),
        ("y4m", None, False),
        ("a.y4m", "raw", False),
        ("a.bin", "y4m", True),
    ],
)
def test_format_is_by_the_name_unless_it_is_given(
    tmp_path: Path, path: str, format: str | None, is_y4m: bool
) -> None:
    taped(WHOLE, 99, tmp_path / path, format=format)
    assert (tmp_path / path).read_bytes().startswith(b"YUV4MPEG2") == is_y4m


@pytest.mark.parametrize("frames", [1, 2])
def test_so_many_frames_and_an_end_that_counts_them(tmp_path: Path, frames: int) -> None:
    recorded = taped(stream_of(3), 1 << 20, tmp_path / "f", frames=frames)
    *_, end = StreamParser().feed((tmp_path / "f").read_bytes())
    assert end == End(frames=frames)
    assert (recorded.frames, recorded.ended) == (frames, False)
    assert recorded.bytes == (tmp_path / "f").stat().st_size


def test_as_many_frames_as_there_are_is_the_whole_stream(tmp_path: Path) -> None:
    recorded = taped(WHOLE, 5, tmp_path / "f", frames=2)
    assert (tmp_path / "f").read_bytes() == WHOLE
    assert recorded.ended


def test_missing_frames_are_told(tmp_path: Path) -> None:
    hello, *rest = stream_of(5).split(b'{"type": "frame"')
    sparse = hello + b"".join(b'{"type": "frame"' + rest[at] for at in (0, 3))
    recorded = taped(sparse, 1 << 20, tmp_path / "f", frames=2)
    assert (recorded.frames, recorded.dropped) == (2, 2)
    *_, end = StreamParser().feed((tmp_path / "f").read_bytes())
    assert end == End(frames=2, dropped=2)


@pytest.mark.parametrize("stream", EXAMPLES, ids=["plain", "masks", "y4m"])
def test_stream_cut_anywhere_leaves_whole_frames(tmp_path: Path, stream: bytes) -> None:
    for length in range(len(stream)):
        path = tmp_path / "f"
        path.unlink(missing_ok=True)
        try:
            recorded = taped(stream[:length], 1 << 20, path)
        except StreamError:
            written = path.read_bytes() if path.exists() else b""
        else:
            assert stream is Y4M
            written = path.read_bytes()
            assert recorded.ended
        assert stream[:length].startswith(written)
        cutter = Cutter("raw")
        assert b"".join(piece.data for piece in cutter.feed(written)) == written


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_interrupt_leaves_a_whole_stream(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "f"
    with pytest.raises(error), Tape(path) as tape:
        tape.feed(ONE_FRAME)
        raise error
    *items, end = StreamParser().feed(path.read_bytes())
    frames = [item for item in items if isinstance(item, Frame)]
    assert end == End(frames=len(frames))
    assert len(frames) == 1


class FullDisk(io.FileIO):
    """A file on a disk that takes a few bytes more."""

    room = 100

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = super().write(bytes(data)[: self.room])
        self.room -= taken
        return taken


def test_full_disk_leaves_whole_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    stream = stream_of(3)
    FullDisk.room = len(stream) - 45
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left") as raised:
        patched.setattr(Path, "open", lambda self, *_, **__: FullDisk(self, "wb"))
        taped(stream, 11, path)
    assert raised.value.filename == str(path)
    written = path.read_bytes()
    assert stream.startswith(written)
    assert len(frames_in(written)) == 2
    assert b"".join(piece.data for piece in Cutter("raw").feed(written)) == written


def test_file_that_is_there_stays_unless_it_may_go(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError) as raised:
        Tape(path)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"precious"
    taped(WHOLE, 99, path, overwrite=True)
    assert path.read_bytes() == WHOLE


def test_file_that_may_go_stays_until_there_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"precious")
    with pytest.raises(StreamError):
        taped(b"no stream\n", 99, path, overwrite=True)
    assert path.read_bytes() == b"precious"


def test_devices_are_there_to_be_written() -> None:
    assert taped(WHOLE, 99, Path(os.devnull)).frames == 2


def test_open_file_is_written_and_left_open() -> None:
    file = io.BytesIO()
    with Tape(file) as tape:
        tape.feed(WHOLE)
    assert file.getvalue() == WHOLE


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"format": "mp4"}]
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Tape(tmp_path / "f", **options)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("colours", "size"),
    [("Cmono", 15), ("Cmono16", 30), ("", 27), ("C420jpeg", 27), ("C422", 33), ("C444", 45)],
)
def test_y4m_of_any_usual_colours_is_taken_in_whole_frames(
    tmp_path: Path, colours: str, size: int
) -> None:
    stream = f"YUV4MPEG2 W5 H3 F25:1 {colours}\n".encode() + (b"FRAME\n" + bytes(size)) * 2
    assert taped(stream, 10, tmp_path / "f").frames == 2


def test_an_end_that_counts_more_frames_than_came_is_an_error(tmp_path: Path) -> None:
    whole = stream_of(3)
    with pytest.raises(StreamError, match="has sent 5, and 3 have come"):
        taped(whole.replace(b'"frames": 3', b'"frames": 5'), 99, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == whole[: whole.rindex(b'{"type": "end"')]


def test_pictures_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="at most 67108864 bytes"):
        taped(b"YUV4MPEG2 W65536 H65536 F25:1 Cmono\nFRAME\n", 99, tmp_path / "f")


def test_other_colours_are_refused_with_their_name(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="420p10"):
        taped(b"YUV4MPEG2 W5 H3 F25:1 C420p10\n", 99, tmp_path / "f")


def test_name_of_a_stream_puts_nothing_into_a_header(tmp_path: Path) -> None:
    hello = json.dumps({"type": "hello", "stream": "a\nFRAME", "width": 1, "height": 1}).encode()
    taped(hello + b'\n{"type":"end","frames":0}\n', 99, tmp_path / "f.y4m")
    assert (tmp_path / "f.y4m").read_bytes() == b"YUV4MPEG2 W1 H1 F30:1 Ip A1:1 Cmono\n"


@pytest.mark.parametrize(
    ("format", "theirs", "off"),
    [("gray8", "gray", 0), ("gray16le", "gray16le", 0), ("rgb24", "rgb24", 3)],
)
def test_ffmpeg_reads_every_picture(
    tmp_path: Path, ffmpeg: str, format: str, theirs: str, off: int
) -> None:
    """Of colours, each level comes back within ``off``."""
    size, pictures = 16 * 8 * PIXELS[format].bytes, b""
    hello = {
        "type": "hello",
        "stream": "x",
        "width": 16,
        "height": 8,
        "fps": 12.5,
        "format": format,
    }
    parts = [{"name": "mask", "bytes": 128}, {"name": "image", "bytes": size}]
    stream = json.dumps(hello).encode() + b"\n"
    for seq in range(3):
        header = {"type": "frame", "seq": seq, "pts": seq / 12.5, "parts": parts}
        picture = os.urandom(size)
        pictures += picture
        stream += json.dumps(header).encode() + b"\n" + bytes(128) + picture
    taped(stream + b'{"type":"end","frames":3}\n', 1 << 20, tmp_path / "f.y4m")
    exact = ["-sws_flags", "accurate_rnd+full_chroma_int+bitexact"]
    command = [ffmpeg, "-v", "error", "-i", str(tmp_path / "f.y4m"), "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, *exact, "-f", "rawvideo", "-pix_fmt", theirs, "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (len(done.stdout), done.stderr) == (len(pictures), b"")
    found, sent = (
        numpy.frombuffer(each, numpy.uint8).astype(int) for each in (done.stdout, pictures)
    )
    assert abs(found - sent).max() <= off


def test_a_format_that_players_do_not_know_is_kept_as_it_is(tmp_path: Path) -> None:
    hello = {"type": "hello", "stream": "x", "width": 1, "height": 1, "format": "yuyv422"}
    frame = {"type": "frame", "seq": 0, "parts": [{"name": "image", "bytes": 2}]}
    stream = b"".join(json.dumps(each).encode() + b"\n" for each in (hello, frame)) + b"ab"
    with pytest.raises(StreamError, match="yuyv422, and only gray8, gray16le and rgb24 can"):
        taped(stream, 99, tmp_path / "f.y4m")
    assert not (tmp_path / "f.y4m").exists()
    with pytest.raises(StreamError, match="cut off before its end"):
        taped(stream, 99, tmp_path / "f.stream")
    assert (tmp_path / "f.stream").read_bytes().startswith(stream)


# --- sessions ----------------------------------------------------------------------------------------


@pytest.fixture
def streamed(daemon: StubDaemon, serve: Serve) -> Iterator[StreamServer]:
    """A session whose stream has three frames."""
    server = serve(stream_of(3))
    daemon.on("session.get", located(server))
    yield server


def test_session_is_recorded(client: Client, streamed: StreamServer, tmp_path: Path) -> None:
    seen: list[Recorded] = []
    recorded = client.attach(SESSION_ID).record(tmp_path / "f", on_progress=seen.append)
    assert (tmp_path / "f").read_bytes() == stream_of(3)
    assert (recorded.frames, recorded.expected, recorded.ended) == (3, 3, True)
    assert seen[-1].frames == 3


async def test_session_is_recorded_with_asyncio(
    aclient: AsyncClient, streamed: StreamServer, tmp_path: Path
) -> None:
    session = await aclient.attach(SESSION_ID)
    recorded = await session.record(str(tmp_path / "f.y4m"))
    assert (tmp_path / "f.y4m").read_bytes().count(b"FRAME ") == 3
    assert recorded.ended


def test_token_is_said_first(client: Client, daemon: StubDaemon, tmp_path: Path) -> None:
    heard: list[bytes] = []

    class Gate(StreamServer):
        def serve(self, connection: Any) -> None:
            heard.append(connection.recv(100))
            super().serve(connection)

    gate = Gate(WHOLE)
    try:
        answer = located(gate)
        answer["result"]["location"]["token"] = "secret"
        daemon.on("session.get", answer)
        client.attach(SESSION_ID).record(tmp_path / "f")
    finally:
        gate.close()
    assert heard == [b'{"type":"open","token":"secret"}\n']
    assert (tmp_path / "f").read_bytes() == WHOLE


def test_time_that_is_up_is_no_error(
    client: Client, daemon: StubDaemon, serve: Serve, tmp_path: Path
) -> None:
    daemon.on("session.get", located(serve(ONE_FRAME, hold=True)))
    recorded = client.attach(SESSION_ID).record(tmp_path / "f", seconds=0.2)
    assert not recorded.ended
    assert len(frames_in((tmp_path / "f").read_bytes())) == recorded.frames == 1


async def test_time_that_is_up_is_no_error_with_asyncio(
    aclient: AsyncClient, daemon: StubDaemon, serve: Serve, tmp_path: Path
) -> None:
    daemon.on("session.get", located(serve(ONE_FRAME, hold=True)))
    session = await aclient.attach(SESSION_ID)
    assert (await session.record(tmp_path / "f", seconds=0.2)).frames == 1


def test_silence_is_an_error(
    client: Client, daemon: StubDaemon, serve: Serve, tmp_path: Path
) -> None:
    daemon.on("session.get", located(serve(ONE_FRAME, hold=True)))
    with pytest.raises(StreamError, match="fell silent"):
        client.attach(SESSION_ID).record(tmp_path / "f", timeout=0.1)


async def test_cancelled_recording_is_a_whole_stream(
    aclient: AsyncClient, daemon: StubDaemon, serve: Serve, tmp_path: Path
) -> None:
    daemon.on("session.get", located(serve(ONE_FRAME, hold=True)))
    session = await aclient.attach(SESSION_ID)
    came = asyncio.Event()
    task = asyncio.ensure_future(session.record(tmp_path / "f", on_progress=lambda _: came.set()))
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    *_, end = StreamParser().feed((tmp_path / "f").read_bytes())
    assert end == End(frames=1)


async def test_recording_that_is_cancelled_twice_still_waits_for_the_disk(
    aclient: AsyncClient,
    daemon: StubDaemon,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon.on("session.get", located(serve(ONE_FRAME, hold=True)))
    session = await aclient.attach(SESSION_ID)
    begun, go_on = threading.Event(), threading.Event()
    feed = Tape.feed

    def slowly(tape: Tape, data: bytes) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        feed(tape, data)

    monkeypatch.setattr(Tape, "feed", slowly)
    task = asyncio.ensure_future(session.record(tmp_path / "f"))
    await asyncio.to_thread(begun.wait, PATIENCE)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    *_, end = StreamParser().feed((tmp_path / "f").read_bytes())
    assert end == End(frames=1)


@pytest.mark.parametrize("outcome", ["failed", "completed"])
def test_players_stream_of_a_session_that_fails_is_said_to_be_cut_off(
    client: Client, daemon: StubDaemon, serve: Serve, tmp_path: Path, outcome: str
) -> None:
    found = located(serve(Y4M))
    found["result"]["location"]["format"] = "y4m"
    daemon.on("session.get", found)
    ended = {**found["result"], "phase": "ended", "outcome": outcome, "reason": "why"}
    daemon.on("session.wait", {"result": ended})
    session = client.attach(SESSION_ID)
    if outcome == "completed":
        assert session.record(tmp_path / "f").ended
    else:
        with pytest.raises(StreamError, match="the stream was cut off: why"):
            session.record(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == Y4M


def test_session_that_has_ended_is_named(
    client: Client, daemon: StubDaemon, streamed: StreamServer, tmp_path: Path
) -> None:
    daemon.on("session.get", located(streamed, phase="ended", outcome="completed"))
    with pytest.raises(StreamError, match=f"{SESSION_ID} has ended"):
        client.attach(SESSION_ID).record(tmp_path / "f")
    assert not (tmp_path / "f").exists()


@pytest.fixture
def refused(daemon: StubDaemon) -> str:
    """A session that is stopping, when nothing answers at its location any more; what is to be said of it."""
    server = StreamServer(WHOLE)
    server.close()
    why = {"phase": "stopping", "outcome": "completed", "reason": "why"}
    daemon.on("session.get", located(server, **why))
    return f"^session {SESSION_ID} is stopping: why$"


@pytest.mark.parametrize("how", ["record", "frames", "open_raw"])
def test_reason_of_a_session_that_is_stopping_is_said_where_nothing_answers(
    client: Client, refused: str, tmp_path: Path, how: str
) -> None:
    session = client.attach(SESSION_ID)
    with pytest.raises(StreamError, match=refused):
        getattr(session, how)(*([tmp_path / "f"] if how == "record" else []))
    assert not (tmp_path / "f").exists()


async def test_reason_of_a_session_that_is_stopping_is_said_with_asyncio(
    aclient: AsyncClient, refused: str
) -> None:
    session = await aclient.attach(SESSION_ID)
    with pytest.raises(StreamError, match=refused):
        await session.frames().open()


def test_what_answers_nowhere_although_its_session_runs_is_said_to(
    client: Client, daemon: StubDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operatord_client.session.CUT_SECONDS", 0.05)
    server = StreamServer(WHOLE)
    server.close()
    daemon.on("session.get", located(server))
    with pytest.raises(LocationUnreachable, match="nothing answers"):
        client.attach(SESSION_ID).record(io.BytesIO())


@pytest.mark.parametrize("known", [False, True])
def test_stream_that_was_read_before_is_said_to_be(
    client: Client,
    daemon: StubDaemon,
    serve: Serve,
    known: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("operatord_client.session.CUT_SECONDS", PATIENCE if known else 0.05)
    daemon.on("session.get", found := located(serve(b"")))
    ended = {**found["result"], "phase": "ended", "outcome": "completed", "reason": "why"}
    if known:
        daemon.on("session.wait", {"result": ended})
    said = "hello: why$" if known else "hello; most likely it has been read to its end already"
    with pytest.raises(StreamError, match=said):
        client.attach(SESSION_ID).record(io.BytesIO())


def test_recording_writes_in_no_hurry(client: Client, streamed: StreamServer) -> None:
    """A pipe that is read slowly holds the recording up, and loses nothing."""
    read, write = os.pipe()
    got: list[bytes] = []
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as sink:
        reader = threading.Thread(target=lambda: got.append(source.read()))
        reader.start()
        client.attach(SESSION_ID).record(sink)
        sink.close()
        reader.join(PATIENCE)
    assert got == [stream_of(3)]
