# SPDX-License-Identifier: MIT
"""How long a claimed slot's stages may be silent: several times as long as stages have taken."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from operatord.provision.slot_faults import SILENT, TIMES, SlotFaults


def took(seconds: float, pipeline: str = "stream") -> Mock:
    """Return a session that was so long from its line to its stream."""
    record = Mock(timings={"verify": seconds * 1000})
    record.plan.pipeline = pipeline
    return record


def test_patience_grows_with_what_stages_take_and_is_found_again_when_they_are_quick() -> None:
    """F21: on a slow machine, or with an image that loads for long, nobody is given up for that."""
    faults = SlotFaults(Mock())
    assert faults.patience("stream") == SILENT
    faults.note(took(0.01))
    assert faults.patience("stream") == SILENT
    faults.note(took(8))
    assert faults.patience("stream") == pytest.approx(TIMES * 8)
    assert faults.patience("other") == SILENT
    for _ in range(6):
        faults.note(took(0.01))
    assert faults.patience("stream") == SILENT
