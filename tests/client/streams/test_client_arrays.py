# SPDX-License-Identifier: MIT
"""Pictures as numpy's arrays: the same memory, and nothing of numpy before that."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy
import pytest

from operatord_protocol.pictures.pixels import PIXELS
from operatord_protocol.stream import Frame, FrameHeader, Part, StreamParser

STREAM = (
    b'{"type":"hello","stream":"x","width":3,"height":2}\n'
    b'{"type":"frame","seq":0,"parts":[{"name":"image","bytes":6},{"name":"mask","bytes":6}]}\n'
    b"\x01\x02\x03\x04\x05\x06\x00\xff\x00\x00\x00\x00"
)


@pytest.fixture
def frame() -> Frame:
    frame = StreamParser().feed(STREAM)[1]
    assert isinstance(frame, Frame)
    return frame


def test_rows_and_columns(frame: Frame) -> None:
    assert frame.array.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert frame.array.dtype == numpy.uint8
    mask = frame.mask_array
    assert mask is not None
    assert mask.tolist() == [[0, 255, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("format", "rows", "dtype"),
    [
        ("gray8", [[0, 1, 2], [3, 4, 5]], numpy.uint8),
        ("gray16le", [[0x0100, 0x0302, 0x0504], [0x0706, 0x0908, 0x0B0A]], numpy.uint16),
        (
            "rgb24",
            [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[9, 10, 11], [12, 13, 14], [15, 16, 17]]],
            numpy.uint8,
        ),
    ],
)
def test_each_format_has_an_array_of_its_own(format: str, rows: list[Any], dtype: type) -> None:
    size = 6 * PIXELS[format].bytes
    parts = [Part("image", size), Part("mask", 6)]
    payloads = {"image": bytes(range(size)), "mask": b"\x00\xff" * 3}
    frame = Frame(FrameHeader(0, parts), payloads, 3, 2, format)
    assert frame.array.tolist() == rows
    assert frame.array.dtype == dtype and not frame.array.flags.writeable
    assert frame.mask_array is not None
    assert frame.mask_array.tolist() == [[0, 255, 0], [255, 0, 255]]


def test_a_format_that_is_not_known_has_no_array() -> None:
    frame = Frame(FrameHeader(0, [Part("image", 2)]), {"image": b"12"}, 1, 1, "yuyv422")
    with pytest.raises(
        ValueError, match="'yuyv422' cannot be made into arrays, only gray8, gray16le"
    ):
        _ = frame.array
    assert frame.image == b"12"


def test_nothing_is_copied_and_nothing_can_be_written(frame: Frame) -> None:
    own = numpy.frombuffer(frame.image, numpy.uint8)
    assert frame.array.__array_interface__["data"] == own.__array_interface__["data"]
    assert not frame.array.flags.writeable


def test_numpy_takes_a_frame_for_its_picture(frame: Frame) -> None:
    """N11."""
    own = numpy.asarray(frame)
    assert own.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert own.__array_interface__["data"] == frame.array.__array_interface__["data"]
    assert numpy.asarray(frame, dtype=float).mean() == 3.5
    assert numpy.array(frame).flags.writeable
    assert numpy.stack([frame, frame]).shape == (2, 2, 3)


def test_plain_stream_has_no_mask() -> None:
    header = FrameHeader(seq=0, parts=[Part(name="image", bytes=1)])
    assert Frame(header, {"image": b"1"}, 1, 1).mask_array is None


def test_pictures_of_another_format_are_no_rows() -> None:
    header = FrameHeader(seq=0, parts=[Part(name="image", bytes=2)])
    with pytest.raises(ValueError, match="reshape"):
        _ = Frame(header, {"image": b"12"}, 3, 2).array


def test_without_numpy_it_says_what_to_do(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "numpy", missing)
    with pytest.raises(ImportError, match="pip install numpy"):
        _ = frame.array


def test_numpy_is_loaded_by_nothing_else() -> None:
    code = "import sys, operatord_client.frames; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
