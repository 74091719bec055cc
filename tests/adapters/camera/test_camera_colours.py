# SPDX-License-Identifier: MIT
"""Pictures in colour: those that the stage converts are as ffmpeg's, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from camera_lab import Camera, Consumer

Launch = Callable[..., Camera]

BT709 = "-colorspace bt709 -color_primaries bt709 -color_trc bt709"
SOURCES = {
    "limited": "64x48 ffv1 yuv420p",
    "bt709": f"64x48 ffv1 yuv420p {BT709}",
    "bt709-full": f"64x48 ffv1 yuvj420p {BT709}",
    "bt2020": "64x48 ffv1 yuv422p -colorspace bt2020nc",
    "jpeg": "64x48 mjpeg yuvj420p",
    "jpeg-422": "64x48 mjpeg yuvj422p",
    "jpeg-444": "64x48 mjpeg yuvj444p",
    "ragged": "70x50 ffv1 yuv420p",
    "odd": "33x27 ffv1 yuv420p",
    "odd-rows": "64x27 ffv1 yuv422p",
    "a-pixel": "1x1 ffv1 yuv444p",
    "rgb": "70x50 png rgb24",
    "gray": "70x50 ffv1 gray",
    "webcam": "70x50 rawvideo yuyv422",
    "webcam-odd": "33x27 rawvideo uyvy422",
    "hardware": "70x50 rawvideo nv12",
    "ten-bits": "33x27 ffv1 yuv420p10le",
    "ten-bits-422": f"70x50 ffv1 yuv422p10le {BT709}",
    "ten-bits-444": "64x48 ffv1 yuv444p10le",
}
"""Kinds of files: the size of their pictures, the codec, the layout, and what else ffmpeg is told."""


def make(decoder: str, folder: Path, name: str) -> Path:
    size, codec, layout, *options = SOURCES[name].split()
    path = folder / f"{name}.{'nut' if codec == 'rawvideo' else 'mkv'}"
    # Many colours, also such as luma and chroma of no colour have.
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=5,noise=alls=60:allf=t"]
    command = [decoder, "-loglevel", "error", "-y", *source, "-frames:v", "3", "-s", size]
    code = ["-c:v", codec, "-pix_fmt", layout, *options]
    subprocess.run([*command, *code, str(path)], check=True)
    return path


def converted(decoder: str, path: Path) -> bytes:
    """Return the pictures of a file as ffmpeg makes them rgb24 by itself."""
    command = [decoder, "-loglevel", "error", "-i", str(path), "-fps_mode", "passthrough"]
    raw = ["-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]
    return subprocess.run([*command, *raw], check=True, capture_output=True).stdout


@pytest.mark.parametrize("name", SOURCES)
def test_colours_are_ffmpegs(launch: Launch, decoder: str, tmp_path: Path, name: str) -> None:
    path = make(decoder, tmp_path, name)
    camera = launch(f"file:{path}", fps=0, pixel_format="rgb24")
    with Consumer(camera.port()) as consumer:
        frames = consumer.frames()
    expected = converted(decoder, path)
    size = len(expected) // 3
    for number, frame in enumerate(frames):
        picture = expected[number * size : (number + 1) * size]
        off = max(abs(a - b) for a, b in zip(frame.image, picture, strict=True))
        assert off == 0, f"picture {number}"
    assert len(frames) == 3


def test_a_machine_without_the_library_is_known(
    modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.colours, "VERSIONS", (0,))
    assert modules.colours.library() is None


def test_nothing_beyond_the_picture_is_written(modules: SimpleNamespace) -> None:
    swscale = modules.colours.library()
    assert swscale
    for layout in modules.colours.LAYOUTS.values():
        for width in (1, 7, 16, 33, 64, 66):
            converter = modules.colours.Converter(
                swscale, layout, (width, 9), modules.colours.Colours()
            )
            converter.source[:] = b"\x80" * len(converter.source)
            around = bytearray(b"\xaa" * (27 * width + 512))
            converter.convert(memoryview(around)[256:-256])
            converter.close()
            assert around[:256] == around[-256:] == b"\xaa" * 256
            assert 0xAA not in around[256:-256], "a pixel was left out"


@pytest.mark.parametrize("pixels", ["gray8", "rgb24"])
def test_a_source_whose_pictures_change_goes_on_with_the_size_that_it_had(
    launch: Launch, decoder: str, tmp_path: Path, pixels: str
) -> None:
    both = tmp_path / "both.m2v"
    for number, size in enumerate(("64x48", "96x64")):
        source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=5:duration=1"]
        part = tmp_path / f"{number}.m2v"
        command = [decoder, "-loglevel", "error", *source, "-c:v", "mpeg2video"]
        subprocess.run(
            [*command, "-pix_fmt", ("yuv420p", "yuv422p")[number], str(part)], check=True
        )
        with both.open("ab") as file:
            file.write(part.read_bytes())
    camera = launch(f"file:{both}", fps=0, pixel_format=pixels)
    with Consumer(camera.port()) as consumer:
        frames = consumer.frames()
    bytes_per_pixel = {"gray8": 1, "rgb24": 3}[pixels]
    assert {len(frame.image) for frame in frames} == {64 * 48 * bytes_per_pixel}
    assert len(frames) > 5, "frames of both parts"
    assert camera.ended().code == 0
