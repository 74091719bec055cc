# SPDX-License-Identifier: MIT
"""NUT as ffmpeg writes it, in any chunks."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FRAMES = 9
TIMES = [number / 20 for number in range(FRAMES)]


def written(decoder: str, size: str, *options: str) -> bytes:
    source = f"color=gray:size={size}:rate=20,format=gray,geq=lum=20*N"
    command = [decoder, "-loglevel", "error", "-f", "lavfi", "-i", source, "-frames:v", str(FRAMES)]
    nut = ["-fps_mode", "passthrough", *options, "-c:v", "rawvideo", "-f", "nut", "pipe:1"]
    return subprocess.run([*command, *nut], check=True, capture_output=True).stdout


@pytest.fixture(scope="session", params=["4x2", "300x200"])
def stream(request: pytest.FixtureRequest, decoder: str) -> bytes:
    """Small pictures, whose times are written short, and large ones."""
    return written(decoder, request.param, "-enc_time_base", "1:90000")


@contextlib.contextmanager
def sent(chunks: Sequence[bytes]) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Send chunks, in a thread; yield the other end and a socket that is never ready."""
    receiver, sender = socket.socketpair()
    stop, stopper = socket.socketpair()

    def write() -> None:
        with sender:
            for chunk in chunks:
                sender.sendall(chunk)

    thread = threading.Thread(target=write)
    thread.start()
    with receiver, stop, stopper:
        yield receiver, stop
        for _ in iter(lambda: receiver.recv(1 << 20), b""):
            pass
    thread.join()


def read_all(modules: SimpleNamespace, chunks: Sequence[bytes]) -> list[tuple[float, int]]:
    """Return each frame's time, and the level of its pixels, which is the same for all of them."""
    found = []
    with sent(chunks) as (sock, stop):
        reader = modules.nut.NutReader(sock, stop)
        with contextlib.suppress(EOFError):
            while True:
                moment, size = reader.next_frame()
                assert size == reader.width * reader.height
                picture = bytearray(size)
                reader.read_frame(memoryview(picture))
                assert len(set(picture)) == 1
                found.append((round(moment, 6), picture[0]))
    return found


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 4000), max_size=30))
def test_any_chunks_give_the_same_frames(
    modules: SimpleNamespace, stream: bytes, cuts: list[int]
) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    expected = [(moment, 20 * number) for number, moment in enumerate(TIMES)]
    assert read_all(modules, chunks) == expected


def test_a_stream_that_is_cut_ends_with_its_last_whole_frame(
    modules: SimpleNamespace, decoder: str
) -> None:
    stream = written(decoder, "300x200")
    cut = stream[: len(stream) // 2]
    assert [level for _, level in read_all(modules, [cut])] == [0, 20, 40, 60]


def test_other_bytes_are_named(modules: SimpleNamespace) -> None:
    with sent([b"RIFF" * 100]) as (sock, stop), pytest.raises(modules.nut.NutError):
        modules.nut.NutReader(sock, stop)


def test_silence_is_noticed(modules: SimpleNamespace) -> None:
    stop, stopper = socket.socketpair()
    receiver, sender = socket.socketpair()
    with stop, stopper, receiver, sender:
        with pytest.raises(TimeoutError):
            modules.nut.NutReader(receiver, stop, 0.01)
        stopper.close()
        with pytest.raises(EOFError):
            modules.nut.NutReader(receiver, stop)


def test_silence_within_a_picture_is_noticed(modules: SimpleNamespace, decoder: str) -> None:
    stream = written(decoder, "300x200")
    stop, stopper = socket.socketpair()
    receiver, sender = modules.decoder.pictures_channel()
    with stop, stopper, receiver, sender:
        sender.sendall(stream[: len(stream) // 2])
        reader = modules.nut.NutReader(receiver, stop, 0.01)
        with pytest.raises(TimeoutError):
            while True:
                _, size = reader.next_frame()
                reader.read_frame(memoryview(bytearray(size)))
        stopper.close()
        with pytest.raises(EOFError):
            reader.read_frame(memoryview(bytearray(1 << 20)))
