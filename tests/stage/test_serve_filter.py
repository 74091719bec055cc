# SPDX-License-Identifier: MIT
"""A function as a filter: what it may return, and what it is told if it returns something else."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_stages import HOST, PICTURE, Consumer, check, frame, hello, play, receive, sequence
from stage_lab import OwnStage, Runner, stream

MASK = """
def segment(frame):
    return {"mask": bytes(255 if level < 64 else 0 for level in frame.image)}
stage.serve(segment)
"""
EXPECTED = bytes(255 if level < 64 else 0 for level in PICTURE)


def test_parts_that_are_returned_are_added(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, played = play(pool, *stream(3))
    own = run(MASK, port)

    said, frames, end = receive(own.port)

    assert (said["stream"], said["count"], said["watch"]) == ("own", 3, True)
    assert sequence(frames) == [0, 1, 2]
    assert frames[0].header["parts"] == [
        {"name": "image", "bytes": 256},
        {"name": "mask", "bytes": 256},
    ]
    assert frames[2].parts == (PICTURE, EXPECTED)
    assert end == {"type": "end", "frames": 3, "dropped": 0}
    assert own.ended().code == 0
    played.result()


def test_what_the_function_does_not_know_is_passed_on(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    parts = [{"name": "igtl", "bytes": 3, "unit": "mm"}, {"name": "image", "bytes": 256}]
    parts.append({"name": "mask", "bytes": 256, "area": 1})
    head = frame(0, parts=parts, truth={"cx": 8})
    port, _ = play(pool, hello(count=1, spacing=[0.5, 0.5]), head, b"abc", PICTURE * 2)
    own = run(MASK.replace("stage.serve", "assert stage.Frame\nstage.serve"), port)

    said, [got], _ = receive(own.port)

    assert said["spacing"] == [0.5, 0.5]
    assert got.header["truth"] == {"cx": 8}
    assert got.header["parts"] == [*parts[:2], {"name": "mask", "bytes": 256}]
    assert got.parts == (b"abc", PICTURE, EXPECTED)


def test_a_frame_that_is_returned_is_passed_on_as_it_came(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    head = b'{ "type": "frame", "seq": 0, "parts": [{"bytes": 256, "name": "image"}] }\n'
    port, _ = play(pool, hello(count=1), head, PICTURE, b'{"type":"end","frames":1}\n')
    own = run("stage.serve(lambda frame: frame)", port)

    with Consumer(own.port) as consumer:
        consumer.hello()
        assert consumer.line() == head
        assert consumer.read(256) == PICTURE


def test_a_frame_of_its_own_takes_the_place_and_the_time(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(2))
    own = run(
        """
        def invert(frame):
            assert (frame.width, frame.height, frame.format) == (16, 16, "gray8")
            inverted = bytes(255 - level for level in frame.image)
            return stage.Frame(inverted, parts={"note": b"hi"}, number=frame.seq * 10)
        stage.serve(invert)
        """,
        port,
    )

    _, [_, got], _ = receive(own.port)

    assert (got.header["seq"], got.header["pts"], got.header["number"]) == (1, 1 / 30, 10)
    assert got.parts == (PICTURE[::-1], b"hi")


def test_arrays_and_their_numbers_need_no_conversion(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, _ = play(pool, *stream(1))
    own = run(
        """
        import numpy
        def segment(frame):
            image = numpy.frombuffer(frame.image, numpy.uint8).reshape(frame.height, frame.width)
            mask = image < 64                             # of truth values, and below its transposed one
            return {"mask": stage.Part(mask, area=mask.sum(), rows=mask.sum(axis=1)), "other": image.T}
        stage.serve(segment)
        """,
        port,
    )

    _, [got], _ = receive(own.port)

    described = got.header["parts"][1]
    assert described == {"name": "mask", "bytes": 256, "area": 64, "rows": [16] * 4 + [0] * 12}
    transposed = bytes(PICTURE[16 * x + y] for y in range(16) for x in range(16))
    assert got.parts == (PICTURE, EXPECTED, transposed)


def test_a_filter_may_change_the_size_and_says_so(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, _ = play(pool, *stream(1))
    own = run(
        """
        def smaller(hello):
            return {"width": hello["width"] // 2, "spacing": [2, 1]}
        def half(frame):
            return {"image": frame.image[::2]}
        stage.serve(half, hello=smaller)
        """,
        port,
    )

    said, [got], _ = receive(own.port)

    assert (said["width"], said["height"], said["spacing"]) == (8, 16, [2, 1])
    assert got.parts == (PICTURE[::2],)


def test_a_filter_that_changes_the_size_must_do_so(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, _ = play(pool, *stream(1))
    own = run("stage.serve(lambda frame: frame, hello={'width': 8})", port)

    assert "a part 'image' of 256 bytes: 8×16 of gray8 has 128" in own.reason()


def test_players_see_the_outline_of_the_mask(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, _ = play(pool, *stream(1))
    own = run(MASK, port, format="y4m")

    with Consumer(own.port) as consumer:
        first = consumer.line()
        assert first == b"YUV4MPEG2 W16 H16 F30:1 Ip A1:1 Cmono Xstream=own Xwatch\n"
        assert consumer.line() == b"FRAME Xseq=0 Xpts=0.0\n"
        shown = consumer.rest()
    # The mask is the four upper rows.
    assert [shown[row * 16 + 5] for row in range(6)] == [255, 21, 37, 255, 69, 85]


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("None", "nothing: it must return the frame, or a dict of the parts"),
        ("b'x' * 256", "bytes: it must return the frame"),
        ("{'mask': b'x' * 255}", "a part 'mask' of 255 bytes: 16×16 of gray8 has 256"),
        (
            "{'mask': numpy.zeros((16, 16))}",
            "a part 'mask' of float64, and a mask has one byte for each pixel: return `mask > 0.5`",
        ),
        ("{'mask': numpy.zeros((16, 16), 'int32')}", "a part 'mask' of int32, and"),
        ("{'mask': stage.Part(numpy.zeros((16, 8), 'float16'))}", "a part 'mask' of float16, and"),
        ("{'image': b''}", "a part 'image' of 0 bytes: 16×16 of gray8 has 256"),
        ("{'mask': [1, 2]}", "a part 'mask' that is neither bytes nor an array, but list"),
        ("{7: b''}", "a part whose name is no string but 7"),
        ("{f'p{n}': b'' for n in range(16)}", "more than the 16 parts"),
        ("{'x': bytes(16 * 1024 ** 2)}", "parts of 16777216 bytes in all that a frame may have"),
        ("{'x': stage.Part(b'', size=float('nan'))}", "a header that JSON has no word for"),
        ("{'x': stage.Part(b'', said='x' * 65536)}", "a header of 65"),
        ("stage.Frame(b'short')", "a part 'image' of 5 bytes"),
    ],
)
def test_what_a_function_must_not_return_is_told_in_a_sentence(
    run: Runner, pool: ThreadPoolExecutor, returned: str, sentence: str
) -> None:
    port, _ = play(pool, *stream(1))
    load = "import numpy\n" if "numpy" in returned else ""
    own = run(f"{load}def segment(frame):\n    return {returned}\nstage.serve(segment)", port)

    reason = own.reason()

    assert reason.startswith("own0: segment() returned "), reason
    assert sentence in reason
    assert reason.endswith("(frame 0)")


def test_an_exception_ends_the_stage_with_its_traceback(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(2))
    own = run(
        """
        def segment(frame):
            return {"mask": bytes(frame.image)} if frame.seq == 0 else missing[frame.seq]
        missing = {}
        stage.serve(segment)
        """,
        port,
    )

    assert receive(own.port)[2] is None  # its stream was cut short
    ended = own.ended()

    assert ended.code == 1
    lines = ended.sentence.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "in segment" in lines[1]  # its own lines, and no others
    assert lines[-1] == "own0: segment() raised KeyError: 1 (frame 1)"


def test_a_fault_ends_the_stage_with_its_own_code(run: Runner, pool: ThreadPoolExecutor) -> None:
    port, _ = play(pool, *stream(1))
    own = run(
        """
        def segment(frame):
            raise stage.Fault(stage.NO_NEIGHBOUR, "the model's server does not answer")
        stage.serve(segment)
        """,
        port,
    )

    ended = own.ended()

    assert (ended.code, ended.sentence) == (3, "own0: the model's server does not answer\n")


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("sys.exit(0)", 1, "sys.exit(0)"),
        ("sys.exit()", 1, "sys.exit()"),
        ("sys.exit(9)", 9, "sys.exit(9)"),
        ("sys.exit('no model')", 1, "sys.exit('no model')"),
    ],
)
def test_a_function_that_ends_the_process_is_told(
    run: Runner, pool: ThreadPoolExecutor, call: str, code: int, said: str
) -> None:
    port, _ = play(pool, *stream(2))
    # With frame 0 nobody may have come yet.
    body = f"if frame.seq:\n        {call}\n    return frame"
    own = run(f"import sys\ndef segment(frame):\n    {body}\nstage.serve(segment)", port)

    assert receive(own.port)[2] is None
    ended = own.ended()

    advice = "and the stream goes on: return from it (frame 1)"
    assert (ended.code, ended.sentence) == (code, f"own0: segment() called {said}, {advice}\n")


def test_formats_that_a_filter_does_not_take_are_refused(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, hello(format="rgb24"))
    own = run("stage.serve(lambda frame: frame, formats=('gray8', 'gray16le'))", port)

    ended = own.ended()

    assert ended.code == 4
    assert "'rgb24', and this stage takes gray8 and gray16le only" in ended.sentence


def test_settings_of_its_own_are_read_before_it_listens(run: Runner) -> None:
    script = """
        radius = None
        def prepare():
            global radius
            radius = stage.number("radius", 3, 1, 31)
        stage.serve(lambda frame: frame, prepare=prepare)
        """

    ended = run(script, 1, radius=32).ended()

    assert ended.code == 2
    assert "radius must be a whole number from 1 to 31, not '32'" in ended.sentence


def test_what_is_loaded_before_serve_is_loaded_in_a_warm_slot(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(1))
    own = run(
        """
        print('{"type":"loaded"}', flush=True)
        def prepare():
            print('{"type":"prepared","radius":%d}' % stage.number("radius", 3, 1, 31), flush=True)
        stage.serve(lambda frame: frame, prepare=prepare)
        """,
        OPERATORD_LATE_BIND=1,
    )
    assert own.output_line() == {"type": "loaded"}

    late = {"OPERATORD_UPSTREAM": "cam", "cam_ip": "127.0.0.1", "cam_port": port, "radius": 7}
    own.bind(json.dumps({"env": late}).encode() + b"\n")

    assert own.output_line() == {"type": "prepared", "radius": 7}
    assert sequence(receive(own.port)[1]) == [0]


def test_a_check_costs_no_frame_and_the_daemons_comes_first(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(2))
    own = run(MASK, port, checked=True)

    with Consumer(own.port) as consumer:
        consumer.hello()
        assert json.loads(check(own.port))["stream"] == "own"
        assert sequence(list(consumer.frames())) == [0, 1]


def test_figures_are_in_the_reports_and_take_no_counters_place(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(2))
    own = run(
        """
        figures = {"frames": "mine", "mean": float("nan")}
        def count(frame):
            figures["mean"] = frame.seq / 2
            return frame
        stage.serve(count, figures=figures)
        """,
        port,
    )
    receive(own.port)

    report = own.ended().report

    assert (report["frames"], report["mean"]) == (2, 0.5)


FINISHES = """
def finish():
    print('{"type":"finished"}', flush=True)
stage.serve(lambda frame: frame, finish=finish)
"""


def test_the_end_of_the_stream_is_told_to_the_program(
    run: Runner, pool: ThreadPoolExecutor
) -> None:
    port, _ = play(pool, *stream(1))
    own = run(FINISHES, port)
    receive(own.port)

    assert own.last_words() == ["report", "finished"]
    assert own.process.returncode == 0


def test_a_signal_is_told_to_the_program(run: Runner) -> None:
    with socket.create_server((HOST, 0)) as upstream:
        own = run(FINISHES, upstream.getsockname()[1])
        with upstream.accept()[0] as sock:
            sock.sendall(hello())
            check(own.port)
            own.process.terminate()

            assert own.last_words() == ["report", "finished"]
            assert own.process.returncode == 143


def test_names_and_ports_have_defaults_for_a_start_by_hand(run: Runner) -> None:
    said = OwnStage(run.written("'''Find it.'''\nstage.serve(lambda frame: frame)"), "--help")

    out, _ = said.process.communicate()

    assert said.process.returncode == 0
    text = out.decode()
    assert (
        "OPERATORD_STAGE    name of this stage                                (segmentation)"
        in text
    )
    assert "(stream)" in text and "{" not in text.partition("format ")[0]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("stage.serve(7)", "serve() takes a function, not int"),
        (
            "stage.serve(print, kind='probe')",
            "kind must be one of filter, sink, source, not 'probe'",
        ),
    ],
)
def test_a_wrong_call_is_told_at_once(run: Runner, call: str, sentence: str) -> None:
    assert sentence in run(call).reason()
