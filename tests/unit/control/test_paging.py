# SPDX-License-Identifier: MIT
"""How much of a list comes at a time."""

from __future__ import annotations

import pytest
from msgspec import UNSET, UnsetType

from operatord.control.paging import wanted


@pytest.mark.parametrize(
    ("limit", "given"), [(UNSET, 100), (1, 1), (200, 200), (201, 200), (10_000, 200)]
)
def test_a_piece_is_bounded_whatever_is_asked_for(limit: int | UnsetType, given: int) -> None:
    """A1, A6: a thousand sessions in one answer would take everybody's time."""
    assert wanted(limit, UNSET).limit == given
