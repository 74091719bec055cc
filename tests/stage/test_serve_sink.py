# SPDX-License-Identifier: MIT
"""A function as a sink: it takes the stream, and passes it on to whoever reads it besides."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import CONSUME, HOST, Consumer, check, frame, hello, play, sequence
from stage_lab import OwnStage, Runner, stream

TAKE = """
def take(frame):
    print('{"type":"taken","seq":%d}' % frame.seq, flush=True)
stage.serve(take, kind="sink")
"""


def taken(own: OwnStage) -> list[int]:
    """Wait for it to end; return the numbers of the frames that it took."""
    return [line["seq"] for line in own.lines() if line["type"] == "taken"]


@pytest.mark.parametrize("count", [3, None])
def test_it_takes_the_stream_though_nobody_reads_it(
    run: Runner, pool: ThreadPoolExecutor, count: int | None
) -> None:
    port, _ = play(pool, *stream(3) if count else stream(3, count=None))
    own = run(TAKE, port)

    assert taken(own) == [0, 1, 2]
    assert own.process.returncode == 0


def test_it_waits_for_the_daemons_check(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, _ = play(pool, *stream(2))
    own = run(TAKE, port, checked=True)
    with Consumer(own.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        check(own.port)

        assert sequence(list(consumer.frames())) == [0, 1]
    assert taken(own) == [0, 1]


def test_the_stream_is_passed_on_as_it_is_and_who_leaves_does_not_matter(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(200))
    own = run(TAKE, port, checked=True)
    with Consumer(own.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        check(own.port)
        assert consumer.frame() is not None

    assert taken(own) == list(range(200))
    assert own.process.returncode == 0


def test_it_has_done_its_work_though_its_only_reader_left_before_the_end(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    """As the last consumer of a filter, this one would have it end with 5."""
    size, count = {"width": 1024, "height": 64}, 8
    frames = [frame(seq, parts=[{"name": "image", "bytes": 65536}]) for seq in range(count)]
    pieces = [hello(count=count, **size), *(head + bytes(65536) for head in frames)]
    port, played = play(pool, *pieces, b'{"type":"end","frames":8}\n')
    own = run(TAKE, port, checked=True)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((HOST, own.port))
        reader.sendall(CONSUME)
        check(own.port)
        played.result()  # it has read to the end

    assert taken(own) == list(range(count))
    assert own.process.returncode == 0


def test_it_is_a_consumer_of_its_own_frames(run: Runner, pool: ThreadPoolExecutor) -> None:
    """So that a daemon does not end the session because nobody reads it."""
    port, _ = play(pool, *stream(1))
    own = run("stage.serve(lambda frame: None, kind='sink')", port, checked=True)

    assert own.port
    report = own.reports_until(type="report")
    assert (report["frames"], report["consumers"]) == (0, 1)
    check(own.port)
    assert own.ended().report["frames"] == 1
