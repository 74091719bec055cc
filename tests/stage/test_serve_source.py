# SPDX-License-Identifier: MIT
"""A generator, or a pipe of raw pictures, as a source: one live stream for all consumers."""

from __future__ import annotations

import pytest
from emulator_stages import CONSUME, PICTURE, Consumer, check, receive, sequence
from stage_lab import Runner

SIZE = "{'width': 16, 'height': 16, 'fps': 30}"
ENDLESS = f"""
import itertools
def frames():
    for number in itertools.count():
        yield bytes([number % 256]) * 256
stage.serve(frames, kind="source", hello={SIZE})
"""
ASKED = f"""
import sys
def frames():
    for line in sys.stdin:          # a frame when the test says so
        yield int(line).to_bytes(1) * 256
stage.serve(frames, kind="source", hello={SIZE})
"""


def test_with_a_count_it_ends_and_all_get_the_same_stream(run: Runner) -> None:
    own = run(ENDLESS, count=3)

    with Consumer(own.port) as first, Consumer(own.port) as second:
        for consumer in (first, second):
            said = consumer.hello()
            assert (said["stream"], said["width"], said["count"]) == ("own", 16, 3)
        for consumer in (first, second):
            frames = list(consumer.frames())
            assert [each.parts[0][0] for each in frames] == sequence(frames) == [0, 1, 2]
            assert frames[0].header["pts"] == 0
            assert consumer.end == {"type": "end", "frames": 3, "dropped": 0}
    assert own.ended().code == 0


def test_without_a_count_frames_are_dropped_until_somebody_comes(run: Runner) -> None:
    own = run(ASKED)
    check(own.port)
    with Consumer(own.port) as consumer:
        consumer.hello()
        assert own.process.stdin is not None
        with Consumer(own.port) as spectator:  # sees what is dropped
            spectator.hello()
            spectator.sock.sendall(b'{"type":"watch"}\n')
        consumer.sock.sendall(CONSUME)
        own.process.stdin.write(b"7\n8\n")
        own.process.stdin.flush()
        assert [consumer.frame().parts[0][0] for _ in range(2)] == [7, 8]  # type: ignore[union-attr]


def test_with_unread_hold_the_generator_waits_for_a_consumer(run: Runner) -> None:
    own = run(ENDLESS, unread="hold", policy="lossless")
    check(own.port)

    with Consumer(own.port) as consumer:
        consumer.hello()
        assert [consumer.frame().header["seq"] for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]


def test_the_end_of_the_generator_is_the_end_of_the_stream(run: Runner) -> None:
    own = run(
        f"""
        def frames():
            yield {{"image": bytes(256), "note": b"hi"}}
            yield stage.Frame(bytes(range(256)), pts=2.5, parts={{"igtl": stage.Part(b"x", n=1)}}, a=1)
            yield memoryview(bytearray(256))
        stage.serve(frames, kind="source", hello={SIZE}, policy="lossless")
        """,
        unread="hold",
    )

    _, frames, end = receive(own.port)

    assert sequence(frames) == [0, 1, 2]
    assert frames[0].parts == (bytes(256), b"hi")
    assert frames[1].parts == (PICTURE, b"x")
    header = {name: frames[1].header[name] for name in ("pts", "a", "parts")}
    parts = [{"name": "image", "bytes": 256}, {"name": "igtl", "n": 1, "bytes": 1}]
    assert header == {"pts": 2.5, "a": 1, "parts": parts}
    assert end == {"type": "end", "frames": 3, "dropped": 0}
    assert own.ended().code == 0


def test_a_generator_is_closed_when_its_stream_ends_before_it_does(run: Runner) -> None:
    own = run(
        f"""
        def frames():
            try:
                while True:
                    yield bytes(256)
            finally:
                print('{{"type":"closed"}}', flush=True)
        stage.serve(frames(), kind="source", hello=lambda: {SIZE})
        """,
        count=1,
    )
    receive(own.port)

    assert own.last_words() == ["report", "closed"]


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            "yield bytes(255)",
            "frames() yielded a part 'image' of 255 bytes: 16×16 of gray8 has 256",
        ),
        ("yield None", "frames() yielded nothing: it must be a picture as bytes or an array"),
        ("yield {'mask': bytes(256)}", "frames() yielded a part 'image' of 0 bytes"),
        ("yield bytes(256); 1 / 0", "frames() raised ZeroDivisionError: division by zero"),
        (
            "yield bytes(256); raise SystemExit(0)",
            "frames() called sys.exit(0), where a source ends its stream by return",
        ),
        ("return 7", "frames() returned int: it must be a generator"),
        ("pass", "frames() returned nothing: it must be a generator"),
    ],
)
def test_what_is_wrong_with_a_generator_is_told_in_a_sentence(
    run: Runner, made: str, sentence: str
) -> None:
    serve = f"stage.serve(frames, kind='source', hello={SIZE})"
    own = run(f"def frames():\n    {made}\n{serve}")

    assert own.reason().startswith(f"own0: {sentence}")


