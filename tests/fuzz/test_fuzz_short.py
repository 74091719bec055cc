# SPDX-License-Identifier: MIT
"""A short form of `make fuzz`, with lines made by hypothesis; and that the target finds what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conversation import Finding, Target, check, target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import KNOWN, PIECES, REQUESTS, Mutations
from oracle import PARSE, REQUEST, SEED, SILENCE, UNDERSTOOD, expected

pieces = st.one_of(st.sampled_from(PIECES), st.binary(max_size=4))


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A known line with pieces put into it."""
    line = draw(st.sampled_from(KNOWN))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(pieces) + line[at + draw(st.integers(0, 8)) :]
    return line


lines = st.lists(st.one_of(changed(), changed(), st.binary(max_size=40)), max_size=40)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Target]]:
    with asyncio.Runner() as runner:
        context = target(tmp_path / "s")
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(lines, st.lists(st.integers(1, 200), max_size=3).map(sorted))
def test_whatever_is_sent_is_answered_as_the_protocol_says(
    daemon: tuple[asyncio.Runner, Target], lines: list[bytes], cuts: list[int]
) -> None:
    runner, talk = daemon
    runner.run(talk.converse(lines, cuts))


def test_subscription_of_which_no_reply_tells_is_not_waited_for(
    daemon: tuple[asyncio.Runner, Target],
) -> None:
    runner, talk = daemon
    assert runner.run(talk.converse([b'{"jsonrpc":"2.0","method":"events.subscribe"}'])) == 1


def test_lines_that_were_changed_at_random_are_answered_as_well(
    daemon: tuple[asyncio.Runner, Target],
) -> None:
    runner, talk = daemon
    assert runner.run(talk.converse(Mutations(1).lines(1000))) > 0


@pytest.mark.parametrize("line", REQUESTS)
def test_known_requests_are_understood(line: bytes) -> None:
    [kind] = expected(line).kinds
    assert kind in (UNDERSTOOD, SEED, SILENCE) or b"null" in line


REPLIES = [
    {"id": "the first", "result": {}},
    {"error": {"message": "", "data": {"type": "parse_error"}}},
    {"id": "the last", "result": {}},
]
REFUSED = {"error": {"message": "", "data": {"type": "invalid_request"}}}


@pytest.mark.parametrize(
    ("line", "more"),
    [
        (b'{"method":"system.ping","id":1}', []),
        (b'{"method":"system.ping","id":1}', [{"id": 2, "result": {}}]),
        (b'{"method":"system.ping","id":1}', [REFUSED]),
        (b"{", [REFUSED]),
        (b"5", [{"result": {}}]),
        (b'{"jsonrpc":"2.0","method":"system.ping"}', [{"id": None, "result": {}}]),
        (b"5", [REFUSED, REFUSED]),
    ],
    ids=["no answer", "another id", "refused", "another error", "taken", "a notification", "twice"],
)
def test_wrong_answer_is_a_finding(line: bytes, more: Sequence[dict[str, object]]) -> None:
    with pytest.raises(Finding):
        check([line], [expected(line)], [*REPLIES, *more], too_long=False)


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (b'{"a":1e999}', {PARSE, REQUEST}),
        (b'{"method":"a","id":"\\ud800"}', {PARSE}),
        (b'{"method":"a","method":"a"}', {REQUEST}),
        (b"[" * 65 + b"]" * 65, {PARSE}),
        (b'{"method":"a","id":1.0}', {REQUEST}),
        (b'{"id":"\xff","id":""}', {PARSE}),
    ],
)
def test_faults_of_a_text_are_seen(line: bytes, kinds: set[str]) -> None:
    assert expected(line).kinds == kinds
