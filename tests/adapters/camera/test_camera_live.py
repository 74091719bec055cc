# SPDX-License-Identifier: MIT
"""Live sources: an RTSP server, a web server's MJPEG; with passwords, and with drops."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from urllib.parse import quote

import pytest
import shared_host
from camera_lab import PASSWORD, Camera, Consumer, mjpeg_server, rtsp_server

Launch = Callable[..., Camera]


def test_a_camera_with_rtsp_is_read(launch: Launch) -> None:
    with rtsp_server() as server:
        camera = launch(server.url())
        with Consumer(camera.port()) as consumer:
            size = {"width": 320, "height": 240, "format": "gray8", "fps": 25}
            assert consumer.hello.items() >= size.items()
            frames = consumer.frames(10)
        steps = [25 * (b.pts - a.pts) for a, b in itertools.pairwise(frames)]
        # Of a live source the newest count, so a busy machine may miss some.
        assert all(round(step) >= 1 and abs(step - round(step)) < 0.3 for step in steps), steps
        assert len({frame.image for frame in frames}) > 5, "the ball does not move"


def test_pictures_without_times_have_those_of_their_arrival(
    launch: Launch, jpegs: list[bytes]
) -> None:
    with mjpeg_server(jpegs, interval=0.2) as server:
        camera = launch(f"http://127.0.0.1:{server.port}/video")
        with Consumer(camera.port()) as consumer:
            assert consumer.hello["fps"] == 0, "nobody knows its rate"
            # What came while ffmpeg looked at the source comes at once.
            times = [frame.pts for frame in consumer.frames(14)][8:]
    assert times[-1] - times[0] > 2.5 * 0.2, f"counted as 25 a second, they take 0.2 s: {times}"


def test_a_picture_does_not_wait_for_the_next_one(launch: Launch, jpegs: list[bytes]) -> None:
    with mjpeg_server(jpegs, most=len(jpegs)) as server:
        url = f"http://127.0.0.1:{server.port}/video"
        camera = launch(url, stall_timeout=2, reconnect_timeout=0)
        with Consumer(camera.port()) as consumer:
            while (frame := consumer.frame()) and frame.level < 10 * len(jpegs) - 4:
                pass
    assert frame, "the last picture before a silence was not sent on"


def test_another_rate_of_pictures_without_times_is_counted_by_the_clock(
    launch: Launch, jpegs: list[bytes]
) -> None:
    with mjpeg_server(jpegs, interval=0.2) as server:
        camera = launch(f"http://127.0.0.1:{server.port}/video", fps=10)
        with Consumer(camera.port()) as consumer:
            assert consumer.hello["fps"] == 10
            frames = consumer.frames(12)
    assert len({frame.image for frame in frames}) < 10, "each picture stands for two frames"
    steps = [10 * (b.pts - a.pts) for a, b in itertools.pairwise(frames)]
    assert all(abs(step - round(step)) < 0.01 for step in steps), steps


def test_a_password_opens_and_is_never_shown(launch: Launch) -> None:
    userinfo = f"operator:{quote(PASSWORD, safe='')}@"
    with rtsp_server(user="operator", password=PASSWORD) as server:
        camera = launch(server.url(userinfo), count=5)
        with Consumer(camera.port()) as consumer:
            assert "operator" not in camera.decoder_arguments()
            environment = camera.decoder_environment()
            assert "PATH=" in environment
            assert quote(PASSWORD, safe="") not in environment
            assert len(consumer.frames()) == 5
        ended = camera.ended()
        assert ended.code == 0
        for secret in ("operator", PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in ended.sentences + str(ended.report)


def test_a_wrong_password_is_told_at_once(launch: Launch) -> None:
    with rtsp_server(user="operator", password=PASSWORD) as server:
        ended = launch(server.url("operator:wr0ng@")).ended()
    assert ended.code == 3
    assert f"cannot open {server.url()}: " in ended.sentences
    assert "the source wants other credentials" in ended.sentences
    assert "wr0ng" not in ended.sentences


def test_a_source_that_drops_is_opened_again(launch: Launch, jpegs: list[bytes]) -> None:
    port = shared_host.free_port()
    url = f"http://viewer:l0gin@127.0.0.1:{port}/video?key=s3same"
    with mjpeg_server(jpegs, port):
        camera = launch(url)
        consumer = Consumer(camera.port())
        before = consumer.frames(5)
    with consumer:
        lost = camera.sentence()
        while "was lost" not in lost:
            lost = camera.sentence()
        with mjpeg_server(jpegs, port):
            camera.report_until(reconnects=1)
            after = consumer.frames(5)
    camera.process.terminate()
    ended = camera.ended()
    assert f"http://127.0.0.1:{port}/video is back after" in ended.sentences
    assert after[-1].pts > before[-1].pts
    assert after[-1].seq > before[-1].seq
    for secret in ("viewer", "l0gin", "s3same"):
        assert secret not in lost + ended.sentences


def test_a_source_that_comes_back_with_another_password_ends_the_stream(launch: Launch) -> None:
    port = shared_host.free_port()
    with rtsp_server(port, "operator", "before"):
        camera = launch(f"rtsp://operator:before@127.0.0.1:{port}/camera", stall_timeout=2)
        consumer = Consumer(camera.port())
        consumer.frames(2)
    with consumer, rtsp_server(port, "operator", "after"):
        ended = camera.ended()
    assert ended.code == 4
    assert "cannot be opened again yet: rtsp: method DESCRIBE failed: 401" in ended.sentences
    last = ended.sentences.splitlines()[-1]
    assert "refuses to be read" in last
    assert "register the probe with them" in last


def test_a_path_that_a_web_server_does_not_have_is_told_at_once(
    launch: Launch, jpegs: list[bytes]
) -> None:
    with mjpeg_server(jpegs) as server:
        said = launch(f"http://127.0.0.1:{server.port}/none").ended().sentences
        known = launch(
            f"http://127.0.0.1:{server.port}/none", source_shown="http://cam.lab/none"
        ).ended()
    assert f"cannot open http://127.0.0.1:{server.port}/none: http: HTTP error 404" in said
    assert "nothing is at that path" in said
    assert "cannot open http://cam.lab/none: " in known.sentences
    assert str(server.port) not in known.sentences


def test_a_source_that_stays_away_ends_the_stream(launch: Launch, jpegs: list[bytes]) -> None:
    with mjpeg_server(jpegs) as server:
        camera = launch(f"http://127.0.0.1:{server.port}/video", reconnect_timeout=0)
        with Consumer(camera.port()) as consumer:
            consumer.frames(3)
            server.close()
            consumer.frames()
            assert consumer.end is None
    ended = camera.ended()
    assert ended.code == 4
    assert "was lost, and did not come back" in ended.sentences


def test_who_is_slow_gets_the_newest_pictures(launch: Launch, jpegs: list[bytes]) -> None:
    with mjpeg_server(jpegs) as server:
        # Pictures that no buffer of a kernel takes for long.
        camera = launch(f"http://127.0.0.1:{server.port}/video", width=3000, height=3000)
        with Consumer(camera.port()) as consumer:
            consumer.frames(1)
            while not camera.line().get("source_dropped"):
                pass
            seen = [frame.seq for frame in consumer.frames(6)]
    assert seen != list(range(seen[0], seen[0] + 6))


@pytest.mark.parametrize("kind", ["playlist", "script"])
def test_a_playlist_leads_nowhere(launch: Launch, jpegs: list[bytes], kind: str) -> None:
    with mjpeg_server(jpegs) as server:
        ended = launch(f"http://127.0.0.1:{server.port}/{kind}", connect_timeout=5).ended()
        assert server.connections == 1
    assert ended.code == 3
