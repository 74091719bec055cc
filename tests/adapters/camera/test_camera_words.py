# SPDX-License-Identifier: MIT
"""URLs, settings, ffmpeg's arguments and ffmpeg's messages: what holds without any source."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

SECRET = "rtsp://admin:s3cr%40t@cam.lab:8554/live?token=t0ken&channel=101"


@pytest.fixture
def settings_of(modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that reads the settings of an environment."""

    def read(url: str = "rtsp://cam.lab/live", **env: object) -> Any:
        for name, value in {"source_url": url, **env}.items():
            monkeypatch.setenv(name, str(value))
        return modules.camera_settings.read_settings()

    return read


@pytest.mark.parametrize(
    ("text", "target", "shown", "live"),
    [
        ("rtsp://u:p@h:554/a?b=c", "rtsp://u:p@h:554/a?b=c", "rtsp://h:554/a", True),
        ("rtsps://[fd00::1]:322/a", "rtsps://[fd00::1]:322/a", "rtsps://[fd00::1]:322/a", True),
        (
            "rtsp://h/user=u_password=geheim_channel=1",
            "rtsp://h/user=u_password=geheim_channel=1",
            "rtsp://h/user=***",
            True,
        ),
        (
            "http://h/pw%3Dgeheim/scan=1.mp4",
            "http://h/pw%3Dgeheim/scan=1.mp4",
            "http://h/pw=***/scan=***",
            False,
        ),
        ("http://h/video", "http://h/video", "http://h/video", True),
        ("https://h/a/scan.MP4", "https://h/a/scan.MP4", "https://h/a/scan.MP4", False),
        ("file:/srv/a%20b.mkv", "file:/srv/a b.mkv", "file:/srv/a b.mkv", False),
        ("file:///srv/ä.mkv", "file:/srv/ä.mkv", "file:/srv/ä.mkv", False),
        ("v4l2:/dev/video0", "/dev/video0", "v4l2:/dev/video0", True),
    ],
)
def test_a_url_is_taken_apart(
    modules: SimpleNamespace, text: str, target: str, shown: str, live: bool
) -> None:
    url = modules.camera_url.parse_url(text)
    assert (url.target, url.shown, url.is_live) == (target, shown, live)


def test_a_password_in_a_path_is_kept_out_of_what_ffmpeg_says(modules: SimpleNamespace) -> None:
    text = "rtsp://h/user=u_password=geheim_channel=1"
    secrets = modules.camera_url.parse_url(text).secrets
    assert "geheim" not in modules.ffmpeg_words.redact(f"{text}: Connection refused", secrets)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://h/a", "must begin with one of rtsp, rtsps, http, https, file, v4l2"),
        ("rtsp:///a", "must name a host"),
        ("rtsp://h:port/a", "a host or port that is none"),
        ("rtsp://h/a b", "written as %XX"),
        ("rtsp://h/a\nfile '/etc/passwd'", "printable"),
        ("file:scan.mkv", "a whole path"),
        ("file://elsewhere/scan.mkv", "a whole path"),
    ],
)
def test_a_url_that_cannot_be_opened_is_refused_without_being_repeated(
    modules: SimpleNamespace, text: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        modules.camera_url.parse_url(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"crop": "10:10"}, "crop must be WIDTH:HEIGHT:X:Y"),
        ({"crop": "0:10:0:0"}, "crop must be WIDTH:HEIGHT:X:Y"),
        ({"fps": "fast"}, "fps must be a number from 0 to 1000"),
        ({"fps": "1/0"}, "fps must be a number from 0 to 1000"),
        ({"fps": "0"}, "fps=0 is for recordings"),
        ({"width": "70000"}, "width must be a whole number"),
        ({"pixel_format": "yuv"}, "pixel_format must be one of gray8, gray16le, rgb24"),
        ({"loop": "true"}, "rtsp://cam.lab/live is live and has no end"),
        ({"device_size": "big"}, "device_size must be as 1280x720"),
        ({"source_url": ""}, "source_url is missing"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    settings_of: Callable[..., Any], modules: SimpleNamespace, env: dict[str, str], said: str
) -> None:
    with pytest.raises(modules.capture.Fault, match=said) as caught:
        settings_of(**env)
    assert caught.value.code == 2


