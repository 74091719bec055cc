# SPDX-License-Identifier: MIT
"""What the probe's pictures show: a scanner's sector, its tissue, and a cyst."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

SIDE = 256


@pytest.fixture(scope="module")
def cycle(probe_script: SimpleNamespace) -> Any:
    return probe_script.pictures.Cycle(SIDE, SIDE, 0)


def ellipse(probe_script: SimpleNamespace, shape: Any, grown: float) -> set[int]:
    """Return the places within an outline that is so many pixels larger."""
    larger = shape._replace(rx=shape.rx + grown, ry=shape.ry + grown)
    spans = probe_script.ellipse.spans(larger, SIDE, SIDE)
    return {place for start, stop in spans for place in range(start, stop)}


def level(cycle: Any, places: set[int], shape: int = 0) -> float:
    """Return the mean grey level there, over frames with the same shape and other noise."""
    drawn = [cycle.render(index, cycle.shape(shape)) for index in range(8)]
    return fmean(picture[place] for picture in drawn for place in places)


def test_a_fan_has_black_around_it(cycle: Any) -> None:
    """N9."""
    picture = cycle.frame(0)[1]
    rows = [picture[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE)]
    corners = (rows[0][0], rows[0][-1], rows[-1][0], rows[-1][-1])
    assert corners == (0, 0, 0, 0)
    widths = [SIDE - row.count(0) for row in rows]
    assert widths[SIDE // 10] < widths[SIDE // 4] < widths[SIDE // 2]
    middle = picture[SIDE // 2 :: SIDE].strip(b"\0")
    assert 0 not in middle and len(middle) > 0.8 * SIDE  # within, nothing is black
    assert 0.5 < sum(widths) / SIDE**2 < 0.9


def test_tissue_has_layers_and_gets_darker_with_depth(cycle: Any) -> None:
    """N9."""

    def across(y: int, begin: int) -> float:
        return level(cycle, {y * SIDE + x for x in range(begin, begin + 10)}, cycle.length // 2)

    skin, fat = across(24, 124), across(36, 124)
    organ, deep = across(138, 180), across(242, 180)  # where no cyst is before it
    assert skin > fat + 10
    assert organ > deep + 10


def test_cyst_has_soft_edges_and_brighter_tissue_behind(
    cycle: Any, probe_script: SimpleNamespace
) -> None:
    """N9."""
    shape = cycle.shape(0)
    outlines = [ellipse(probe_script, shape, grown) for grown in (-2, -1, 1, 2, 5)]
    inside = outlines[0]
    edge, around = outlines[2] - outlines[1], outlines[4] - outlines[3]
    assert level(cycle, inside) + 15 < level(cycle, edge) < level(cycle, around) - 15
    down = int(shape.cy + shape.ry + 6)
    behind = {down * SIDE + int(shape.cx) + x for x in range(-20, 20)}
    aside = {down * SIDE + x for x in range(40, 80)}
    assert level(cycle, behind) > level(cycle, aside) + 5


def test_the_cyst_is_in_the_fan_all_the_time(cycle: Any, probe_script: SimpleNamespace) -> None:
    """The truth is exact: there is nothing of it outside of what the scanner sees."""
    fan = {
        place for place, tissue in enumerate(probe_script.pictures.tissues(SIDE, SIDE)) if tissue
    }
    for index in range(cycle.length):
        assert ellipse(probe_script, cycle.shape(index), 0) <= fan


def test_layers_go_down_to_the_end(probe_script: SimpleNamespace) -> None:
    pictures = probe_script.pictures
    depths = [depth for depth, _, _ in pictures.LAYERS]
    assert all(above < below for above, below in pairwise(depths))
    assert depths[-1] == 1
    assert {tissue for _, tissue, _ in pictures.LAYERS} <= set(range(1, len(pictures.ECHOES) + 1))
