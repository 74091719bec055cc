# SPDX-License-Identifier: MIT
"""URLs of probes: taken apart, shown without credentials, led elsewhere; and the paths that are allowed."""

from __future__ import annotations

import pytest
from effort import effort

from operatord.core.sources.local import LocalPlaces, parse_place
from operatord.core.sources.url import parse_source

SCHEMES = ("rtsp", "http", "file", "v4l2", "igtl", "srt")


@pytest.mark.parametrize(
    ("url", "shown", "elsewhere"),
    [
        ("rtsp://u:p@cam/1?x=2", "rtsp://cam/1?x=2", "rtsp://u:p@192.0.2.7:5/1?x=2"),
        ("RTSP://u%40lab@cam:99", "rtsp://cam:99", "rtsp://u%40lab@192.0.2.7:5"),
        ("igtl://[fd00::1]?device=Image", "igtl://[fd00::1]?device=Image", "igtl://192.0.2.7:5?device=Image"),
        ("http://h/m?usr=a&pwd=b&n=1", "http://h/m?usr=***&pwd=***&n=1", "http://192.0.2.7:5/m?usr=a&pwd=b&n=1"),
        ("srt://h:9", "srt://h:9", "srt://192.0.2.7:5"),
    ],
)  # fmt: skip
def test_url_is_shown_without_credentials_and_leads_elsewhere_with_them(
    url: str, shown: str, elsewhere: str
) -> None:
    source = parse_source(url, SCHEMES)
    assert source.shown == shown
    assert source.at("192.0.2.7", 5) == elsewhere
    assert source.text == url


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("?%70assword=geheim&n=1", "?%70assword=***&n=1"),
        ("?password%3dgeheim", "?password%3d***"),
        ("?password=geheim;geheim&n=1", "?password=***&n=1"),
        ("?password=a=geheim", "?password=***"),
        ("?n=1;password=geheim", "?n=1;password=***"),
        ("?n=1?password=geheim", "?n=1?password=***"),
        ("?jwt=geheim&pin=geheim&credentials=geheim", "?jwt=***&pin=***&credentials=***"),
        ("?spinning=1&mode=2&channel=3", "?spinning=1&mode=2&channel=3"),
        ("?q=password;n=3", "?q=password;n=3"),
        (
            "user=admin_password=ge_heim=geheim_channel=1_stream=0.sdp?real_stream",
            "user=***_password=***_channel=1_stream=0.sdp?real_stream",
        ),
        ("user%3Da_password%3Dgeheim_channel%3D1", "user%3D***_password%3D***_channel%3D1"),
        ("x;password=geheim/live", "x;password=***/live"),
        ("user=u&password=geheim&channel=1", "user=***&password=***&channel=1"),
    ],
)
def test_values_with_names_of_credentials_are_not_shown(path: str, shown: str) -> None:
    assert parse_source(f"rtsp://h/{path}", SCHEMES).shown == f"rtsp://h/{shown}"


@pytest.mark.parametrize(
    "path",
    ["?" * 1000 + "pw" * 500, "?" + "&" * 2000, "?" + "=" * 2000, "?" + ";" * 2000 + "=", "_user=" * 330,
     "?" + "p" * 2000, "a" * 2000 + "=", "?" + "%" * 2000 + "="],
)  # fmt: skip
def test_no_url_takes_longer_to_mask_than_its_length_says(path: str) -> None:
    """A pattern that tries again from each character takes thousands of times as long."""
    harmless = effort(lambda: parse_source(f"http://h/{'b' * len(path)}", SCHEMES))
    assert effort(lambda: parse_source(f"http://h/{path}", SCHEMES)) < 200 * harmless


def test_what_a_url_says() -> None:
    source = parse_source("rtsp://ada:a%2Fb%40c@cam.lab/live", SCHEMES)
    assert (source.host, source.port, source.path) == ("cam.lab", 554, "/live")
    assert source.credentials == ("ada", "a/b@c")
    assert parse_source("rtsp://cam", SCHEMES).credentials is None
    assert parse_source("rtsp://[::1]:8/", SCHEMES).at("fd00::1", 9) == "rtsp://[fd00::1]:9/"
    assert parse_source("file:///srv/a%20b", SCHEMES).path == "/srv/a b"
    assert parse_source("v4l2:/dev/video0", SCHEMES).path == "/dev/video0"


@pytest.mark.parametrize(
    "url",
    [
        "geheim",
        "geheim://h/",
        "rtsp:geheim",
        "rtsp://",
        "rtsp:///geheim",
        "rtsp://u:geheim@",
        "rtsp://u:geheim@h:x",
        "rtsp://u:geheim@h:0",
        "rtsp://u:geheim@h:65536",
        "rtsp://u:geheim@h:",
        "rtsp://u:geheim@a@h/",
        "rtsp://u:/geheim@h/",
        "rtsp://u:?geheim@h/",
        "rtsp://u:#geheim@h/",
        "rtsp://u:geheim@::1/",
        "rtsp://u:geheim@[::1/",
        "rtsp://u:geheim@-h/",
        "rtsp://u:geheimß@h/",
        "srt://u:geheim@h/",
        "tcp://u:geheim@h:1",
        "tcp://h:1/geheim",
        "file:geheim",
        "file://host/geheim",
        "file:/srv/../geheim",
        "file:/srv/%2e%2e/geheim",
        "file:/srv//geheim",
        "file://geheim/",
        "file:/srv/geheim/",
        "file:/srv/geheim%0a",
        "file:/srv/geheim?loop",
    ],
)
def test_error_of_a_url_that_is_none_has_nothing_of_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w{4}") as refused:
        parse_source(url, SCHEMES)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("scheme", "path", "place"),
    [
        ("file", "/srv/rec", "/srv/rec"),
        ("file", "/srv/rec/a/b", "/srv/rec"),
        ("file", "/srv/recordings", None),
        ("file", "/srv", None),
        ("v4l2", "/dev/video0", "/dev/video0"),
        ("v4l2", "/dev/video12", "/dev/video12"),
        ("v4l2", "/dev/video0/x", None),
        ("v4l2", "/dev/sda", None),
        ("v4l2", "/srv/rec/a", None),
        ("file", "/dev/video0", None),
    ],
)
def test_places_are_compared_as_text(scheme: str, path: str, place: str | None) -> None:
    places = LocalPlaces([parse_place("file:/srv/rec"), parse_place("v4l2:/dev/video*")])
    assert places.place_of(scheme, path) == place


@pytest.mark.parametrize(
    "entry",
    ["file:", "file:/", "file:/proc/1", "file:srv", "file:/srv/*", "file:/srv/..", "v4l2:/srv",
     "v4l2:/dev/*/x", "v4l2:video0"],
)  # fmt: skip
def test_place_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"\w{4}") as refused:
        parse_place(entry)
    assert "in the container" not in str(refused.value), "it is a path of the machine"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("file:srv", "a path of the engine's machine is absolute, and 'srv' is not"),
        ("file:/", "/ cannot be given to a stage; allow something else"),
        ("file:/proc/1", "/proc/1 cannot be given to a stage; allow something else"),
    ],
)
def test_place_that_is_none_is_told_as_a_path_of_the_machine(entry: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_place(entry)
    assert str(refused.value) == said
