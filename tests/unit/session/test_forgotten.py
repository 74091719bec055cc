# SPDX-License-Identifier: MIT
"""Which objects are left alone because a journal that was lost may have known them, and until when."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from operatord.engines.base import LABEL_SESSION, Found
from operatord.lifecycle.forgotten import Forgotten
from operatord.store.schema import UNKNOWN_PAST


class Facts:
    """The part of a journal that remembers facts."""

    def __init__(self, past: bytes | None = b"true") -> None:
        self.facts = {} if past is None else {UNKNOWN_PAST: past}

    def fact(self, name: str) -> bytes | None:
        return self.facts.get(name)

    def note_fact(self, name: str, data: bytes) -> None:
        self.facts[name] = data


def forgotten(facts: Any) -> Forgotten:
    return Forgotten(facts)


def found(
    id: str,
    session: str = "S",
    status: str = "running",
    kind: Literal["container", "network"] = "container",
) -> Found:
    return Found(kind=kind, id=id, name=id, labels={LABEL_SESSION: session}, status=status)


def test_all_of_a_session_is_left_alone_while_one_of_its_containers_runs() -> None:
    """F8"""
    unknown = [
        found("a"), found("b", status="exited"), found("n", status="", kind="network"),
        found("x", "T", "exited"), found("y", "T", "running", "network"),
    ]  # fmt: skip
    assert forgotten(Facts()).spare(unknown) == {"a", "b", "n"}


def test_once_none_of_it_runs_the_past_is_known_for_good() -> None:
    """F8: else a later daemon would leave alone what no journal has ever known."""
    facts = Facts()
    first = forgotten(facts)
    assert first.spare([found("a")]) == {"a"}
    assert first.spare([found("a", status="exited")]) == set()
    assert first.spare([found("b", "U")]) == set()
    assert forgotten(facts).spare([found("b", "U")]) == set()


@pytest.mark.parametrize("past", [None, b"false", b"", b"nonsense"])
def test_without_an_unknown_past_nothing_is_left_alone(past: bytes | None) -> None:
    """F8: journals of before it had no such fact."""
    assert forgotten(Facts(past)).spare([found("a")]) == set()


def test_what_is_left_alone_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """F8: it is looked every five seconds."""
    caplog.set_level("INFO")
    watched = forgotten(Facts())
    for _ in range(3):
        watched.spare([found("a"), found("b")])
    assert len(caplog.records) == 1
    assert watched.facts()["left_alone"]["objects"] == 2
    watched.spare([])
    assert len(caplog.records) == 2
    assert watched.facts() == {}
