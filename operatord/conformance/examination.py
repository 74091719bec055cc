# SPDX-License-Identifier: MIT
"""All trials of one image, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from operatord.engines import base

from .bench import Bench, Trouble
from .judging.lives import late_fault
from .seen import Seen
from .subject import Asked, Kind, Subject, usual
from .trial import Trial
from .trials import kinds, table
from .verdict import Evidence

AT_ONCE = 6
"""Trials: two cores are kept busy by them, and a subnet has room for thirteen stages."""


class Terms(NamedTuple):
    """How patient a check is, in seconds."""

    patience: float
    """Until a stage that was started has come up, or has found that it cannot."""
    grace: float
    """Between SIGTERM and SIGKILL."""


class Guess(NamedTuple):
    """What kind of stage an image seems to be."""

    kind: Kind | None
    """None if it shows neither way."""
    seen: Seen
    """How it went with a stage before it."""


async def examine(bench: Bench, subject: Subject, terms: Terms, *, contained: bool) -> Evidence:
    """Try a stage in every way. Raises `Trouble`, `base.EngineError`."""
    seen = await try_all(bench, subject, terms, [table.FIRST])
    if not seen[table.FIRST].reading("check").is_greeted:
        more = list(table.RELAXED) if contained else []
    else:
        more = _for_kind(subject)
    seen |= await try_all(bench, subject, terms, more)
    if "late-bound" in seen and late_fault(seen["late-bound"]):
        seen |= await try_all(bench, subject, terms, [table.SHIM])
    return Evidence(subject, seen, contained, terms.grace)


def _for_kind(subject: Subject) -> list[str]:
    """Return the names of all trials of a stage that says a hello, but for the first."""
    behind = table.BEHIND_OTHERS if subject.has_upstream else ()
    return [*table.EVERY, *behind, *(table.FILTERING if subject.kind == "filter" else ())]


async def try_all(
    bench: Bench, subject: Subject, terms: Terms, names: Iterable[str]
) -> dict[str, Seen]:
    """Make the trials that are named. Raises `Trouble`, `base.EngineError`, in groups."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> tuple[str, Seen]:
        async with places:
            return name, await _try(bench, subject, terms, name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name)) for name in names]
    return dict(task.result() for task in tasks)


async def _try(bench: Bench, subject: Subject, terms: Terms, name: str) -> Seen:
    try:
        async with Trial(bench, subject, name, terms.patience, terms.grace) as trial:
            await table.ALL[name](trial)
            return await trial.seen()
    except base.ImageMissing as exc:
        raise Trouble(f"{exc}: build or pull it there") from exc
    except base.StageRefused:
        if name == table.SHIM:
            return Seen()  # an image without a shell
        raise
    except base.NotThere as exc:
        raise Trouble(f"somebody else has removed the stage of the trial {name!r}: {exc}") from exc


async def guess(bench: Bench, asked: Asked, terms: Terms) -> Guess:
    """Find out what kind of stage an image is. Raises as `examine`."""

    async def connects() -> tuple[bool, Seen]:
        async with Trial(
            bench, usual(asked, "filter"), "guess", terms.patience, terms.grace
        ) as trial:
            return await kinds.connects_upstream(trial), await trial.seen()

    async def serves() -> bool:
        async with Trial(
            bench, usual(asked, "probe"), "guess", terms.patience, terms.grace
        ) as trial:
            return await kinds.says_hello(trial)

    async with asyncio.TaskGroup() as group:
        filters, probes = group.create_task(connects()), group.create_task(serves())
    is_filter, seen = filters.result()
    return Guess("filter" if is_filter else "probe" if probes.result() else None, seen)
