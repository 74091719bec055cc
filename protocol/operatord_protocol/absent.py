# SPDX-License-Identifier: MIT
"""Members that are left out: ``UNSET`` in the types of the wire, None, or a default, everywhere else."""

from __future__ import annotations

from typing import TypeVar, overload

from msgspec import UNSET, UnsetType

T = TypeVar("T")
D = TypeVar("D")


@overload
def given(member: T | UnsetType) -> T | None: ...


@overload
def given(member: T | UnsetType, default: D) -> T | D: ...


def given(member: T | UnsetType, default: D | None = None) -> T | D | None:
    """Return a member's value; ``default`` if it was left out."""
    return default if member is UNSET else member


def or_unset(value: T | None) -> T | UnsetType:
    """Return a member's value for the wire: None leaves it out."""
    return UNSET if value is None else value