def test_credentials_are_not_among_the_arguments(
    settings_of: Callable[..., Any], modules: SimpleNamespace
) -> None:
    call = modules.ffmpeg_command.decoder_call(settings_of(SECRET))
    assert "cam.lab" not in " ".join(call.arguments)
    assert f"file '{SECRET}'\n".encode() in call.listing


def test_a_url_is_one_word_of_the_list(
    settings_of: Callable[..., Any], modules: SimpleNamespace
) -> None:
    call = modules.ffmpeg_command.decoder_call(settings_of("http://h/it's"))
    assert b"file 'http://h/it'\\''s'\n" in call.listing


def test_the_filters_crop_before_they_scale(
    settings_of: Callable[..., Any], modules: SimpleNamespace
) -> None:
    settings = settings_of(crop="640:480:10:20", width=320, fps="30000/1001", pixel_format="rgb24")
    assert settings.fps == Fraction(30000, 1001)
    filters = modules.ffmpeg_command._filters
    rest = "crop=640:480:10:20:exact=1,scale=320:-1"
    assert ",".join(filters(settings, (0, 0))) == f"fps=30000/1001,{rest}"
    assert "scale=320:240" in filters(settings, (320, 240)), "a lost source keeps its size"
    call = modules.ffmpeg_command.decoder_call(settings)
    assert f"fps=30000/1001,{rest},format=rgb24" in call.arguments


@pytest.mark.parametrize(
    ("said", "full", "matrix"),
    [
        ("yuv420p(tv, bt709, progressive), 64x48 [SAR 1:1], q=2-31, 184 kb/s", False, 1),
        ("yuvj420p(pc, bt470bg/unknown/unknown, progressive), 64x48", True, 5),
        ("yuv444p(pc, unknown/bt709/bt709), 64x48", True, 2),
        ("yuv422p(8 bpc, tv, smpte170m/bt709/bt709, bottom coded first (swapped)), 6x4", False, 6),
        ("yuvj422p, 64x48", True, 2),
        ("yuv420p, 64x48", False, 2),
    ],
)
def test_the_colours_that_are_written_are_read_from_its_words(
    modules: SimpleNamespace, said: str, full: bool, matrix: int
) -> None:
    words = modules.ffmpeg_words
    line = f"Stream #0:0: Video: rawvideo (I420 / 0x30323449), {said}"
    assert words.written_colours(words.parse_words(f"[info]   {line}", ()).text) == (full, matrix)
    assert words.written_colours("Stream #0:0: Video: mjpeg (Baseline), yuvj420p(pc), 6x4") is None


def test_the_reason_is_what_says_most(modules: SimpleNamespace) -> None:
    reason = modules.ffmpeg_words.reason
    said = ["concat: Impossible to open 'rtsp://h/x'", "pipe:0: Connection timed out"]
    assert reason(said, opened=False) == reason(said, opened=True) == "Connection timed out"
    assert reason(said[:1], opened=True) == said[0]
    assert reason([], opened=False) == "it ended"


def test_a_device_is_asked_for_what_is_wanted(
    settings_of: Callable[..., Any], modules: SimpleNamespace
) -> None:
    asked = {"device_format": "mjpeg", "device_size": "1280x720", "device_fps": "30"}
    call = modules.ffmpeg_command.decoder_call(settings_of("v4l2:/dev/video0", **asked))
    wanted = "-f v4l2 -input_format mjpeg -video_size 1280x720 -framerate 30 -i /dev/video0"
    assert wanted in " ".join(call.arguments)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"[error] {SECRET}: Connection refused", "rtsp://cam.lab:8554/live: Connection refused"),
        (
            "[rtsp @ 0x55d] [error] Impossible to open 'rtsp://admin:s3cr%40t@cam.lab/x?y=z'",
            "rtsp: Impossible to open 'rtsp://cam.lab/x'",
        ),
        ("[png @ 0x5] [IMGUTILS @ 0x7] [error] too large", "png: too large"),
        ("[http @ 0x5] [error] bad login admin, s3cr@t", "http: bad login ***, ***"),
        ("[error] told t0ken", "told ***"),
        ("[error] http://other:word@h/ and http://h/?key=word", "http://h/ and http://h/"),
        ("[error] to http://h/?http://h/?key=word: no", "to http://h/: no"),
        ("[error] http://h/http://h/a?key=word", "http://h/http://h/a"),
    ],
)
def test_messages_are_free_of_credentials(modules: SimpleNamespace, line: str, shown: str) -> None:
    secrets = modules.camera_url.parse_url(SECRET).secrets
    assert modules.ffmpeg_words.parse_words(line, secrets) == ("error", shown)


