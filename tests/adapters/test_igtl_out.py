# SPDX-License-Identifier: MIT
"""openigtlink-out: a stream as OpenIGTLink, to several clients; pyigtl is 3D Slicer."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyigtl
import pytest
from igtl_lab import HOST, PATIENCE, Adapter, Reader, packed, viewer

Start = Callable[..., Adapter]
RANDOM = np.random.default_rng(7)
IMAGE_HEAD = struct.Struct(">HBBBB3H12f6H")
CHECK = b'{"type":"check"}\n'


class Upstream:
    """A segmentation that sends one stage what it is told to, and stays until it is closed."""

    def __init__(self, **hello: Any) -> None:
        self.server = socket.create_server((HOST, 0))
        self.port = self.server.getsockname()[1]
        size = {"width": 6, "height": 4, "format": "gray8", "fps": 0}
        self._hello = {"type": "hello", "stream": "segmentation", **size, **hello}
        self._pieces: list[bytes] = [self._line(self._hello)]
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @staticmethod
    def _line(said: dict[str, Any]) -> bytes:
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"

    def frame(self, seq: int, parts: dict[str, bytes], **more: Any) -> None:
        """Send a frame."""
        sizes = [{"name": name, "bytes": len(data)} for name, data in parts.items()]
        header = {"type": "frame", "seq": seq, "pts": seq / 10, "parts": sizes, **more}
        self._send(self._line(header) + b"".join(parts.values()))

    def end(self) -> None:
        """Send the end."""
        self._send(self._line({"type": "end", "frames": 0, "dropped": 0}))

    def _send(self, data: bytes) -> None:
        with self._changed:
            self._pieces.append(data)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(PATIENCE)
        self.server.close()

    def _serve(self) -> None:
        sock, _ = self.server.accept()
        with sock:
            while piece := self._next():
                sock.sendall(piece)

    def _next(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._over)
            return self._pieces.pop(0) if self._pieces else b""


@pytest.fixture
def upstream(left: ExitStack) -> Callable[..., Upstream]:
    def make(**hello: Any) -> Upstream:
        found = Upstream(**hello)
        left.callback(found.close)
        return found

    return make


def grey() -> np.ndarray[Any, Any]:
    return RANDOM.integers(0, 256, (4, 6), dtype=np.uint8)


def test_pictures_masks_and_transforms_come_bit_by_bit_to_two_clients(
    upstream: Any, igtl_out: Start
) -> None:
    chain = upstream(count=3)
    stage = igtl_out(chain.port)
    sent = [(grey(), np.where(grey() > 99, np.uint8(255), np.uint8(0))) for _ in range(3)]
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    passed = pyigtl.TransformMessage(pose, device_name="Pose", timestamp=9).pack()
    with viewer(stage.port) as one, viewer(stage.port) as two:
        stage.report_until(consumers=2)
        for seq, (picture, mask) in enumerate(sent):
            parts = {"image": picture.tobytes(), "mask": mask.tobytes(), "igtl": passed}
            chain.frame(seq, parts, time=100.0 + seq)
        for each in (one, two):
            for (picture, mask), image, label in zip(
                sent, each.take(3, "Image"), each.take(3, "Mask"), strict=True
            ):
                assert (image.image[0] == picture).all()
                assert (label.image[0] == mask).all()
                assert image.image.dtype == label.image.dtype == np.uint8
            assert [image.timestamp for image in each.of("Image")] == [100.0, 101.0, 102.0]
            assert [label.timestamp for label in each.of("Mask")] == [100.0, 101.0, 102.0]
            assert each.take(3, "Pose")[2].matrix.tolist() == pose.tolist()
        chain.end()
        assert stage.ended()[0] == 0


FORMATS: list[tuple[str, dict[str, Any], str, int]] = [
    ("gray16le", {}, "<u2", 5),
    ("gray16le", {"meta": {"offset": 32768}}, "<i2", 4),
    ("rgb24", {}, "u1", 3),
]


@pytest.mark.parametrize("case", FORMATS, ids=["uint16", "int16", "colour"])
@pytest.mark.parametrize("version", [1, 2])
def test_pixels_of_each_format(upstream: Any, igtl_out: Start, case: Any, version: int) -> None:
    format, more, kind, scalar = case
    shape = (4, 6, 3) if format == "rgb24" else (4, 6)
    limits = np.iinfo(kind)
    pixels = RANDOM.integers(limits.min, limits.max + 1, shape).astype(kind)
    coded = (pixels.astype(int) + 32768).astype("<u2") if more else pixels
    chain = upstream(format=format, **more)
    stage = igtl_out(chain.port, header_version=version, device="US", unread="hold")
    chain.frame(0, {"image": coded.tobytes()})
    with Reader(stage.port) as reader, viewer(stage.port) as slicer:
        greeting, message = reader.take(2)
        assert (greeting.kind, greeting.body[12 * (version - 1) :][:2]) == ("STATUS", b"\0\1")
        assert (message.kind, message.device, message.version) == ("IMAGE", "US", version)
        found = IMAGE_HEAD.unpack_from(message.body, 12 * (version - 1))
        assert found[1:4] == (3 if format == "rgb24" else 1, scalar, 2)
        assert (slicer.take(1, "US")[0].image[0] == pixels).all()


def test_the_place_of_the_pictures(upstream: Any, igtl_out: Start) -> None:
    """What the hello says in DICOM's words, pyigtl has in RAS; a frame that has moved says so itself."""
    place = {"spacing": [0.5, 0.25], "orientation": [1, 0, 0, 0, 1, 0], "origin": [10, 20, 30]}
    chain = upstream(**place)
    stage = igtl_out(chain.port, unread="hold")
    chain.frame(0, {"image": grey().tobytes()})
    chain.frame(1, {"image": grey().tobytes()}, origin=[10, 20, 31])
    with viewer(stage.port) as slicer:
        still, moved = slicer.take(2, "Image")
    expected = np.array([[-0.5, 0, 0, -10], [0, -0.25, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]])
    assert still.world_coordinate_system == "ras"
    assert np.allclose(still.ijk_to_world_matrix, expected, atol=1e-5)
    expected[2, 3] = 31
    assert np.allclose(moved.ijk_to_world_matrix, expected, atol=1e-5)


