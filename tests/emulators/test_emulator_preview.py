# SPDX-License-Identifier: MIT
"""The first frame is shown to guests, and shown again until somebody consumes.

A patient stage takes nobody for a consumer who does not say so: what arrives there arrives at guests.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from emulator_stages import (
    ATTACH,
    BRISK,
    CHECK,
    CONSUME,
    EMULATORS,
    HOST,
    PATIENCE,
    PATIENT,
    PICTURE,
    Constants,
    Consumer,
    Launcher,
    Stage,
    check,
    frame,
    glance,
    hello,
    receive,
    sequence,
    unused_port,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SMALL = {"width": 16, "height": 16}
RESET = struct.pack("ii", 1, 0)  # what close() does then instead of ending in good order
END = b'{"type":"end","frames":0,"dropped":0}\n'


@contextlib.contextmanager
def upstream(
    launch: Launcher, constants: Constants = PATIENT
) -> Iterator[tuple[socket.socket, Stage]]:
    """Be the upstream of a patient streaming server; yield the connection and the server."""
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(PATIENCE)
        stage = launch("streaming", server.getsockname()[1], constants=constants)
        with server.accept()[0] as sock:
            yield sock, stage


def expect(consumer: Consumer, seq: int) -> None:
    received = consumer.frame()
    assert received is not None and received.header["seq"] == seq


def peek(port: int) -> Consumer:
    """Come as a guest and take the first frame."""
    guest = Consumer(port)
    guest.hello()
    expect(guest, 0)
    return guest


@pytest.mark.parametrize("policy", ["lossless", "live"])
@pytest.mark.parametrize("script", ["streaming", "segmentation"])
def test_silent_guests_get_the_first_frame_and_with_a_consumer_the_rest(
    launch: Launcher, script: str, policy: str
) -> None:
    first = {"constants": PATIENT, "policy": policy} if script == "streaming" else {}
    _, last = launch.chain(4, **SMALL, **first)
    if script == "segmentation":
        last = launch("segmentation", last.port, constants=PATIENT, policy=policy)

    with peek(last.port) as one, peek(last.port) as other, Consumer(last.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        assert sequence(list(consumer.frames())) == [0, 1, 2, 3]
        for guest in (one, other):
            assert sequence(list(guest.frames())) == [1, 2, 3]
        for each in (consumer, one, other):
            assert each.end == {"type": "end", "frames": 4, "dropped": 0}

    ended = last.ended()
    assert (ended.code, ended.report["frames"], ended.report["dropped"]) == (0, 4, 0)


def test_a_guest_that_was_shown_the_first_frame_goes_on_with_the_second(launch: Launcher) -> None:
    _, streaming = launch.chain(3, constants=PATIENT, **SMALL)
    with peek(streaming.port) as guest:
        guest.sock.sendall(CONSUME)
        assert sequence(list(guest.frames())) == [1, 2]
        assert guest.end == {"type": "end", "frames": 3, "dropped": 0}


def test_a_guest_is_no_consumer_while_it_has_only_been_shown_the_first(launch: Launcher) -> None:
    _, streaming = launch.chain(3, constants=PATIENT, **SMALL)
    with peek(streaming.port):
        ended, _ = streaming.terminate()

    assert (ended.report["frames"], ended.report["consumers"]) == (0, 0)


def leave(port: int) -> None:
    peek(port).__exit__()


def leave_half_way(port: int) -> None:
    with Consumer(port) as guest:
        guest.hello()
        assert guest.read(10)  # not from the socket: the hello's packet may have brought them


def close_half_and_leave(port: int) -> None:
    with Consumer(port) as guest:
        guest.sock.shutdown(socket.SHUT_WR)
        guest.hello()
        expect(guest, 0)


def check_late(port: int) -> None:
    with peek(port) as guest:
        guest.sock.sendall(CHECK)


def check_in_vain(port: int) -> None:
    glance(port, b'{"type":')


def attach_late(port: int) -> None:
    with peek(port) as guest:
        guest.sock.sendall(ATTACH)


VISITS = [check, glance, leave, leave_half_way, close_half_and_leave, check_late]
VISITS += [check_in_vain, attach_late]


@settings(max_examples=15)
@given(st.lists(st.sampled_from([*VISITS, peek]), max_size=6), st.integers(1, 4), st.booleans())
def test_whoever_came_and_went_a_consumer_gets_exactly_count_frames(
    visits: list[Callable[[int], Consumer | None]], count: int, live: bool
) -> None:
    launch = Launcher()
    policy = "live" if live else "lossless"
    with contextlib.closing(launch), contextlib.ExitStack() as stack:
        _, streaming = launch.chain(count, constants=PATIENT, **SMALL, policy=policy)
        stayed = [guest for visit in visits if isinstance(guest := visit(streaming.port), Consumer)]
        for guest in stayed:
            stack.enter_context(guest)
        consumer = stack.enter_context(Consumer(streaming.port))
        consumer.sock.sendall(CONSUME)
        consumer.hello()

        assert sequence(list(consumer.frames())) == list(range(count))
        for guest in stayed:
            assert sequence(list(guest.frames())) == list(range(1, count))
        for each in (consumer, *stayed):
            assert each.end == {"type": "end", "frames": count, "dropped": 0}
        stack.close()
        assert streaming.ended().report["frames"] == count


@pytest.mark.parametrize("said", [CHECK, ATTACH])
def test_whose_line_comes_at_once_is_shown_nothing(launch: Launcher, said: bytes) -> None:
    port = unused_port()
    streaming = launch("streaming", port, constants=PATIENT)
    with Consumer(streaming.port) as visitor:
        visitor.sock.sendall(said)
        launch("probe", probe_port=port, count=2, **SMALL)
        visitor.hello()
        with peek(streaming.port), Consumer(streaming.port) as consumer:
            consumer.sock.sendall(CONSUME)
            consumer.hello()
            assert sequence(list(consumer.frames())) == [0, 1]
        assert visitor.rest() == (END if said == ATTACH else b"")


def test_a_check_that_was_taken_for_a_consumer_holds_up_nobody(launch: Launcher) -> None:
    _, streaming = launch.chain(600)
    with peek(streaming.port) as checker, Consumer(streaming.port) as consumer:
        consumer.sock.sendall(CONSUME)
        consumer.hello()
        expect(consumer, 0)
        checker.sock.sendall(CHECK)  # it reads no more, and would stop a lossless stream
        assert len(list(consumer.frames())) == 599


def test_a_first_frame_that_comes_late_is_shown_when_it_comes(launch: Launcher) -> None:
    with upstream(launch) as (sock, stage):
        sock.sendall(hello(count=2))
        with Consumer(stage.port) as guest, Consumer(stage.port) as other:
            guest.hello(), other.hello()
            sock.sendall(frame(0)[:10])
            sock.sendall(frame(0)[10:] + PICTURE)
            expect(guest, 0)
            expect(other, 0)
            guest.sock.sendall(CONSUME)
            sock.sendall(frame(1) + PICTURE + END)
            for each in (guest, other):
                expect(each, 1)
                assert each.frame() is None
                assert each.end == {"type": "end", "frames": 2, "dropped": 0}


def test_a_stream_without_a_frame_ends_with_the_first_consumer(launch: Launcher) -> None:
    with upstream(launch) as (sock, stage):
        sock.sendall(hello() + END)
        for look in (glance, check, glance):
            assert look(stage.port)
        with Consumer(stage.port) as consumer:
            consumer.sock.sendall(CONSUME)
            consumer.hello()
            assert consumer.frame() is None
            assert consumer.end == {"type": "end", "frames": 0, "dropped": 0}


def test_a_resting_stream_shows_its_next_frame(launch: Launcher) -> None:
    with upstream(launch, {**PATIENT, **BRISK}) as (sock, stage):
        sock.sendall(hello(count=3) + frame(0) + PICTURE)
        with peek(stage.port) as first:
            first.sock.sendall(CONSUME)
            stage.reports_until(consumers=1)
            first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        stage.reports_until(consumers=0)
        sock.sendall(frame(1) + PICTURE)
        with Consumer(stage.port) as guest:
            guest.hello()
            expect(guest, 1)
        with Consumer(stage.port) as consumer:
            consumer.sock.sendall(CONSUME)
            consumer.hello()
            sock.sendall(frame(2) + PICTURE + END)
            assert sequence(list(consumer.frames())) == [1, 2]
            assert consumer.end == {"type": "end", "frames": 2, "dropped": 0}


@pytest.mark.parametrize("half_closed", [False, True])
def test_players_are_shown_the_first_picture(launch: Launcher, half_closed: bool) -> None:
    _, streaming = launch.chain(2, constants=PATIENT, format="y4m", **SMALL)
    with Consumer(streaming.port) as player:
        if half_closed:
            player.sock.shutdown(socket.SHUT_WR)
        assert player.line().startswith(b"YUV4MPEG2")
        assert player.line() == b"FRAME Xseq=0 Xpts=0.0\n"
        with Consumer(streaming.port) as other:
            other.sock.sendall(CONSUME)
            whole = other.rest()
        assert whole.endswith(player.rest())
    assert whole.count(b"FRAME Xseq=") == 2


def test_without_visitors_the_silent_are_consumers_at_once(launch: Launcher) -> None:
    _, streaming = launch.chain(50, constants=PATIENT, visitors=False)

    _, frames, end = receive(streaming.port)

    assert sequence(frames) == list(range(50))
    assert end == {"type": "end", "frames": 50, "dropped": 0}


@pytest.mark.parametrize("said", [CHECK, ATTACH])
def test_without_visitors_lines_mean_the_same(launch: Launcher, said: bytes) -> None:
    port = unused_port()
    streaming = launch("streaming", port, constants=PATIENT, visitors=False)
    with Consumer(streaming.port) as visitor:
        visitor.sock.sendall(said)
        launch("probe", probe_port=port, count=9)
        visitor.hello()

        assert sequence(receive(streaming.port)[1]) == list(range(9))
        assert visitor.rest() == (END if said == ATTACH else b"")


def test_policy_that_is_none_is_told_those_that_are(launch: Launcher) -> None:
    ended = launch("streaming", policy="livee").ended()
    known = "policy must be one of lossless, fastest, live, not 'livee'"
    assert (ended.code, known in ended.sentence) == (2, True)


def test_visitors_is_true_or_false(launch: Launcher) -> None:
    ended = launch("streaming", visitors="some").ended()

    assert (ended.code, "visitors must be one of true, false" in ended.sentence) == (2, True)


@pytest.mark.parametrize("script", ["probe", "streaming", "segmentation"])
def test_names_in_ascii_need_no_codec(script: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from operatord_stage.sockets import resolve;"
        "assert resolve('127.0.0.1', 7)[0][4] == ('127.0.0.1', 7);"
        "assert 'encodings.idna' not in sys.modules"
    )
    command = [sys.executable, "-IS", "-c", code, EMULATORS / script]
    subprocess.run(command, check=True, timeout=PATIENCE)


def test_a_rehearsal_leaves_what_the_first_frame_needs(
    probe_script: SimpleNamespace, segmentation_script: SimpleNamespace
) -> None:
    probe_script.probe.rehearse()
    assert probe_script.pictures.cycles(256, 256, 0).frame(0)[1]
    assert probe_script.pictures.cycles.cache_info().hits == 1

    rendered: list[int] = []
    prepare, source = segmentation_script.segmentation.prepare, segmentation_script.source
    source.rehearse(lambda said: lambda *frame: rendered.append(len(prepare(said)(*frame))))
    assert rendered[0] > 2 * 256 * 256
    assert len(source.SPARE.pop()) == source.BLOCK
