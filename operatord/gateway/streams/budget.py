# SPDX-License-Identifier: MIT
"""How much memory pictures may take in this process, whoever sends or does not take them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

BYTES = 512 * 1024 * 1024


class Budget:
    """Bytes that are taken and given back."""

    def __init__(self, size: int = BYTES) -> None:
        self.free = size

    def take(self, size: int) -> Allotment | None:
        """Return what is given back by `with`, or by hand; None if there is not as much."""
        if size > self.free:
            return None
        self.free -= size
        return Allotment(self, size)


class Allotment:
    """A part of a budget, which goes back once."""

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget, self._size = budget, size

    def give_back(self) -> None:
        """Give it back, unless that has been done."""
        self._budget.free += self._size
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()
