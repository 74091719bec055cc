# SPDX-License-Identifier: MIT
"""Joins the pages of a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Pages(Generic[T]):
    """The items so far, and what to ask for next while there is `more`."""

    def __init__(self, limit: int | None = None) -> None:
        """Want at most ``limit`` items; None for all."""
        self._limit = limit
        self._cursor: str | None = None
        self.items: list[T] = []
        self.more = True

    def params(self) -> dict[str, Any]:
        """Return the params of the next request, as far as they are about the piece."""
        left = None if self._limit is None else self._limit - len(self.items)
        return {"limit": left, "cursor": self._cursor}

    def take(self, items: Iterable[T], further: object) -> None:
        """Add a piece; ``further`` is its cursor, if there is more."""
        self.items += items
        self._cursor = further if isinstance(further, str) else None
        full = self._limit is not None and len(self.items) >= self._limit
        self.more = self._cursor is not None and not full
