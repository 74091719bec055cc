# SPDX-License-Identifier: MIT
"""The table of lines against the codec: whole, one by one, and together with others."""

from __future__ import annotations

import json

import json_lines
import pytest
from json_lines import PING, RESULT, SILENCE, Line
from protocol_vectors import examine

from operatord_protocol.codec import Refusal, Request, decode_block, decode_with_care

LINES = list(json_lines.lines())
NAMES = [f"{line.group}: {line.why}" for line in LINES]


def verdict(line: bytes) -> str:
    """Return what the codec says of a line, in the words of the table."""
    found, answered = examine(line)
    if not answered:
        return SILENCE
    return found.error.type if isinstance(found, Refusal) else RESULT


@pytest.mark.parametrize("line", LINES, ids=NAMES)
def test_each_line_is_taken_or_refused_as_the_table_says(line: Line) -> None:
    assert verdict(line.text) == line.expected
    found, _ = examine(line.text)
    if line.id is not None:
        assert isinstance(found, Request)
        assert found.id == json.loads(line.id)


@pytest.mark.parametrize("line", LINES, ids=NAMES)
def test_company_does_not_change_what_a_line_is(line: Line) -> None:
    """Many lines are decoded at once, and a bad one among them must not be read with its neighbours."""
    alone = decode_with_care(line.text.removesuffix(b"\r"))
    found = decode_block(b"\n".join((PING, line.text, PING, b"")))
    assert len(found) == 3
    middle = found[1]
    again = decode_with_care(middle) if isinstance(middle, bytes) else middle.request()
    assert type(again) is type(alone)
    assert again.id == alone.id and again.dialect == alone.dialect


def test_the_table_is_long_and_says_nothing_twice() -> None:
    assert len(LINES) >= 250
    assert len({line.text for line in LINES}) == len(LINES)
    assert len(set(NAMES)) == len(NAMES)
