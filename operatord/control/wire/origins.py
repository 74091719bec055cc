# SPDX-License-Identifier: MIT
"""How many peers are connected from where, for `limits.connections_per_address`."""

from __future__ import annotations

from collections import Counter


class Origins:
    """Counts those who are connected."""

    def __init__(self) -> None:
        """Nobody is."""
        self._counts: Counter[str] = Counter()

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def add(self, name: str) -> None:
        """Count one more."""
        self._counts[name] += 1

    def remove(self, name: str) -> None:
        """Count one less."""
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]
