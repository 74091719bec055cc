# SPDX-License-Identifier: MIT
"""OpenIGTLink's messages as bytes: what pyigtl packs is read, what is packed is what pyigtl packs."""

from __future__ import annotations

import numpy as np
import pyigtl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from igtl_lab import LPS, RAS
from pyigtl.messages import MessageBase

from igtl import geometry, messages

PIXELS = np.arange(24, dtype=np.uint8).reshape(1, 4, 6)
MATRIX = np.array([[0.5, 0, 0, 10], [0, 0.25, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])


def theirs(version: int) -> bytes:
    found = pyigtl.ImageMessage(PIXELS, MATRIX, "lps", timestamp=1234567890.75, device_name="Image")
    found.header_version = version
    packed: bytes = found.pack()
    return packed


@pytest.mark.parametrize("version", [1, 2])
def test_an_image_is_packed_as_pyigtl_packs_it(version: int) -> None:
    place = {"spacing": (0.5, 0.25), "origin": (10.0, 20.0, 30.0)}
    head = messages.image_head(
        1, messages.UINT8, (6, 4), geometry.to_matrix(place, (6, 4), LPS), LPS
    )
    ours = messages.message("IMAGE", "Image", 1234567890.75, (head, PIXELS.tobytes()), version)
    assert ours == theirs(version)


@pytest.mark.parametrize("version", [1, 2])
def test_what_pyigtl_packs_is_read(version: int) -> None:
    packed = memoryview(theirs(version))
    header, body = messages.Header(packed[:58]), packed[58:]
    assert (header.version, header.type, header.device) == (version, "IMAGE", "Image")
    assert header.time == 1234567890.75
    assert messages.crc64(body) == header.crc
    image = messages.Image(messages.content(header, body))
    assert (image.components, image.scalar, image.size) == (1, messages.UINT8, (6, 4, 1))
    assert image.whole
    assert image.pixels == PIXELS.tobytes()
    assert geometry.from_matrix(image.matrix, (6, 4), image.coordinates) == {
        "spacing": [0.5, 0.25],
        "orientation": [1, 0, 0, 0, 1, 0],
        "origin": [10, 20, 30],
    }


def test_metadata_is_no_part_of_the_content() -> None:
    found = pyigtl.StringMessage("words", device_name="Words")
    found.header_version, found.metadata = 2, {"one": "1", "two": "2"}
    packed = memoryview(found.pack())
    header = messages.Header(packed[:58])
    assert bytes(messages.content(header, packed[58:]))[4:] == b"words"


def test_a_status_is_what_pyigtl_reads() -> None:
    packed = messages.status("operatord", 5.0, "all is well", 2)
    fields = MessageBase.parse_header(packed[:58])
    assert (fields["message_type"], fields["device_name"]) == ("STATUS", "operatord")
    assert fields["body_size"] == len(packed) - 58
    assert messages.STATUS.unpack_from(packed, 58 + 12)[0] == messages.OK


@pytest.mark.parametrize(
    ("own", "index", "metadata"), [(11, 0, 0), (12, 0, 2**32 - 1), (200, 0, 0)], ids=str
)
def test_an_extended_header_that_says_too_much_is_refused(
    own: int, index: int, metadata: int
) -> None:
    header = messages.Header(messages.HEADER.pack(2, b"IMAGE", b"", 0, 0, 0, 0))
    body = messages.EXTENDED.pack(own, index, metadata, 0) + bytes(20)
    with pytest.raises(ValueError, match="extended header"):
        messages.content(header, memoryview(body))


@pytest.mark.parametrize("data", [bytes(58), b'{"type":"hello"}'.ljust(58), b"\xff" * 58])
def test_what_is_no_header_is_told_from_one(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"version|ascii"):
        messages.Header(data)


def test_coordinates_of_both_kinds_lie_where_dicom_says() -> None:
    """x to the right and y to the front are negative x and y of DICOM; the middle is half an image away."""
    matrix = (0.5, 0, 0, 0, 0.25, 0, 0, 0, 1, 10, 20, 30)
    right = geometry.from_matrix(matrix, (5, 3), RAS)
    left = geometry.from_matrix(matrix, (5, 3), LPS)
    assert right["orientation"] == [-1, 0, 0, 0, -1, 0]
    assert right["origin"] == [-10 + 2 * 0.5, -20 + 0.25, 30]
    assert left["origin"] == [10 - 2 * 0.5, 20 - 0.25, 30]


def test_a_matrix_that_tells_nothing_says_nothing() -> None:
    assert geometry.from_matrix([0.0] * 12, (4, 4), RAS) == {}
    assert geometry.from_matrix([float("nan")] * 12, (4, 4), RAS) == {}


@given(
    st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)),
    st.lists(st.floats(-500, 500), min_size=3, max_size=3),
    st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    st.sampled_from([RAS, LPS]),
)
def test_a_place_survives_the_matrix(
    spacing: tuple[float, float], origin: list[float], size: tuple[int, int], coordinates: int
) -> None:
    place = {"spacing": list(spacing), "orientation": [0, 1, 0, 0, 0, -1], "origin": origin}
    matrix = geometry.to_matrix(place, size, coordinates)
    found = geometry.from_matrix(matrix, size, coordinates)
    for name, values in place.items():
        assert found[name] == pytest.approx(values, abs=1e-4)
