# SPDX-License-Identifier: MIT
"""What is asked for, and when: jobs made up from a seed, one after the other.

No site has published how people use imaging probes, so the mix is a guess that is written down: sizes around
the pipelines that are shipped, plain and segmented, for frames from 256×256 up. What can be relied on is its
form. Requests arrive independently of one another (a Poisson process), durations are log-normal (many short,
few long ones, as in Feitelson, "Workload Modeling for Computer Systems Performance Evaluation", 2015,
chapters 3 and 8), and large sessions are rare but take half of the machine's time.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist
from typing import NamedTuple, TypeVar

from operatord.core.resources import UNLIMITED, Vector, fits

T = TypeVar("T")
MIB = 2**20
START = 0.8
"""Seconds from the decision to the proven stream: about what a cold start of a segmented session takes on
an engine with three containers in one network namespace."""


class Job(NamedTuple):
    """One request, and what will be true of it."""

    at: float
    """Seconds from the beginning."""
    owner: str
    need: Vector
    seconds: float
    """How long its stream really lasts."""
    priority: int = 0
    estimate: float | None = None
    """How long the scheduler is told that it lasts; None if nobody knows."""


class Kind(NamedTuple):
    """A sort of session, and how often it is asked for."""

    weight: float
    need: Vector


def _kind(weight: float, millicores: int, mib: int) -> Kind:
    return Kind(weight, Vector(cpus=millicores, memory=mib * MIB, sessions=1))


MIX = (
    _kind(0.30, 50, 64),  # plain, small frames
    _kind(0.30, 150, 96),  # segmented, small frames
    _kind(0.15, 250, 192),  # plain, 1024×1024
    _kind(0.15, 500, 384),  # segmented, 512×512
    _kind(0.08, 2000, 1024),  # segmented, 1024×1024
    _kind(0.02, 6000, 4096),  # segmented with a large model
)
MEDIAN, SPREAD = 20.0, 1.0
"""Of the durations, in seconds; the spread is the standard deviation of their logarithm."""
SHORTEST, LONGEST = 5.0, 600.0
"""Seconds: nobody asks for less, and a lease ends what lasts longer."""
PRIORITIES = {0: 0.9, 1: 0.08, 5: 0.02}


class Synthetic(NamedTuple):
    """How a synthetic trace is to look."""

    sessions: int
    capacity: Vector
    """Of one node."""
    nodes: int = 1
    load: float = 1.1
    """Demand in the scarcest dimension, as a part of its capacity; from 1 on a queue grows."""
    owners: int = 8
    flood: float = 1.0
    """How many times as much as each other owner the first one asks for, on top of ``load``."""
    start: float = START
    """Seconds that each session is held before its stream begins."""
    seed: int = 1


def synthetic(wanted: Synthetic) -> Iterator[Job]:
    """Yield the jobs of a trace in the order of their coming. The same seed gives the same jobs."""
    draw = random.Random(wanted.seed)  # noqa: S311, repeatable on purpose
    names = [f"owner-{number}" for number in range(1, wanted.owners + 1)]
    owner = _chooser(draw, dict(zip(names, _owner_weights(wanted), strict=True)))
    need = _chooser(draw, {kind.need: kind.weight for kind in MIX})
    priority = _chooser(draw, PRIORITIES)
    rate, location = arrival_rate(wanted), math.log(MEDIAN)
    at = 0.0
    for _ in range(wanted.sessions):
        at += draw.expovariate(rate)
        seconds = min(LONGEST, max(SHORTEST, draw.lognormvariate(location, SPREAD)))
        yield Job(at, owner(), need(), seconds, priority(), seconds)


def _chooser(draw: random.Random, weights: Mapping[T, float]) -> Callable[[], T]:
    """Return what draws one of the keys by its weight, several times faster than `random.choices`."""
    keys, sums = list(weights), list(itertools.accumulate(weights.values()))
    uniform, last, whole = draw.random, len(keys) - 1, sums[-1]
    return lambda: keys[min(last, bisect.bisect(sums, uniform() * whole))]


def arrival_rate(wanted: Synthetic) -> float:
    """Return the requests per second that make the load wanted, starts included.

    What no node could ever hold is asked for, and refused, but makes no load. Raises `ValueError` if
    nothing is left.
    """
    held = mean_seconds() + wanted.start
    fitting = [kind for kind in MIX if fits(kind.need, wanted.capacity)]
    demands = [
        sum(kind.weight * kind.need[index] for kind in fitting) * held / (capacity * wanted.nodes)
        for index, capacity in enumerate(wanted.capacity)
        if 0 < capacity < UNLIMITED
    ]
    if not fitting:
        raise ValueError("no node is large enough for any of the synthetic sessions")
    more = sum(_owner_weights(wanted)) / wanted.owners
    return wanted.load * more * sum(kind.weight for kind in MIX) / max(demands)


def mean_seconds() -> float:
    """Return the mean of the durations: of a log-normal distribution with what is beyond its ends put there.

    The middle part is the textbook's partial expectation, exp(μ + σ²/2) · [Φ(b − σ) − Φ(a − σ)] with a and b
    the ends in standard deviations from the median.
    """
    standard, location = NormalDist(), math.log(MEDIAN)
    low, high = ((math.log(end) - location) / SPREAD for end in (SHORTEST, LONGEST))
    middle = standard.cdf(high - SPREAD) - standard.cdf(low - SPREAD)
    return (
        SHORTEST * standard.cdf(low)
        + math.exp(location + SPREAD**2 / 2) * middle
        + LONGEST * (1 - standard.cdf(high))
    )


def _owner_weights(wanted: Synthetic) -> list[float]:
    return [wanted.flood, *[1.0] * (wanted.owners - 1)]


class Estimates(NamedTuple):
    """What the scheduler is told about durations."""

    known: bool = True
    noise: float = 0.0
    """Standard deviation of the logarithm of told / true: with 0.5, two thirds are told as between 0.6 and
    1.6 times the truth."""
    seed: int = 1


def told(jobs: Iterator[Job], estimates: Estimates) -> Iterator[Job]:
    """Yield the same jobs with the estimates that the scheduler is given."""
    if estimates.known and not estimates.noise:
        yield from jobs
        return
    draw = random.Random(f"estimates {estimates.seed}")  # noqa: S311, repeatable on purpose
    for job in jobs:
        if not estimates.known or job.estimate is None:
            yield job._replace(estimate=None)
        else:
            wrong = math.exp(draw.gauss(0.0, estimates.noise))
            yield job._replace(estimate=job.seconds * wrong)
