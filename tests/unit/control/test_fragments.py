# SPDX-License-Identifier: MIT
"""Which lines are parts of a JSON text that is spread over several, and which are requests."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operatord.control.wire.fragments import COMMENT_LINES, Fragment, fragment
from operatord_protocol.codec import Request, decode_line
from operatord_protocol.errors import ParseError

START = '{"count":5}'
PING = '{"method":"system.ping"}'
STOP = '{"method":"session.stop_all"}'


def carried_out(*lines: str) -> list[str]:
    """Return which of ``lines``, that come one after another, are requests."""
    found = []
    text: Fragment | None = None
    for line in lines:
        request = decode_line(line.encode())
        if isinstance(request, Request):
            if text is None or not text.holds(request):
                found.append(line)
                text = None
            else:
                text = text.after_object()
        elif text is not None or isinstance(request.error, ParseError):
            text = fragment(text, line.encode())
    return found


@pytest.mark.parametrize(
    "text",
    [
        '{\n"session":\n{"count":5}\n}',
        '{"session":\n{"count":5}\n}',
        '{\n  "starts": [\n    {}\n  ]\n}',
        '{"starts": [\n{"count":5},\n{"count":6},\n{"count":7}\n]}',
        '{"starts": [\n{"count":5}\n{"count":6}\n]}',
        '[\n  {"method":"session.start"},\n  {"method":"session.start"}\n]',
        '{\n"a": [\n{"method":"session.start"}\n]}',
        '{\n"a":\n{"method":"session.start"}\n}',
        '{"a": {"b": "]}", "c": [\n{"count":5}\n]}}',
        '{"a": [[1, 2], {"b": []}, [\n{"count":5}\n], \n{"count":6}\n]}',
        '{"a": "\\"", "b": [\n{"count":5}\n]}',
        '{\n"method": "session.plan",\n"params": /* dry run only */\n{"count":5}\n}',
        '{\n"params": // dry: "run\n{"count":5}\n}', '{ # start\n"params": # {\n{"count":5}\n}',
        '{\n"params":\n// dry run\n/* } */\n{"count":5}\n}', '{"params": // dry run\n{"count":5}\n}',
        '{\n"params":\n/* of the\n{"count":5}\n*/\n}', '{\n a =\n{"count":5}\n}', '{ a =>\n{"count":5}\n}',
        '{\nlet x =\n{"method":"session.start"}\n}', '{\nstart(\n{"count":5}\n)}',
        '{\n{"count":5},\n{"count":6}\n}', '{\n{"method":"session.start"},\n{"method":"session.start"}\n}',
    ],
)  # fmt: skip
def test_parts_of_a_text_over_several_lines_are_not_carried_out(text: str) -> None:
    assert carried_out(*text.splitlines()) == []
    assert carried_out(*text.splitlines(), START, PING) == [START, PING], "the text is over"


@pytest.mark.parametrize(
    "slip",
    [
        "{", '{"count": 5', '{"count":', '{"method":"system.ping"', '{"method":"system.ping', '{"a":["x"',
        '{"events":[', "{}}", "]", "{count: 5", '{"count":5,}', '{"a": [}', '{"a":' * 100, "[" * 100,
        '{"method": "foobar, "params": "bar", "baz]', "{'a': 1}", '{"a": "x\\',
        '{"a": logs/*.txt', '{"a": ~/*', '{"a": */*', "{'a': '/*'", "{'a': '# '", '{"a": "/* -- ; #"',
        '{"a": <N>', '{"a": $COUNT', '{"a": %5', '{"a": -5', '{"a": bob', '{"a": 5 cores',
        '{"a": true or false', '{"a": http://x', '{"a": http://x}', '{"a": - 5}', '{"a": John Smith}',
        '{"a": ' + "-- " * 1000,
    ],
)  # fmt: skip
def test_request_after_a_slip_is_carried_out(slip: str) -> None:
    assert carried_out(slip, PING, START) == [PING, START]
    assert carried_out(slip, slip, PING, PING, START)[-2:] == [PING, START], "one is lost at most"


@pytest.mark.parametrize(
    "slip", ["{", '{"count": 5', '{"count": 5,', "{}}", '{"owner":"a', '{"count": 5 # {']
)
def test_start_after_a_slip_is_carried_out_where_it_cannot_be_a_part(slip: str) -> None:
    assert carried_out(slip, START) == [START]


@pytest.mark.parametrize(
    "begin",
    [
        '{"x":1, /* old:', "{ /*", '{"x":1 /* old', '{"x": /* {', '{ "x": 1/*', '{"x":1}/* old:', "/* old:",
        '{ a /* old', "{ /* a */ /* b", '{ /* "a */ /* b', '{"a": /* it\'s', '{ <!-- old', '{\n/*', '[\n1 /*',
        '{"a": "b" /* // ', '{"a":\t/*',
    ],
)  # fmt: skip
def test_comment_that_goes_on_holds_back_all_up_to_its_end(begin: str) -> None:
    """A4"""
    end = "-->" if "<!--" in begin else "*/"
    lines = begin.splitlines()
    assert carried_out(*lines, STOP, STOP, "words {", START, f"{end} ]}}", PING, START) == [
        PING,
        START,
    ]
    assert carried_out(*lines, STOP, f'words {end} "y": [', STOP, START, "]}", PING) == [PING]
    assert carried_out(*lines, STOP, end, PING, PING)[-1] == PING, "whoever ends it loses no more"


@pytest.mark.parametrize(
    "begin",
    [
        "{ // }", "{ #", "{ // x", '{"x":1, // old', '{"a": [ // old', '{"x":1, -- old }', "{ -- sql",
        "{--sql", '{"x": -- sql', '{"x": --[[ lua ]]', "{ ; ini", '{"x":1, ;ini }', '{"x": ; ini }',
        "{ (* pascal }", "{ % tex }", '{"x":   ! fortran }', '{"x": REM dry run', '{"x": TODO: fix "it", {a}',
        '{"x": /* dry */', '{"x": /* dry */ // run', '{\n"x": -- dry', '{\n"y": 1,\n"x": dry run only',
        '[\n-- old ]', '{"x":\n-- {', '{"x":\n; ]', '{\n"y": "",\n* old }',
    ],
)  # fmt: skip
def test_object_after_a_comment_of_any_language_is_a_part_where_something_is_wanted(
    begin: str,
) -> None:
    """A4: of whom it was a slip, no more than one line is lost."""
    lines = begin.splitlines()
    assert carried_out(*lines, STOP, "}", "]", PING) == [PING]
    assert carried_out(*lines, STOP, PING, STOP) == [PING, STOP]


def test_comment_without_an_end_holds_back_so_many_lines_at_most() -> None:
    """A4: the first that comes after them is carried out, whatever came between."""
    lines = [STOP, "}"] * (COMMENT_LINES // 2)
    assert carried_out("{ /*", *lines, PING, START) == [PING, START]
    assert carried_out("{ /*", *lines[:-1], PING, START) == [START]


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just({}) | st.just({"count": 5}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1), st.integers(0, 2))
def test_no_line_of_a_pretty_printed_object_is_carried_out(value: object, indent: int) -> None:
    """Whatever is in it; in one line it is one request or none, and the connection goes on."""
    lines = json.dumps(value, indent=indent).splitlines()
    assert carried_out(*lines, START, PING) == [START, PING]


def test_refusal_says_what_to_do_and_to_whom() -> None:
    text = fragment(None, b'{"a": [')
    request = decode_line(b'{"jsonrpc":"2.0","id":7,"method":"system.ping"}')
    assert text is not None
    assert isinstance(request, Request)
    dialect, request_id, error = text.refuse(request)
    assert (dialect, request_id, error.code) == ("rpc", 7, ParseError.code)
    assert "Send " in error.message
    assert "a request is whole in one line" in error.message


def test_who_is_in_a_comment_is_told_what_ends_it() -> None:
    for begin, end in ((b"/*", "*/"), (b"<!--", "-->")):
        text = fragment(None, b'{"a": ' + begin)
        request = decode_line(PING.encode())
        assert text is not None
        assert isinstance(request, Request)
        assert f"send {end} to end the comment" in text.refuse(request).error.message
