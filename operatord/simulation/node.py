# SPDX-License-Identifier: MIT
"""The machines: each one a state of the core, and who is asked to take a session.

With several nodes each keeps its own queue. A session goes to one of a few nodes drawn at random: to one
that can start it at once, else to the shortest queue. Two choices instead of one make the longest queue
exponentially shorter, more choices hardly matter, and nobody has to know the state of all nodes
(Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001).
"""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

from operatord.core.resources import UNLIMITED, Vector, dominant_share
from operatord.core.scheduling.ledger import Settings, State
from operatord.core.scheduling.room import Gpu

from .trace import START

PolicyName = Literal["easy", "fair", "fifo"]
AGEING = Settings._field_defaults["ageing"]


class Plan(NamedTuple):
    """The machines that there are, and how they are run."""

    nodes: int
    capacity: Vector
    """Of one node."""
    policy: PolicyName = "easy"
    choices: int = 2
    """Nodes that are looked at for each session."""
    ageing: float = AGEING
    per_owner: int | None = None
    """Sessions that one owner may have at once on one node."""
    queue: int = UNLIMITED
    """Requests that may wait on one node."""
    start: float = START
    """Seconds from a decision to start until the stream is there."""
    seed: int = 1


class Node:
    """One machine."""

    __slots__ = ("number", "state")

    def __init__(self, number: int, settings: Settings) -> None:
        self.number = number
        self.state = State(settings)

    def standing(self, need: Vector, gpus: tuple[int, ...]) -> tuple[bool, int, float]:
        """Return how good a place it is for ``need``; less is better.

        First whether it would have to wait, then behind how many, then how full the node is. A request that
        could pass waiting ones counts as waiting: this is known only once it is submitted.
        """
        state = self.state
        waits = state.length > 0 or not state.room.has(need, gpus)
        return waits, state.length, dominant_share(state.room.used, state.settings.capacity)


def capacity(cpus: int, memory: int, places: int, gpus: int = 0) -> Vector:
    """Return what a node has: thousandths of a core, bytes, sessions and devices; the rest has no bound."""
    return Vector(cpus, memory, gpus, places, UNLIMITED, UNLIMITED)


def make_nodes(plan: Plan) -> list[Node]:
    """Return the machines, idle."""
    return [Node(number, settings(plan)) for number in range(plan.nodes)]


def settings(plan: Plan) -> Settings:
    """Return the core's settings for a policy.

    ``easy`` is the daemon's own: fair, ageing, with backfilling. ``fair`` is the same without backfilling.
    ``fifo`` is first come, first served within a priority: nobody passes anybody, and nothing ages.
    """
    plain = plan.policy == "fifo"
    return Settings(
        capacity=plan.capacity,
        gpus=tuple(Gpu(UNLIMITED, f"gpu-{n}") for n in range(plan.capacity.gpus)),
        queue=plan.queue,
        per_owner=plan.per_owner,
        ageing=0.0 if plain else plan.ageing,
        backfill=plan.policy == "easy",
        fair=not plain,
    )


class NodeChooser:
    """Chooses a node for each session."""

    def __init__(self, nodes: list[Node], choices: int, seed: int) -> None:
        self._nodes = nodes
        self._choices = min(choices, len(nodes))
        self._random = random.Random(f"dispatch {seed}")  # noqa: S311, repeatable on purpose

    def choose(self, need: Vector, gpus: tuple[int, ...]) -> Node:
        """Return the best of the nodes that are looked at."""
        if len(self._nodes) == 1:
            return self._nodes[0]
        candidates = self._random.sample(self._nodes, self._choices)
        return min(candidates, key=lambda node: node.standing(need, gpus))
