# SPDX-License-Identifier: MIT
"""Sources that speak TLS, with certificates that nobody on this machine knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from camera_lab import Camera, Consumer, mjpeg_server, rtsp_server
from certificates import Authority, server_context

Launch = Callable[..., Camera]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, of an authority of its own."""
    return Authority(tmp_path_factory.mktemp("tls")).sign("camera")


def test_a_camera_is_read_by_rtsps_whoever_has_signed_its_certificate_if_it_is_not_checked(
    launch: Launch, certificate: tuple[Path, Path]
) -> None:
    with rtsp_server(user="operator", password="geheim", tls=certificate) as server:
        camera = launch(server.url("operator:geheim@"), tls_verify=False)
        with Consumer(camera.port()) as consumer:
            assert (consumer.hello["width"], consumer.hello["fps"]) == (320, 25)
            assert len(consumer.frames(5)) == 5


def test_a_web_server_needs_a_certificate_that_can_be_checked(
    launch: Launch, jpegs: list[bytes], certificate: tuple[Path, Path]
) -> None:
    with mjpeg_server(jpegs, tls=server_context(certificate)) as server:
        url = f"https://127.0.0.1:{server.port}/video"
        ended = launch(url).ended()
        assert ended.code == 3
        assert "certificate" in ended.sentences
        assert "tls_verify" in ended.sentences
        camera = launch(url, tls_verify=False)
        with Consumer(camera.port()) as consumer:
            assert len(consumer.frames(5)) == 5
