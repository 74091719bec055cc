# SPDX-License-Identifier: MIT
"""What was left out is told from what was said, whatever that was."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from operatord_protocol.absent import given, or_unset


@pytest.mark.parametrize("value", ["", "a", 0, 7, False, 0.0, []])
def test_what_was_said_counts_even_if_it_is_nothing(value: object) -> None:
    assert given(value) is value
    assert given(value, "default") is value
    assert or_unset(value) is value


def test_what_was_left_out_is_none_or_the_default() -> None:
    assert given(UNSET) is None
    assert given(UNSET, 5) == 5
    assert or_unset(None) is UNSET
