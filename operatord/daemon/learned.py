# SPDX-License-Identifier: MIT
"""What has been learned of the stages, from one life of the daemon to the next."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from operatord.core.scheduling.learning import Learned
from operatord.store.journal import Journal

log = logging.getLogger(__name__)

LEARNED = "learned"
LEARNED_EVERY = 60.0
"""Seconds between notes of what has been learned of the stages."""


class LearnedMemory:
    """Reads ``learned`` from the journal, and writes it down there."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.learned = _learned(journal)

    async def run(self) -> None:
        """Write it down each minute."""
        while True:
            await asyncio.sleep(LEARNED_EVERY)
            self.write()

    def write(self) -> None:
        """Write it down."""
        learned = self.learned.to_dict()
        self._journal.note_fact(LEARNED, msgspec.json.encode(learned))


def _learned(journal: Journal) -> Learned:
    """Return what an earlier life of the daemon has learned of the stages."""
    data = journal.fact(LEARNED)
    try:
        return Learned() if data is None else Learned.from_dict(msgspec.json.decode(data))
    except ValueError as exc:
        log.warning("what was learned of the stages cannot be read and is forgotten: %s", exc)
        return Learned()
