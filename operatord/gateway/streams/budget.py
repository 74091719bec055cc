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

    def take(self, size: int) -> BudgetShare | None:
        """Return what is given back by `with`; None if there is not as much."""
        share = BudgetShare(self)
        return share if share.grow_to(size) else None


class BudgetShare:
    """A part of a budget, which goes back at the end of a `with`."""

    def __init__(self, budget: Budget) -> None:
        """Have nothing yet."""
        self._budget, self._size = budget, 0

    def grow_to(self, size: int) -> bool:
        """Have ``size`` bytes, if that is more than before; return False if there is not as much."""
        more = max(0, size - self._size)
        if more > self._budget.free:
            return False
        self._budget.free -= more
        self._size += more
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget.free += self._size
        self._size = 0
