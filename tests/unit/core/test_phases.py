# SPDX-License-Identifier: MIT
from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from operatord.core.phases import TRANSITIONS, IllegalTransition, advance, reached
from operatord_protocol.messages import Phase

PHASES: tuple[Phase, ...] = get_args(Phase)


def test_table_has_every_phase_of_the_protocol() -> None:
    assert tuple(TRANSITIONS) == PHASES == ("queued", "starting", "running", "stopping", "ended")


def test_every_phase_can_be_reached_and_left_until_the_end() -> None:
    seen, todo = set(), ["queued"]
    while todo:
        seen.add(phase := todo.pop())
        todo += [to for to in TRANSITIONS[phase] if to not in seen]
    assert seen == set(PHASES)
    assert [phase for phase in PHASES if not TRANSITIONS[phase]] == ["ended"]


@pytest.mark.parametrize(("current", "to"), list(product(PHASES, PHASES)))
def test_only_the_ways_of_the_table_are_open(current: Phase, to: Phase) -> None:
    if to in TRANSITIONS[current]:
        assert advance(current, to) == to
        assert reached(to, current), "phases only go forwards"
    else:
        with pytest.raises(IllegalTransition):
            advance(current, to)


def test_reached_means_there_or_past() -> None:
    assert reached("running", "running")
    assert reached("ended", "running")
    assert not reached("starting", "running")
