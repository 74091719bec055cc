# SPDX-License-Identifier: MIT
"""What stages really use, learned from samples of those that ran.

For each stage of each pipeline two things are kept, because they err in different ways. The *start peak* is
the largest use seen while a session was young: reading a model or importing a library can take more than
anything later. The *steady p95* is the 95th percentile of the use after that: what a session hardly ever
exceeds; single odd samples do not matter. Both look back over a bounded number of samples, so an unusual day
is forgotten. Nothing here reads a clock or an engine: samples are brought by `operatord.monitors.usage`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import msgspec

YOUNG_KEPT = 64
STEADY_KEPT = 256
"""Samples of each stage that are remembered; at one every 15 s, an hour of one session."""
ENOUGH = 3
"""Samples from which on a lesson is believed."""
PERCENT = 95
STEPS = (10, 8 * 1024**2)
"""Learned amounts are rounded up to steps of so many thousandths of a core, and of so many bytes."""


class Use(NamedTuple):
    """What a stage uses, or is said to."""

    cpus: int = 0
    """Thousandths of a core."""
    memory: int = 0
    """Bytes."""


NOTHING = Use()


class Lesson(NamedTuple):
    """What has been learned of a stage; nothing where there is no sample of the kind."""

    start_peak: Use
    steady_p95: Use
    samples: int
    """How many samples it rests on."""


class StageUse(NamedTuple):
    """What one stage of one session has used, as far as it was seen."""

    peak: Use = NOTHING
    last: Use = NOTHING

    def seen(self, use: Use) -> StageUse:
        """Return what is known after another sample."""
        return StageUse(largest((self.peak, use)), use)


class _Kept(msgspec.Struct):
    """A stage's samples as plain data, oldest first."""

    young: list[Use]
    steady: list[Use]


class _Samples:
    """The latest samples of one stage, and what they teach, worked out when somebody asks."""

    def __init__(self, young: Iterable[Use] = (), steady: Iterable[Use] = ()) -> None:
        self.young = deque(young, maxlen=YOUNG_KEPT)
        self.steady = deque(steady, maxlen=STEADY_KEPT)
        self._lesson: Lesson | None = None

    def note(self, use: Use, young: bool) -> None:
        (self.young if young else self.steady).append(use)
        self._lesson = None

    def lesson(self) -> Lesson:
        if self._lesson is None:
            count = len(self.young) + len(self.steady)
            self._lesson = Lesson(largest(self.young), p95(self.steady), count)
        return self._lesson


class Learned:
    """What is known of the stages of all pipelines."""

    def __init__(self, enough: int = ENOUGH) -> None:
        """Believe what at least ``enough`` samples say."""
        self._enough = enough
        self._stages: dict[tuple[str, str], _Samples] = {}

    def note(self, pipeline: str, stage: str, use: Use, young: bool) -> None:
        """Remember a sample, of a session that was ``young`` or was not. Constant time."""
        self._stages.setdefault((pipeline, stage), _Samples()).note(use, young)

    def of(self, pipeline: str, stage: str) -> Lesson | None:
        """Return what has been learned of a stage; None when it has never been seen."""
        samples = self._stages.get((pipeline, stage))
        return None if samples is None else samples.lesson()

    def reservation_for(self, pipeline: str, stage: str, declared: Use) -> Use:
        """Return what to hold for a stage for the whole life of its session: never less than declared.

        The start peak is kept to the end: otherwise the next start could take it, and it would be missing
        when the stage needs it again.
        """
        lesson = self.of(pipeline, stage)
        if lesson is None or lesson.samples < self._enough:
            return declared
        return largest((declared, rounded(largest((lesson.start_peak, lesson.steady_p95)))))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data: pipeline → stage → ``young`` and ``steady`` samples."""
        plain: dict[str, Any] = {}
        for (pipeline, stage), samples in self._stages.items():
            kept = _Kept(list(samples.young), list(samples.steady))
            plain.setdefault(pipeline, {})[stage] = msgspec.to_builtins(kept)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], enough: int = ENOUGH) -> Self:
        """Return what `to_dict` was taken from. Raises `ValueError` for anything else."""
        learned = cls(enough)
        for pipeline, stages in msgspec.convert(plain, dict[str, dict[str, _Kept]]).items():
            for stage, kept in stages.items():
                learned._stages[pipeline, stage] = _Samples(kept.young, kept.steady)
        return learned


def rounded(use: Use) -> Use:
    """Return ``use`` rounded up to steps, so that samples that differ a little ask for the same.

    Requests for the same amounts are interchangeable to the scheduler, which makes it quick.
    """
    return Use(*(-(-amount // step) * step for amount, step in zip(use, STEPS, strict=True)))


def largest(uses: Iterable[Use]) -> Use:
    """Return the largest of each member; nothing for no uses."""
    return Use(*map(max, zip(NOTHING, *uses, strict=True)))


def p95(uses: Iterable[Use]) -> Use:
    """Return the 95th percentile of each member by nearest rank; nothing for no uses.

    Nearest rank: the smallest sample that at least 95 of 100 samples do not exceed, the ⌈0.95 n⌉th
    of n in order (Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996, definition 1).
    It is always one of the samples, so whole numbers stay whole.
    """
    members = list(zip(*uses, strict=True))
    return Use(*map(_nearest_rank, members)) if members else NOTHING


def _nearest_rank(values: Iterable[int]) -> int:
    ordered = sorted(values)
    rank = -(-PERCENT * len(ordered) // 100)
    return ordered[rank - 1]
