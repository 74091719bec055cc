# SPDX-License-Identifier: MIT
"""What the exits of a session's stages mean for the session.

- A stage that ends with anything but 0 fails the session, whatever the others do. Others often fail with it,
  because their stream broke off; the one that ended first is to blame. The exception is a stage whose exit
  code says that its upstream failed, if the upstream did fail: a busy engine may report their exits in any
  order.
- When the last stage has ended with 0, the requester has had everything: the session is completed, and
  stages before it that still run have a moment to end by themselves.
- Stages before the last may end earlier: what they sent is on its way.
- A stage that somebody stopped, restarted or disconnected without the daemon counts as ended, and it is to
  blame: other stages often fail because of it before its own end is seen.
- While the session starts, nobody can have had the stream yet, so a last stage that ends fails the start.
  Earlier ones may have ended: a short stream lies whole in the sockets of the next stage.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Meddling = Literal["stopped", "restarted", "disconnected"]
"""What somebody has done to a stage without the daemon. With its network, a stage loses its published
port."""
RUNS_IN_VAIN: frozenset[Meddling | None] = frozenset(("restarted", "disconnected"))
"""After these the container may run, but the stage counts as ended: its connections are gone, and so are the
settings that it was sent, or its published port."""

UPSTREAM_FAILED = (3, 4)
"""Exit codes of the stage contract that put the blame on the stage before, or on a registered probe."""
KILLED = 128 + signal.SIGKILL
"""Exit code of a stage that was killed: by the kernel for want of memory, or by somebody."""
LINGER = 2.0
"""Seconds that earlier stages get to end by themselves after the last one has."""


class Exit(NamedTuple):
    """How one stage ended. ``code`` is None when its container vanished."""

    code: int | None
    oom_killed: bool = False
    at: float | None = None
    """When it ended. All exits are timed by the same clock; None sorts first."""
    by_others: Meddling | None = None
    unwatched: bool = False
    """Nobody watched when it ended: what was done to it is not known."""


class Verdict(NamedTuple):
    """What becomes of the session; ``after`` seconds from now."""

    outcome: Literal["completed", "failed"]
    cause: str
    reason: str
    stage: str
    after: float = 0.0


def judge(stages: Sequence[str], exits: Mapping[str, Exit]) -> Verdict | None:
    """Return what the exits so far decide; None while they decide nothing."""
    ended = [stage for stage in stages if stage in exits]
    for stage in sorted(ended, key=lambda stage: _blame(stages, exits, stage)):
        if verdict := failure(stage, exits[stage]):
            return verdict
    last = stages[-1]
    if last not in exits:
        return None
    after = 0.0 if all(stage in exits for stage in stages) else LINGER
    return Verdict("completed", "done", "the stream has been delivered to its end", last, after)


def judge_start(stages: Sequence[str], exits: Mapping[str, Exit]) -> Verdict | None:
    """Return what exits mean before the stream has been there; None when they decide nothing."""
    verdict = judge(stages, exits)
    if verdict is None or verdict.outcome == "failed":
        return verdict
    last = stages[-1]
    return Verdict("failed", "exit", f"the stage {last!r} ended before there was a stream", last)


def _blame(
    stages: Sequence[str], exits: Mapping[str, Exit], stage: str
) -> tuple[bool, bool, float]:
    """Return a sort key: the stage to blame comes first."""
    how = exits[stage]
    return how.by_others is None, _blames_another(stages, exits, stage), how.at or 0.0


def _blames_another(stages: Sequence[str], exits: Mapping[str, Exit], stage: str) -> bool:
    """Tell whether a stage says that its upstream failed, and the upstream did fail."""
    position = stages.index(stage)
    if position == 0 or exits[stage].code not in UPSTREAM_FAILED:
        return False
    before = stages[position - 1]
    return before in exits and failure(before, exits[before]) is not None


def failure(stage: str, how: Exit) -> Verdict | None:
    """Return what is wrong with how a stage ended, or None if nothing is."""
    if how.oom_killed:
        reason = f"the stage {stage!r} used more memory than its limit and was killed"
        return Verdict("failed", "oom", reason, stage)
    if how.code is None and how.by_others not in RUNS_IN_VAIN:
        reason = f"the container of the stage {stage!r} was removed by somebody else"
        return Verdict("failed", "exit", reason, stage)
    if how.by_others is not None:
        what = "disconnected from its network" if how.by_others == "disconnected" else how.by_others
        reason = f"the stage {stage!r} was {what} from outside"
        return Verdict("failed", "exit", reason, stage)
    if how.code:
        return Verdict("failed", "exit", f"the stage {stage!r} {_ended(how.code, how)}", stage)
    return None


def _ended(code: int, how: Exit) -> str:
    """Return how a stage ended with ``code``. If it was killed and nobody saw by whom, only the signal's
    number is known.

    Shells and engines add 128 to it.
    """
    if not how.unwatched:
        return f"ended with code {code}"
    try:
        what = f"was killed by signal {code - 128} ({signal.Signals(code - 128).name})"
    except ValueError:
        what = f"ended with code {code}"
    return f"{what} while no daemon watched"
