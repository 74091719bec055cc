# SPDX-License-Identifier: MIT
"""A stage that serves another protocol than the stream format: its greeting, its frames, its end."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import CONSUME, HOST, PATIENCE, PICTURE, Consumer, check, play
from stage_lab import Runner, stream

DIALECT = """
class Shouting(stage.Dialect):
    first_bytes = b"FRAM"
    def greeting(self, hello):
        return b"HELLO %s %d\\n" % (hello["stream"].encode(), hello["width"])
    def frame(self, header, parts):
        assert sorted(parts) == ["image", "mask"]
        return b"FRAME %d\\n" % header["seq"] + bytes(parts["mask"])
    def end(self, frames, dropped):
        return b"FRAMES %d %d\\n" % (frames, dropped)
stage.serve(lambda frame: {"mask": frame.image}, wire=Shouting())
"""


@pytest.mark.parametrize("format", ["json", "y4m"])
def test_consumers_get_greeting_frames_and_end(
    run: Runner, pool: ThreadPoolExecutor, format: str
) -> None:
    port, _ = play(pool, *stream(2))
    own = run(DIALECT, port, format=format)

    with Consumer(own.port) as consumer:
        assert consumer.line() == b"HELLO own 16\n"
        assert consumer.rest() == b"".join(
            [b"FRAME 0\n", PICTURE, b"FRAME 1\n", PICTURE, b"FRAMES 2 0\n"]
        )
    assert own.ended().code == 0


def test_a_check_gets_the_greeting_and_costs_no_frame(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(1))
    own = run(DIALECT, port, checked=True)

    assert check(own.port) == b"HELLO own 16\n"
    with Consumer(own.port) as consumer:
        assert [consumer.line(), consumer.line()] == [b"HELLO own 16\n", b"FRAME 0\n"]


def test_a_client_that_speaks_the_other_protocol_is_a_consumer(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(1))
    own = run(DIALECT, port)

    with socket.create_connection((HOST, own.port), PATIENCE) as sock:
        sock.sendall(b"\x00\x01GET_STATUS\x00" * 9)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as said:
            assert said.read().endswith(b"FRAMES 1 0\n")
    assert own.ended().code == 0


def test_a_slow_client_does_not_hold_up_the_others(run: Runner, pool: ThreadPoolExecutor) -> None:
    """Its readers cannot ask for frames to be dropped, so the policy is `fastest`."""
    port, played = play(pool, *stream(24_000))
    own = run(DIALECT, port, checked=True)
    with Consumer(own.port) as slow, Consumer(own.port) as fast:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert slow.line() == b"HELLO own 16\n"
        fast.sock.sendall(CONSUME)
        check(own.port)
        whole = fast.rest()
        assert whole.endswith(b"FRAMES 24000 0\n")
        lost = int(slow.rest().rpartition(b"FRAMES ")[2].split()[1])
        assert lost > 0
    played.result()


def test_what_a_dialect_raises_is_told_as_that_of_a_function(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(1))
    own = run(DIALECT.replace('"mask": frame.image', '"other": b""'), port)

    assert own.reason() == "own0: Shouting.frame() raised AssertionError (frame 0)"
