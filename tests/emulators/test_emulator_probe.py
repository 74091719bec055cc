# SPDX-License-Identifier: MIT
"""The probe as its consumers see it."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from emulator_stages import Consumer, Launcher, check, glance, receive, sequence


def test_a_consumer_gets_hello_then_exactly_count_frames_then_end(launch: Launcher) -> None:
    probe = launch("probe", count=300)

    hello, frames, end = receive(probe.port)

    assert json.dumps(hello, separators=(",", ":")) == (
        '{"type":"hello","stream":"probe","width":256,"height":256,'
        '"format":"gray8","fps":0,"count":300}'
    )
    assert sequence(frames) == list(range(300))
    assert list(frames[0].header)[:4] == ["type", "seq", "pts", "parts"]
    assert frames[0].header["parts"] == [{"name": "image", "bytes": 65536}]
    assert end == {"type": "end", "frames": 300, "dropped": 0}
    ended = probe.ended()
    assert ended.code == 0
    assert ended.report == {
        "type": "report", "stage": "probe", "frames": 300, "dropped": 0, "consumers": 0, "blocked": 0,
        "every": 1,
    }  # fmt: skip


def test_every_connection_gets_a_sequence_of_its_own(launch: Launcher) -> None:
    probe = launch("probe", count=60)
    with Consumer(probe.port) as one, Consumer(probe.port) as other:
        one.hello(), other.hello()
        first = list(one.frames())
        second = list(other.frames())

    assert sequence(first) == sequence(second) == list(range(60))
    assert [frame.parts for frame in first] == [frame.parts for frame in second]
    assert probe.ended().code == 0


@pytest.mark.parametrize("look", [check, glance])
def test_a_check_costs_nothing_even_if_the_sequence_fits_into_the_kernel(launch, look) -> None:
    probe = launch("probe", count=2, width=16, height=16)

    for _ in range(3):
        assert json.loads(look(probe.port))["count"] == 2

    _, frames, end = receive(probe.port)
    assert sequence(frames) == [0, 1]
    assert end is not None
    assert probe.ended().code == 0


def test_a_consumer_that_has_closed_its_sending_side_gets_everything(launch: Launcher) -> None:
    probe = launch("probe", count=50)
    with Consumer(probe.port) as consumer:
        consumer.sock.shutdown(1)
        consumer.hello()
        assert len(list(consumer.frames())) == 50
    assert probe.ended().code == 0


def test_frames_are_paced(launch: Launcher) -> None:
    probe = launch("probe", count=21, fps=100, width=16, height=16)
    begin = time.monotonic()

    _, frames, _ = receive(probe.port)

    assert time.monotonic() - begin >= 0.2
    assert [frame.header["pts"] for frame in frames[:3]] == [0.0, 0.01, 0.02]


def test_the_same_seed_gives_the_same_pictures(probe_script: SimpleNamespace) -> None:
    one, same, other = (probe_script.pictures.Cycle(64, 48, seed).frame(5) for seed in (1, 1, 2))

    assert one == same
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 1920), (1920, 1920), (255, 33)])
def test_any_size_is_rendered_within_the_cache(probe_script, width: int, height: int) -> None:
    cycle = probe_script.pictures.Cycle(width, height, 0)

    truth, picture = cycle.frame(1)

    assert len(picture) == width * height
    assert cycle.length * len(picture) <= probe_script.pictures.CACHE_BYTES
    shape = probe_script.ellipse.Ellipse(**json.loads(truth))
    inside = b"".join(picture[a:b] for a, b in probe_script.ellipse.spans(shape, width, height))
    assert sum(inside) / len(inside) < 0.8 * sum(picture) / len(picture.replace(b"\0", b""))
