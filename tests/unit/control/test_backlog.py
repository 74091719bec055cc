# SPDX-License-Identifier: MIT
"""What was read and is not answered yet: nothing is lost, doubled or moved, however it is taken."""

from __future__ import annotations

import itertools
from operator import length_hint

from hypothesis import given, settings
from hypothesis import strategies as st

from operatord.control.wire.backlog import ASIDE, FIRST, LEAST, SLICE, Backlog
from operatord_protocol.codec import Envelope, Line

LONG = b'{"method":"%b"}\n' % (b"x" * SLICE)


def line(number: int, padding: int = 0) -> bytes:
    return b'{"id":%d,"method":"m"%b}\n' % (number, b" " * padding)


def numbers(found: list[Line]) -> list[object]:
    return [each.id for each in found if isinstance(each, Envelope)]


def drain(backlog: Backlog) -> list[Line]:
    found: list[Line] = []
    while backlog:
        found += backlog.decoded()
    return found


def test_it_begins_empty() -> None:
    backlog = Backlog()
    assert not backlog
    assert list(backlog.decoded()) == []


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, SLICE // 3), min_size=1, max_size=30),
    st.lists(st.integers(0, 5), max_size=60),
)
def test_lines_come_once_and_in_order_however_they_are_added_and_taken(
    paddings: list[int], takes: list[int]
) -> None:
    backlog = Backlog()
    found: list[Line] = []
    todo = [line(number, padding) for number, padding in enumerate(paddings)]
    for count in takes:
        backlog.add(b"".join(todo[:count]))
        del todo[:count]
        found += itertools.islice(backlog.decoded(), count)
    backlog.add(b"".join(todo))
    found += drain(backlog)
    assert not backlog
    assert numbers(found) == list(range(len(paddings)))


def test_only_a_slice_is_decoded_at_a_time() -> None:
    backlog = Backlog()
    backlog.add(b"".join(line(number, 1000) for number in range(100)))
    assert 0 < len(list(backlog.decoded())) <= SLICE // 1000
    assert len(drain(backlog)) >= 100 - SLICE // 1000


def test_after_a_line_that_needs_care_few_are_decoded_at_a_time() -> None:
    """A1: to find nothing in thousands of lines that are no requests takes milliseconds."""
    backlog = Backlog()
    backlog.add(b"".join(line(number) for number in range(5000)) + b"{}\n" * 20_000)
    found = [list(backlog.decoded()) for _ in range(20)]
    assert max(len(each) * len(line(1)) for each in found) > SLICE // 2
    while isinstance(found[-1][-1], Envelope):
        found.append(list(backlog.decoded()))
    while backlog:
        assert 0 < len(list(backlog.decoded())) <= FIRST // 3


def test_few_are_decoded_of_one_whose_visits_leave_some() -> None:
    """A12: a thousand peers with a slice each would take a hundred megabytes."""
    backlog = Backlog()
    backlog.add(b"".join(line(number, 30) for number in range(2000)))
    decoded = []
    for _ in range(1000):
        decoded.append(length_hint(backlog.decoded()))
        next(backlog.decoded())
        backlog.leave()
    assert max(decoded) > LEAST // 30 > max(decoded[500:])
    assert numbers(drain(backlog))[-1] == 1999


def test_a_line_longer_than_a_slice_comes_alone() -> None:
    backlog = Backlog()
    backlog.add(LONG + line(2))
    [first] = backlog.decoded()
    assert isinstance(first, Envelope) and len(first.method) == SLICE
    assert numbers(list(backlog.decoded())) == [2]


def test_blank_lines_alone_give_nothing_and_are_gone() -> None:
    backlog = Backlog()
    backlog.add(b"\n\r\n")
    assert list(backlog.decoded()) == []
    assert not backlog


def test_what_was_put_aside_and_taken_back_leaves_room_for_as_much_again() -> None:
    """A13: the bound is on what is put aside at a time, not on all that ever was."""
    backlog = Backlog()
    lines = [b"%06d" % number + b" " * (ASIDE // 8) for number in range(40)]
    for each in lines:
        backlog.add(line(1))
        assert backlog.lets_pass
        backlog.put_aside(each)
        assert backlog.take_back() == each
    for each in lines[:8]:
        backlog.put_aside(each)
    assert not backlog.lets_pass
    assert backlog.take_back(lines[3]) == lines[3]
    assert backlog.lets_pass


ONLY = ("m", "n")


def test_whether_only_some_methods_are_asked_for_is_told_and_nothing_is_lost() -> None:
    """A1: what was looked at for that is there to be answered afterwards."""
    backlog = Backlog()
    backlog.add(line(1) + b'{"id":2,"method":"n"}\n')
    assert backlog.asks_only(ONLY)
    assert numbers(drain(backlog)) == [1, 2]


def test_what_is_long_in_doubt_put_aside_or_something_else_is_not_only_that() -> None:
    """A1: no time is spent on a long line before it is its turn."""
    for block in (
        line(1, 2000),
        b'{"id":1,"method":"o"}\n',
        line(1) + b'{"id":2,"method":"o"}\n',
        b"x\n",
    ):
        backlog = Backlog()
        backlog.add(block)
        assert not backlog.asks_only(ONLY), block
        assert drain(backlog)
    backlog = Backlog()
    backlog.put_aside(line(1))
    backlog.add(line(2))
    assert not backlog.asks_only(ONLY)
    assert backlog.take_back() == line(1)
    assert numbers(drain(backlog)) == [2]
