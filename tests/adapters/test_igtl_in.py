# SPDX-License-Identifier: MIT
"""openigtlink-in: a server's pictures as a stream, whatever their byte order and headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyigtl
import pytest
from igtl_lab import HOST, LPS, PATIENCE, Adapter, Scanner, image, packed, pyigtl_server

Start = Callable[..., Adapter]
Scan = Callable[..., Scanner]
RANDOM = np.random.default_rng(5)
GREY = RANDOM.integers(0, 256, (4, 6), dtype=np.uint8)


def picture(pixels: Any = GREY, device: str = "Image", version: int = 1, **more: Any) -> bytes:
    """Return an IMAGE message."""
    outer = {name: more.pop(name) for name in ("time", "crc") if name in more}
    return packed("IMAGE", device, image(pixels, **more), version, **outer)


class Stream:
    """A consumer of the stream format, which knows nothing of what makes it."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((HOST, port), PATIENCE)
        self.file = self.sock.makefile("rb")
        self.hello = json.loads(self.file.readline())

    def frame(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the next frame: its header, and its parts by name."""
        header = json.loads(self.file.readline())
        parts = {part["name"]: self.file.read(part["bytes"]) for part in header["parts"]}
        return header, parts

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def read() -> Iterator[Callable[[int], Stream]]:
    made: list[Stream] = []

    def open_stream(port: int) -> Stream:
        made.append(Stream(port))
        return made[-1]

    yield open_stream
    for each in made:
        each.close()


KINDS = [(1, "|u1"), (2, "|u1"), (1, "<u2"), (2, ">u2"), (1, ">i2"), (2, "<i2")]


@pytest.mark.parametrize(("version", "kind"), KINDS, ids=str)
def test_pictures_of_either_byte_order_and_header(
    scanner: Scan, igtl_in: Start, read: Any, version: int, kind: str
) -> None:
    dtype = np.dtype(kind)
    format = "gray8" if dtype.itemsize == 1 else "gray16le"
    limits = np.iinfo(dtype)
    pixels = RANDOM.integers(limits.min, limits.max + 1, (4, 6)).astype(dtype)
    stage = igtl_in(scanner(picture(pixels, version=version)).url())
    stream = read(stage.port)
    said = stream.hello
    assert (said["width"], said["height"], said["format"]) == (6, 4, format)
    found = np.frombuffer(stream.frame()[1]["image"], "<u2" if format == "gray16le" else "u1")
    offset = said.get("meta", {}).get("offset", 0)
    assert offset == (32768 if "i" in kind else 0)
    assert (found.astype(int) - offset == pixels.astype(int).ravel()).all()


def test_colour(scanner: Scan, igtl_in: Start) -> None:
    """Until stages read it, the hello is what shows that it is understood."""
    pixels = RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stage = igtl_in(scanner(picture(pixels)).url())
    with socket.create_connection((HOST, stage.port), PATIENCE) as sock:
        hello = json.loads(sock.makefile("rb").readline() or "null")
    assert hello is None or hello["format"] == "rgb24"


def test_pyigtls_server_picture_place_and_transform(igtl_in: Start, read: Any) -> None:
    matrix = np.array([[0.5, 0, 0, 10], [0, 0.25, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    with pyigtl_server() as server:
        stage = igtl_in(f"igtl://{HOST}:{server.socket.getsockname()[1]}?device=Image")
        for number in range(3):
            server.send_message(pyigtl.TransformMessage(pose, device_name="Pose"), wait=False)
            sent = pyigtl.ImageMessage(GREY[None] ^ number, matrix, timestamp=100 + number / 4)
            sent.device_name = "Image"
            server.send_message(sent, wait=False)
        stream = read(stage.port)
        frames = [stream.frame() for _ in range(3)]
    assert stream.hello["spacing"] == [0.5, 0.25]
    assert stream.hello["orientation"] == [1, 0, 0, 0, 1, 0]
    assert stream.hello["origin"] == [10, 20, 30]
    for number, (header, parts) in enumerate(frames):
        assert parts["image"] == (GREY ^ number).tobytes()
        assert (header["seq"], header["pts"], header["time"]) == (
            number,
            number / 4,
            100 + number / 4,
        )
        head = pyigtl.messages.MessageBase.parse_header(parts["igtl"][:58])
        found = pyigtl.TransformMessage()
        found.unpack(head, parts["igtl"][58:])
        assert (found.device_name, found.matrix.tolist()) == ("Pose", pose.tolist())


def test_a_picture_that_has_moved_says_where_it_lies(
    scanner: Scan, igtl_in: Start, read: Any
) -> None:
    still = (0.5, 0, 0, 0, 0.5, 0, 0, 0, 1, 0, 0, 0)
    moved = (0.5, 0, 0, 0, 0.5, 0, 0, 0, 1, 0, 0, 7)
    sent = [picture(matrix=matrix, coordinates=LPS) for matrix in (still, still, moved)]
    stream = read(igtl_in(scanner(b"".join(sent)).url()).port)
    headers = [stream.frame()[0] for _ in range(3)]
    assert stream.hello["origin"] == [-1.25, -0.75, 0]
    assert ["origin" in header for header in headers] == [False, False, True]
    assert headers[2]["origin"] == [-1.25, -0.75, 7]


LEFT_OUT = {
    "checksum": (picture(crc=1), "bad_crc", "checksum is wrong"),
    "video": (packed("VIDEO", "Image", bytes(30)), "refused", "VIDEO messages are left out"),
    "volume": (picture(np.zeros((8, 6), np.uint8), slices=2), "refused", "2 slices"),
    "part": (picture(part=(0, 0, 0, 3, 3, 1)), "refused", "sub-volumes"),
    "float": (picture(np.zeros((4, 6), np.float32)), "refused", "scalar type 10"),
    "four": (picture(np.zeros((4, 6, 4), np.uint8)), "refused", "4 components"),
    "short": (packed("IMAGE", "Image", image(GREY)[:-1]), "refused", "has 23 bytes"),
    "nothing": (packed("IMAGE", "Image", b""), "refused", "too short for an image"),
    "other": (picture(device="Other"), "refused", "pictures of 'Other' are left out"),
}


@pytest.mark.parametrize("case", LEFT_OUT.values(), ids=list(LEFT_OUT))
def test_what_cannot_be_shown_is_left_out_counted_and_told_once(
    scanner: Scan, igtl_in: Start, read: Any, case: tuple[bytes, str, str]
) -> None:
    message, counted, said = case
    first, last = picture(GREY), picture(~GREY)
    stage = igtl_in(scanner(first + message + message + last).url("?device=Image"))
    stream = read(stage.port)
    found = [stream.frame() for _ in range(2)]
    assert [header["seq"] for header, _ in found] == [0, 1]
    assert [parts["image"] for _, parts in found] == [GREY.tobytes(), (~GREY).tobytes()]
    assert stage.report_until(**{counted: 2})["connects"] == 1
    _, sentences = stage.stop()
    assert sentences.count(said) == 1


def test_pictures_of_another_size_end_the_stream(scanner: Scan, igtl_in: Start, read: Any) -> None:
    larger = np.zeros((8, 6), np.uint8)
    stage = igtl_in(scanner(picture() + picture(larger)).url())
    stream = read(stage.port)
    assert stream.frame()[1]["image"] == GREY.tobytes()
    assert stream.file.read() == b""  # cut off, and not at an end
    code, said = stage.ended()
    assert code == 4
    assert "the pictures were 6×4 gray8 and now are 6×8 gray8" in said


def test_a_server_that_is_lost_is_connected_to_again(
    scanner: Scan, igtl_in: Start, read: Any
) -> None:
    server = scanner(picture(time=100.0), picture(~GREY, time=102.0))
    stage = igtl_in(server.url())
    stream = read(stage.port)
    assert stream.frame()[0]["pts"] == 0
    server.hang_up()
    header, parts = stream.frame()
    assert (header["seq"], header["pts"], parts["image"]) == (1, 2.0, (~GREY).tobytes())
    assert "it has closed the connection; tried again" in stage.sentence()
    assert stage.report_until(connects=2)["refused"] == 0


def test_what_speaks_something_else_is_told(scanner: Scan, igtl_in: Start) -> None:
    stage = igtl_in(scanner(b"HTTP/1.0 200 OK\r\n".ljust(200)).url(), connect_timeout=1)
    code, said = stage.ended()
    assert code == 3
    assert "no picture of any device came within 1 s" in said
    assert "is not OpenIGTLink" in said


def test_a_scanner_is_never_held_up(scanner: Scan, igtl_in: Start, read: Any) -> None:
    """Of more pictures than anybody takes, the newest come, and the others are counted."""
    large = picture(np.zeros((1000, 1000), np.uint8))
    server = scanner(large)
    stage = igtl_in(server.url())
    assert stage.port  # it listens, and nobody reads
    for _ in range(30):
        server.send(large)
    stream = read(stage.port)
    seqs = [stream.frame()[0]["seq"]]
    while seqs[-1] < 30:
        seqs.append(stream.frame()[0]["seq"])
    assert len(seqs) < 20
    assert seqs == sorted(seqs)
    assert stage.report_until(frames=len(seqs), skipped=31 - len(seqs))["dropped"] == 0


def test_it_ends_after_as_many_frames_as_are_asked_for(
    scanner: Scan, igtl_in: Start, read: Any
) -> None:
    stage = igtl_in(scanner(picture() * 3).url(), count=2)
    stream = read(stage.port)
    assert stream.hello["count"] == 2
    for _ in range(2):
        stream.frame()
    assert json.loads(stream.file.readline()) == {"type": "end", "frames": 2, "dropped": 0}
    stream.close()
    assert stage.ended()[0] == 0


BAD_URLS = [
    "",
    "tcp://h:1",
    "igtl://",
    "igtl://h:0",
    "igtl://h:x",
    "igtl://h?devise=x",
    "igtl://h/path",
]


def test_a_slip_in_the_query_is_named(igtl_in: Start) -> None:
    code, said = igtl_in("igtl://h?dev=Image").ended()
    assert code == 2
    assert "'dev' is not known in its query; did you mean 'device'?" in said


@pytest.mark.parametrize("url", [*BAD_URLS, f"igtl://h?device={'x' * 21}"])
def test_a_bad_url_is_told_without_repeating_it(igtl_in: Start, url: str) -> None:
    code, said = igtl_in(url).ended()
    assert code == 2
    assert "source_url must be igtl://HOST:PORT?device=NAME" in said
    assert len(url) < 8 or url not in said