def test_a_client_that_does_not_read_holds_up_nobody(upstream: Any, igtl_out: Start) -> None:
    chain = upstream(width=1000, height=1000)
    stage = igtl_out(chain.port, unread="hold")
    picture = {"image": bytes(1000 * 1000)}
    with Reader(stage.port) as lazy, Reader(stage.port, b"I am here") as eager:
        lazy.take(1)
        eager.take(1)
        for seq in range(40):
            chain.frame(seq, picture)
            assert len(eager.take(1)[0].body) == IMAGE_HEAD.size + 1000 * 1000
        assert stage.report_until(consumers=2)["dropped"] > 0


def test_a_check_gets_the_greeting_and_costs_no_frame(upstream: Any, igtl_out: Start) -> None:
    chain = upstream()
    stage = igtl_out(chain.port, checked=True, unread="hold")
    chain.frame(0, {"image": grey().tobytes()})
    with Reader(stage.port) as early, Reader(stage.port, CHECK) as check:
        assert check.take(1)[0].kind == "STATUS"
        check.sock.shutdown(socket.SHUT_WR)
        assert check.message() is None
        assert [each.kind for each in early.take(2)] == ["STATUS", "IMAGE"]


def test_what_clients_send_is_read_and_ignored(upstream: Any, igtl_out: Start) -> None:
    chain = upstream()
    stage = igtl_out(chain.port, unread="hold")
    asked = packed("GET_IMAGE", "Image", b"") + packed("STT_TDATA", "T", bytes(36), 2)
    said = asked + packed("STATUS", "Slicer", bytes(30)) * 2000
    with Reader(stage.port, said) as reader:
        assert reader.take(1)[0].kind == "STATUS"
        for seq in range(3):
            chain.frame(seq, {"image": grey().tobytes()})
            assert reader.take(1)[0].kind == "IMAGE"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("device", "x" * 21, "up to 20"),
        ("mask_device", "Ü", "up to 20"),
        ("header_version", 3, "1 to 2"),
    ],
)
def test_bad_settings_are_told(igtl_out: Start, setting: str, value: object, said: str) -> None:
    code, sentence = igtl_out(1, **{setting: value}).ended()
    assert code == 2
    assert setting in sentence
    assert said in sentence