def test_a_relay_is_called_what_the_source_was_registered_as(modules: SimpleNamespace) -> None:
    url = modules.camera_url.parse_url("rtsp://u:p@10.0.0.9:4711/a", "rtsp://cam.lab/a?pwd=***")
    assert (url.shown, url.target) == ("rtsp://cam.lab/a?pwd=***", "rtsp://u:p@10.0.0.9:4711/a")
    said = "[tcp @ 0x5] [error] Connection to tcp://10.0.0.9:4711?timeout=0 failed"
    line = modules.ffmpeg_words.parse_words(said, url.secrets, url.hidden_place)
    assert line.text == "tcp: Connection to tcp://cam.lab failed"
    assert modules.camera_url.parse_url("rtsp://10.0.0.9/a").hidden_place == ("", "")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("mov,mp4: moov atom not found", "; it is no recording, or not a whole one"),
        ("file:/a.mkv: Permission denied", "; the user of this stage may not read it"),
        ("Stream map '0:v:0' matches no streams", "; there is no video in it"),
        ("stream 0, offset 0x2c: partial file", "; its table is at its end, and the web server"),
        ("rtsp: method DESCRIBE failed: 401 Unauthorized", "; the source wants other credentials"),
        ("tcp: Connection refused", ""),
    ],
)
def test_what_can_be_done_about_an_error_is_said(
    modules: SimpleNamespace, said: str, advice: str
) -> None:
    found = modules.ffmpeg_words.advice([said, "Invalid argument"])
    assert found.startswith(advice) and bool(found) == bool(advice)


def test_the_rate_is_in_the_description_of_the_stream(modules: SimpleNamespace) -> None:
    fps = modules.ffmpeg_words.source_fps
    assert fps("  Stream #0:0[0x1](und): Video: h264 (High), yuv420p, 29.97 fps, 90k tbn") == 29.97
    assert fps("  Stream #0:0: Video: h264, yuv420p, 640x480, 60k fps, 90k tbr") is None
    assert fps("  Stream #0:1: Audio: aac, 48000 Hz") is None


def test_a_rate_that_ffmpeg_has_made_up_is_told_by_its_ticks(modules: SimpleNamespace) -> None:
    untimed = modules.ffmpeg_words.is_untimed
    assert untimed("  Stream #0:0: Video: mjpeg (Baseline), 64x48, 25 fps, 25 tbr, 25 tbn")
    assert untimed("  Stream #0:0: Video: mjpeg, yuvj420p, 64x48, 25 fps, 25 tbr, 1200k tbn")
    assert not untimed("  Stream #0:0: Video: mjpeg, 320x240, 25 fps, 25 tbr, 90k tbn")


@pytest.mark.parametrize("part", ["://", "://@", "Stream #0:0: Video: ", "://?:", "[a @ "])
def test_a_long_line_takes_no_time(modules: SimpleNamespace, part: str) -> None:
    words, begun = modules.ffmpeg_words, time.process_time()
    line = words.parse_words(f"[info] {part * 20_000}", ("secret",))
    words.source_fps(line.text)
    words.source_fps(part * 20_000)
    assert time.process_time() - begun < 1


def test_the_rest_of_a_line_without_end_is_not_looked_at(modules: SimpleNamespace) -> None:
    longest = modules.decoder.LONGEST_LINE
    said = b"a\n" + b"b" * (3 * longest) + b"[error] forged\nc\nd"
    lines = list(modules.decoder.beginnings(io.BytesIO(said)))
    assert lines == [b"a\n", b"b" * longest, b"c\n", b"d"]
