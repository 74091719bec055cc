# SPDX-License-Identifier: MIT
"""Whatever a stage says of itself, only numbers of their range are taken from it."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.engines.base import LogLine
from operatord.streams.reports import (
    REPORT_LINES,
    Report,
    ReportLog,
    is_for_people,
    is_listening,
    newest_report,
    report_in,
)
from operatord_protocol.stage_lines import LARGEST

NO_COUNTS: list[Any] = [
    True, None, -1, -5, 1.5, 1e23, 2**53, 10**400, "3", "\ud800", [], [1], {}, {"frames": 1},
    float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(Report.__struct_fields__)


def said(text: str) -> Report | None:
    return report_in(LogLine("now", "stdout", text))


def report(**members: Any) -> str:
    return json.dumps({"type": "report", **members})


@pytest.mark.parametrize("value", NO_COUNTS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", ["frames", "dropped", "consumers", "blocked"])
def test_member_that_is_no_count_is_left_out_and_the_others_stay(name: str, value: Any) -> None:
    """A10: what is no number is not a number, whoever reports it."""
    counters = {"frames": 1, "dropped": 2, "consumers": 3, "blocked": 4}
    found = said(report(**{**counters, name: value}))
    assert found == Report(**{key: count for key, count in counters.items() if key != name})


@pytest.mark.parametrize("digits", [20, 21, 5000, 60_000])
def test_number_of_any_length_costs_no_other_member(digits: int) -> None:
    """A10: Python reads none of more than 4300 digits."""
    text = '{"type":"report","frames":3,"dropped":' + "9" * digits + "}"
    assert said(text) == Report(frames=3)


@pytest.mark.parametrize("value", [*NO_COUNTS[:3], 0, 1e9, float("nan")])
def test_promise_out_of_range_promises_nothing(value: Any) -> None:
    """A10"""
    assert said(report(frames=1, every=value)) == Report(frames=1)


@pytest.mark.parametrize(("text", "frames"), [("812.0", 812), ("8e2", 800), ("-0", 0), ("0", 0)])
def test_whole_number_counts_however_it_is_written(text: str, frames: int) -> None:
    """A10: JSON has one kind of numbers."""
    assert said('{ "type" : "report", "frames":' + text + "}") == Report(frames=frames)


@pytest.mark.parametrize(
    "text",
    [
        "", "report", "{", "[" * 8000, "{" * 8000, '{"a":' * 8000, '{"type":"report"', "[1]",
        '{"type":["report"]}',
        '{"type":"reporter"}', '{"frames":1}', '\x1b[2J{"type":"report"}', '{"type":"report"}{}',
    ],
)  # fmt: skip
def test_line_that_is_no_report_counts_for_nothing(text: str) -> None:
    """A10"""
    assert said(text) is None


def test_only_standard_output_reports() -> None:
    line = report(frames=1)
    assert report_in(LogLine("now", "stderr", line)) is None
    assert is_listening(LogLine("now", "stdout", '{"type": "listening"}'))
    assert not is_listening(LogLine("now", "stderr", '{"type": "listening"}'))


def test_newest_report_is_the_last_one() -> None:
    lines = [LogLine("now", "stdout", text) for text in (report(frames=1), report(frames=2), "x")]
    assert newest_report(lines) == Report(frames=2)
    assert newest_report(lines[2:]) is None


@given(st.dictionaries(MEMBERS, ANYTHING))
def test_all_that_is_taken_is_in_range_and_can_be_sent(members: dict[str, Any]) -> None:
    """A10: law: whatever is reported, each figure is a finite number of its range, and JSON."""
    found = said(report(**members))
    assert found is not None
    figures = found.figures()
    assert set(figures) <= set(members) - {"every"}
    for name, figure in figures.items():
        assert type(figure) is (float if name == "dice_mean" else int)
        assert 0 <= figure <= (1 if name == "dice_mean" else LARGEST)
    assert json.loads(msgspec.json.encode(figures)) == figures


@given(st.text(max_size=300))
def test_no_line_is_too_odd(text: str) -> None:
    """A10"""
    said(text)
    said('{"type":"report",' + text)
    is_for_people(LogLine("now", "stdout", '{"type":' + text))


ODD_LINES = [
    '{"type":"report","frames":NaN}', '{"type":"report","frames":' + "9" * 5000 + "}",
    '{ "type" : "listening", "port": 1e999 }', '{"type":"report","type":"waiting"}', '{"type":["report"]}',
    '{"type":"report"', "[" * 9000, "ready", '{"type":"ready"}',
]  # fmt: skip


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("text", ODD_LINES, ids=lambda text: text[:40])
def test_line_is_for_people_or_for_the_daemon_and_never_both(
    text: str, stream: Literal["stdout", "stderr"]
) -> None:
    line = LogLine("now", stream, text)
    to_daemon = report_in(line) is not None or is_listening(line) or '"waiting"' in text
    assert is_for_people(line) == (not to_daemon or stream == "stderr")


# From look to look


def frames_read(log: ReportLog, lines: list[LogLine]) -> list[int | None]:
    return [report.frames for report, _ in log.read(lines[-REPORT_LINES:]).reports]


@given(st.lists(st.lists(st.booleans(), max_size=REPORT_LINES), max_size=6))
def test_each_report_is_read_once_however_often_one_looks(looks: list[list[bool]]) -> None:
    """Law: as long as no more is written between two looks than is read, none is missed or read again."""
    log, lines = ReportLog(), list[LogLine]()
    for written in looks:
        new = range(len(lines), len(lines) + len(written))
        lines += (
            LogLine(str(place), "stdout", report(frames=place) if is_report else "words")
            for place, is_report in zip(new, written, strict=True)
        )
        assert frames_read(log, lines) == [place for place in new if lines[place].line != "words"]
        assert frames_read(log, lines) == []


def test_what_may_have_been_missed_between_two_looks_is_known() -> None:
    lines = [LogLine(str(place), "stdout", "words") for place in range(3 * REPORT_LINES)]
    log = ReportLog()
    assert not log.read(lines[: REPORT_LINES - 1]).is_cut
    assert not log.read(lines[10 : REPORT_LINES + 10]).is_cut
    assert log.read(lines[-REPORT_LINES:]).is_cut