@pytest.mark.parametrize(
    ("hello", "sentence"),
    [
        ("None", "serve() of a source needs a hello, such as"),
        ("{'width': 16}", "the hello cannot be sent: width or height is not a whole number"),
        (
            "{'width': 1, 'height': 1, 'format': 'rgb'}",
            "format is not one of gray8, gray16le, rgb24",
        ),
        (
            "{'width': 9999, 'height': 9999}",
            "a picture has 99980001 bytes, and it may have 16777216",
        ),
    ],
)
def test_a_hello_that_cannot_be_sent_is_told_in_a_sentence(
    run: Runner, hello: str, sentence: str
) -> None:
    own = run(f"stage.serve(iter([]), kind='source', hello={hello})")

    assert sentence in own.reason()


RAW = """
import socket, threading
colours = [bytes([n]) * 16 * 16 * 3 for n in range(3)]
def camera():
    ours, theirs = socket.socketpair()
    threading.Thread(target=feed, args=(theirs,)).start()
    return stage.RawSource(ours, {"width": 16, "height": 16, "format": "rgb24"})
def feed(sock):
    with sock:
        sock.sendall(b"".join(colours) + b"and a part of another")
"""


def test_raw_pictures_are_passed_on_byte_for_byte(run: Runner) -> None:
    own = run(RAW + "stage.serve(camera, kind='source')", unread="hold")

    said, frames, end = receive(own.port)

    assert (said["format"], said["stream"]) == ("rgb24", "own")
    assert [frame.parts for frame in frames] == [(bytes([n]) * 768,) for n in range(3)]
    assert sequence(frames) == [0, 1, 2]
    assert frames[0].header["pts"] == 0
    assert end == {"type": "end", "frames": 3, "dropped": 0}
    assert own.ended().code == 0


def test_a_raw_source_may_have_its_own_times_and_go_on_elsewhere(run: Runner) -> None:
    own = run(
        """
        import socket
        def filled(*pictures):
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(b"".join(pictures) + b"a part")
            return ours
        class Camera(stage.RawSource):
            others = [filled(bytes(256))]
            def members(self, seq):
                return {"pts": seq / 8, "note": "hi"}
            def at_end(self):
                if self.others:
                    self.go_on_with(self.others.pop())
                else:
                    super().at_end()
        def camera():
            return Camera(filled(bytes(range(256))), {"width": 16, "height": 16})
        stage.serve(camera, kind="source")
        """,
        unread="hold",
    )

    _, frames, _ = receive(own.port)

    assert [frame.parts for frame in frames] == [(PICTURE,), (bytes(256),)]
    assert [(frame.header["pts"], frame.header["note"]) for frame in frames] == [
        (0, "hi"),
        (0.125, "hi"),
    ]


def test_a_raw_source_is_waited_for_where_it_reads_now(run: Runner) -> None:
    own = run(
        """
        import socket
        pairs = [socket.socketpair() for _ in range(3)]
        class Camera(stage.RawSource):
            def members(self, seq):
                if seq == 2:
                    pairs[2][1].close()
                else:
                    self.go_on_with(pairs[seq + 1][0])  # the one before is left open
                    pairs[seq + 1][1].sendall(bytes(256))
                return {}
        def camera():
            pairs[0][1].sendall(bytes(256))
            return Camera(pairs[0][0], {"width": 16, "height": 16})
        stage.serve(camera, kind="source")
        """,
        unread="drop",  # read without a pause, and all but the newest are dropped
    )

    assert own.port
    with Consumer(own.port) as consumer:
        consumer.hello()
        assert sequence(list(consumer.frames()))[-1] == 2
        assert consumer.end is not None


def test_a_source_serves_players_too(run: Runner) -> None:
    own = run(RAW + "stage.serve(camera, kind='source')", format="y4m", unread="hold")

    with Consumer(own.port) as consumer:
        assert b" C444 " in consumer.line()
        assert consumer.line().startswith(b"FRAME Xseq=0")
        assert consumer.read(768) == b"\x10" * 256 + b"\x80" * 512  # black


def test_a_source_reports_as_every_stage_does(run: Runner) -> None:
    own = run(ENDLESS, count=2)
    receive(own.port)

    last = own.lines()[-1]

    assert (last["type"], last["stage"], last["frames"]) == ("report", "own", 2)
