# SPDX-License-Identifier: MIT
"""What a check has found, as a table for people and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .checks import UNTRIED, Finding, passes
from .judging.lives import way_of_late_binding
from .verdict import Evidence

MARKS = {"holds": "holds", "does not hold": "DOES NOT HOLD", "cannot be told": "cannot be told"}
_INDENT = " " * 17
_WIDTH = 110
_WIDE = 130
"""Columns of a row, which has its check's title beside what was seen."""


def lines(evidence: Evidence, findings: Sequence[Finding], *, every_why: bool) -> Iterator[str]:
    """Yield the table; ``every_why``: of each check why it matters, and not only of what does not hold."""
    width = max(len(each.check.title) for each in findings)
    yield from _groups(findings, width, every_why)
    yield ""
    yield from _summary(evidence, findings)


def _groups(findings: Sequence[Finding], width: int, every_why: bool) -> Iterator[str]:
    for title, required in (("required", True), ("recommended", False)):
        yield f"{title}:"
        of = [each for each in findings if each.required is required]
        for each in of:
            if each.verdict != UNTRIED:
                yield from _row(each, width, every_why)
        if untried := sum(each.verdict == UNTRIED for each in of):
            yield f"  {MARKS[UNTRIED.state]} {untried} more: {UNTRIED.seen}"


def _row(finding: Finding, width: int, every_why: bool) -> Iterator[str]:
    check, verdict = finding
    mark = MARKS[verdict.state]
    begun = f"  {mark:<14} {check.title:<{width}}  "
    yield from textwrap.wrap(
        verdict.seen, _WIDE, initial_indent=begun, subsequent_indent=" " * len(begun)
    )
    if verdict.state == "does not hold" or every_why:
        yield from _wrapped("why", check.why)
    if finding.advice and verdict.state != "holds":
        yield from _wrapped("do", finding.advice)


def _wrapped(label: str, text: str) -> list[str]:
    first = f"{_INDENT}{label + ':':<5}"
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=_INDENT + " " * 5)


def _summary(evidence: Evidence, findings: Sequence[Finding]) -> Iterator[str]:
    for title, required in (("required", True), ("recommended", False)):
        of = [each for each in findings if each.required is required]
        held = sum(each.verdict.state == "holds" for each in of)
        untold = sum(each.verdict.state == "cannot be told" for each in of)
        rest = f", {untold} cannot be told" if untold else ""
        yield f"{title}: {held} of {len(of)} hold{rest}"
    yield from _settings(evidence)


def _settings(evidence: Evidence) -> Iterator[str]:
    """Yield what to write in the settings of the stage, if that was found out."""
    if (found := way_of_late_binding(evidence)) is not None:
        yield f"settings: late_bind: {found}"


def as_json(evidence: Evidence, findings: Sequence[Finding]) -> Mapping[str, Any]:
    """Return everything as plain data."""
    subject = evidence.subject
    return {
        "image": subject.stage.image,
        "kind": subject.kind,
        "stage": subject.name,
        "passes": passes(findings),
        "late_bind": way_of_late_binding(evidence),
        "checks": [_check(each) for each in findings],
    }


def _check(finding: Finding) -> Mapping[str, Any]:
    check, verdict = finding
    return {
        "name": check.name,
        "title": check.title,
        "required": finding.required,
        "state": verdict.state,
        "seen": verdict.seen,
        "why": check.why,
        "what_to_do": finding.advice,
    }
