# SPDX-License-Identifier: MIT
"""What goes wrong: sources that cannot be opened, signals, and a machine without ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import shared_host
from camera_lab import PATIENCE, Camera, Consumer, make_video

Launch = Callable[..., Camera]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:/nowhere/scan.mkv", "cannot open file:/nowhere/scan.mkv: No such file or directory"),
        ("v4l2:/dev/video-none", "cannot open v4l2:/dev/video-none: "),
        (f"file:{__file__}", "Invalid data found"),
    ],
)
def test_what_is_not_there_is_told_at_once(launch: Launch, url: str, said: str) -> None:
    ended = launch(url).ended()
    assert ended.code == 3
    assert said in ended.sentences


def test_a_source_is_tried_for_as_long_as_it_may_take(launch: Launch) -> None:
    port = shared_host.free_port()
    ended = launch(f"rtsp://a:b@127.0.0.1:{port}/camera", connect_timeout=1).ended()
    assert ended.code == 3
    said = f"cannot open rtsp://127.0.0.1:{port}/camera within 1 s: "
    assert said in ended.sentences
    assert "Connection refused" in ended.sentences


def test_a_crop_beyond_the_picture_is_told(launch: Launch, recording: Path) -> None:
    ended = launch(f"file:{recording}", crop="4000:3000:0:0").ended()
    assert ended.code == 3
    assert "Invalid too big or non positive size" in ended.sentences


def test_pictures_that_no_stage_takes_are_told(launch: Launch, recording: Path) -> None:
    ended = launch(f"file:{recording}", width=8000, height=8000).ended()
    assert ended.code == 3
    assert "pictures of 8000×8000 have 64000000 bytes" in ended.sentences


def test_a_camera_of_4k_in_colour_is_told_how_to_get_pictures(
    launch: Launch, decoder: str, tmp_path: Path
) -> None:
    """What is advised works: the largest width, and grey."""
    path = tmp_path / "large.mkv"
    source = ["-f", "lavfi", "-i", "color=white:size=3840x2160:rate=10", "-frames:v", "2"]
    subprocess.run([decoder, "-loglevel", "error", *source, "-c:v", "mjpeg", str(path)], check=True)
    ended = launch(f"file:{path}", pixel_format="rgb24").ended()
    assert ended.code == 3
    limit = "more than the 16777216 that a stage sends"
    ways = "set width to 3152 or less, or crop, or take gray8 as pixel_format"
    assert f"3840×2160 have 24883200 bytes, {limit}: {ways}" in ended.sentences
    smaller: dict[str, object] = {"pixel_format": "rgb24", "width": 3152}
    for env, size in ((smaller, 3152 * 1773 * 3), ({"pixel_format": "gray8"}, 3840 * 2160)):
        with Consumer(launch(f"file:{path}", **env).port()) as consumer:
            assert [len(frame.image) for frame in consumer.frames()] == [size, size]


def test_a_small_file_with_a_huge_picture_is_refused_before_it_is_decoded(
    launch: Launch, decoder: str, tmp_path: Path
) -> None:
    path = tmp_path / "huge.png"
    huge = ["-f", "lavfi", "-i", "color=black:size=8400x8400:rate=1,format=gray", "-frames:v", "1"]
    subprocess.run([decoder, "-loglevel", "error", *huge, str(path)], check=True)
    assert path.stat().st_size < 1 << 20
    ended = launch(f"file:{path}", width=64).ended()
    assert ended.code == 3
    assert "8400x8400 exceeds specified max pixel count" in ended.sentences


def test_a_path_is_no_pattern_of_other_files(
    launch: Launch, jpegs: list[bytes], tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.jpg").write_bytes(jpegs[number])
    (tmp_path / "p%d.jpg").touch()
    ended = launch(f"file:{tmp_path}/p%25d.jpg").ended()
    assert ended.code == 3
    assert "not on whitelist" in ended.sentences


def test_without_ffmpeg_it_says_so(launch: Launch, recording: Path, tmp_path: Path) -> None:
    ended = launch(f"file:{recording}", PATH=tmp_path).ended()
    assert ended.code == 2
    assert "ffmpeg cannot be started, is it installed?" in ended.sentences


def test_a_bad_setting_is_told(launch: Launch) -> None:
    ended = launch("file:scan.mkv").ended()
    assert ended.code == 2
    assert "source_url must name a whole path" in ended.sentences


def test_a_signal_ends_it_and_its_decoder(launch: Launch, recording: Path) -> None:
    camera = launch(f"file:{recording}", loop=True)
    with Consumer(camera.port()) as consumer:
        consumer.frames(2)
        children = Path(f"/proc/{camera.process.pid}/task/{camera.process.pid}/children")
        (decoder,) = children.read_text().split()
        camera.process.terminate()
        assert camera.process.wait(PATIENCE) == 143
    assert not Path(f"/proc/{decoder}").exists()


def test_it_is_told_late_what_to_read(launch: Launch, recording: Path) -> None:
    camera = launch("", OPERATORD_LATE_BIND=1, fps=0)
    assert camera.line() == {"type": "waiting"}
    assert camera.process.stdin
    camera.process.stdin.write(b'{"env":{"source_url":"file:%s"}}\n' % bytes(recording))
    camera.process.stdin.flush()
    with Consumer(camera.port()) as consumer:
        assert len(consumer.frames()) == 20
    assert camera.ended().code == 0


def test_a_recording_that_was_cut_says_how_much_is_there(
    launch: Launch, decoder: str, tmp_path: Path
) -> None:
    whole = make_video(
        decoder, tmp_path / "a.mp4", "-c:v", "mpeg4", "-movflags", "faststart", frames=100
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for path, said in ((whole, ""), (cut, "and says that it has 5.0 s: it may have been cut")):
        camera = launch(f"file:{path}", fps=0)
        with Consumer(camera.port()) as consumer:
            frames = consumer.frames()
        ended = camera.ended()
        assert ended.code == 0
        assert said in ended.sentences
        assert bool(said) == ("ends after" in ended.sentences)
        assert (len(frames) == 100) == (not said)
