# SPDX-License-Identifier: MIT
"""Vectors: the arithmetic, and the questions asked of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operatord.core.resources import (
    DIMENSIONS,
    NOTHING,
    UNLIMITED,
    Vector,
    dominant_share,
    fits,
    lacking,
    least,
    minus,
    most,
    plus,
    shown,
    total,
)

whole = st.integers(-(10**12), 10**12)
some = st.integers(0, 20)


def each(amount: st.SearchStrategy[int]) -> st.SearchStrategy[Vector]:
    return st.lists(amount, min_size=6, max_size=6).map(Vector._make)


vectors, needs = each(whole), each(some)


def test_a_vector_has_the_dimensions_in_their_order() -> None:
    assert Vector._fields == DIMENSIONS


@given(vectors, vectors)
def test_what_is_taken_and_given_back_leaves_exactly_what_was(a: Vector, b: Vector) -> None:
    assert minus(plus(a, b), b) == a
    assert plus(a, b) == plus(b, a)
    assert minus(a, a) == NOTHING
    assert plus(a, NOTHING) == a


@given(st.lists(vectors))
def test_the_total_is_what_adding_one_by_one_gives(several: list[Vector]) -> None:
    together = NOTHING
    for one in several:
        together = plus(together, one)
    assert total(several) == together


@given(vectors, vectors)
def test_of_two_the_smaller_and_the_larger_are_taken_in_each_dimension(
    a: Vector, b: Vector
) -> None:
    for low, high, x, y in zip(least(a, b), most(a, b), a, b, strict=True):
        assert [low, high] == sorted([x, y])


@given(needs, each(st.integers(-5, 20)))
def test_it_fits_unless_something_that_is_needed_is_lacking(need: Vector, free: Vector) -> None:
    short = [
        name
        for name, n, f in zip(DIMENSIONS, need, free, strict=True)
        if n and n > f  # what is not needed may be overdrawn
    ]
    assert fits(need, free) == (not short)
    assert set(lacking(need, free)) == set(short)


def test_what_is_lacking_most_comes_first() -> None:
    need, free = Vector(cpus=10, memory=10, ports=2), Vector(cpus=9, memory=1, ports=-50)
    assert lacking(need, free) == ["ports", "memory", "cpus"]


def test_the_dominant_share_is_that_of_the_dimension_used_most() -> None:
    capacity = Vector(cpus=8, memory=100, sessions=10, ports=UNLIMITED)
    assert dominant_share(Vector(cpus=2, memory=75, sessions=1, ports=9), capacity) == 0.75
    assert dominant_share(NOTHING, capacity) == 0
    assert dominant_share(Vector(gpus=1, ports=9), capacity) == 0, "of nothing, or of any number"


@given(needs, needs, each(st.integers(1, 20)))
def test_a_share_never_falls_by_taking_more(used: Vector, more: Vector, capacity: Vector) -> None:
    assert dominant_share(used, capacity) <= dominant_share(plus(used, more), capacity)


def test_people_are_shown_cores_and_bytes() -> None:
    assert shown("cpus", 1500) == 1.5
    assert shown("memory", 1500) == 1500
