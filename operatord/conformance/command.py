# SPDX-License-Identifier: MIT
"""`operatord check-stage`, once its options are read: from the engine to an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import NamedTuple

import msgspec

from operatord.core.engine_kinds import is_local
from operatord.core.subnets import SubnetPool
from operatord.engines import base
from operatord.settings.choice import choose_engine, engine_endpoint, engine_host
from operatord.settings.config import Config, ConfigError

from . import report
from .bench import ELSEWHERE, Bench, Trouble
from .checks import judged, passes
from .examination import Terms, examine, guess
from .leftovers import marked_folder
from .seen import Seen
from .subject import Asked, Subject, configured_as, problems, usual
from .verdict import Evidence

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILED, UNUSABLE = 1, 2
INSTANCE_BYTES = 4
BUSY = 4
"""Processes for each core that want to run, of which the check's own are fewer than two."""

Say = Callable[[str], None]


class Options(NamedTuple):
    """How to check, and who hears of it."""

    asked: Asked
    say: Say
    """Hears what was found."""
    note: Say
    """Hears what else there is to know."""
    patience: float = 10.0
    as_json: bool = False
    every_why: bool = False


def run_check(config: Config, options: Options) -> int:
    """Check an image; return an exit code: 0 all that is required holds, 1 something does not, 2 trouble."""
    if found := problems(options.asked):
        for problem in found:
            options.note(problem)
        return UNUSABLE
    ended_by: list[int] = []
    try:
        evidence = asyncio.run(_until_signal(_check(config, options), ended_by))
    except asyncio.CancelledError:
        return 128 + ended_by[0]
    except (Trouble, base.EngineError, ConfigError) as exc:
        options.note(base.in_full(exc) if isinstance(exc, base.EngineError) else str(exc))
    except OSError as exc:
        options.note(f"this machine has refused something: {exc.strerror}")
    else:
        return _tell(evidence, options)
    return UNUSABLE


async def _until_signal(work: Coroutine[None, None, Evidence], ended_by: list[int]) -> Evidence:
    """Run the work; a signal that would end this process cancels it, so that it removes what it has made."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        ended_by.append(number)
        task.cancel()

    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end, number)
    return await task


async def _check(config: Config, options: Options) -> Evidence:
    begun = time.monotonic()
    async with _bench(config, options) as bench:
        terms = Terms(options.patience, float(config.stop_grace))
        try:
            subject = await _subject(bench, config, options, terms)
            options.note(_heading(bench, subject))
            attempt = partial(examine, bench, subject, terms, contained=_contained(bench))
            evidence = await examined(attempt, options.note)
        except* Trouble as group:
            raise group.exceptions[0] from None
        except* base.EngineError as group:
            raise group.exceptions[0] from None
    options.note(f"{len(evidence.trials)} trials in {time.monotonic() - begun:.1f} s")
    return evidence


async def examined(attempt: Callable[[], Awaitable[Evidence]], note: Say) -> Evidence:
    """Return what an attempt finds; on busy cores, if not all holds, the better one of two."""
    evidence = await attempt()
    if _doubts(evidence) and _is_busy():
        note(
            "not all of it holds, but these cores are busy with other work: all is tried once more"
        )
        evidence = min(evidence, await attempt(), key=_doubts)
    return evidence


def _doubts(evidence: Evidence) -> int:
    return sum(found.verdict.state != "holds" for found in judged(evidence))


def _is_busy() -> bool:
    """Tell whether stages may seem slow, or deaf, that only had no turn."""
    return os.getloadavg()[0] > BUSY * (os.cpu_count() or 1)


@contextlib.asynccontextmanager
async def _bench(config: Config, options: Options) -> AsyncIterator[Bench]:
    """Yield a bench on the engine of the settings, and remove afterwards all that it has made."""
    if engine_host(config, os.environ) is not None:
        raise Trouble(ELSEWHERE)
    instance = f"check-{secrets.token_hex(INSTANCE_BYTES)}"
    endpoint = engine_endpoint(config, os.environ)
    with marked_folder(instance, "" if endpoint is None else endpoint.url) as folder:
        chosen = choose_engine(config, instance, folder, os.environ)
        if chosen.warning:
            options.note(chosen.warning)
        bench = Bench(chosen.engine, instance, SubnetPool(config.subnets))
        try:
            await bench.open()
            yield bench
        finally:
            await _finish(bench, options)


async def _finish(bench: Bench, options: Options) -> None:
    """Remove everything, however often this is interrupted."""
    closing = asyncio.ensure_future(bench.close())
    while not closing.done():
        with contextlib.suppress(asyncio.CancelledError, base.EngineError):
            await asyncio.shield(closing)
    await bench.engine.close()
    if (problem := closing.exception()) is not None:
        options.note(f"something of the check may be left on the engine: {problem}")


async def _subject(bench: Bench, config: Config, options: Options, terms: Terms) -> Subject:
    """Return what is checked: as configured, as asked for, or as it behaves. Raises `Trouble`."""
    asked = options.asked
    if not (asked.command or await bench.engine.image_ids([asked.image])):
        raise Trouble(f"the image {asked.image} is not on this engine: build or pull it there")
    if (found := configured_as(asked, config.pipelines, config.sources)) is not None:
        return found
    if asked.kind is not None:
        return usual(asked, asked.kind)
    kind, seen = await guess(bench, asked, terms)
    if kind is not None:
        return usual(asked, kind)
    raise Trouble(
        f"{asked.image} neither connects to a stage before it nor says a hello without one, so it cannot "
        "be told what kind of stage it is: give --kind probe, filter or sink, and --stage and --upstream if "
        f"its variables have other names than those of segmentation and stream; {_last_words(seen)}"
    )


def _last_words(seen: Seen) -> str:
    """Return how a program ended, and what it has said about that."""
    code = seen.ending.code
    how = "it went on running" if code is None else f"it ended with exit code {code}"
    said = seen.sentence
    return f"{how}, and wrote last: {said}" if said else f"{how}, and wrote no error"


def _heading(bench: Bench, subject: Subject) -> str:
    info = bench.info
    engine = f"{info.name} {info.version}" if info is not None else bench.engine.name
    after = f" after {subject.before[-1]!r}" if subject.before else ""
    where = f", as in {subject.configured}" if subject.configured else ""
    return f"{subject.stage.image} as a {subject.kind}, the stage {subject.name!r}{after}{where}; {engine}"


def _contained(bench: Bench) -> bool:
    return bench.info is not None and not is_local(bench.info.name)


def _tell(evidence: Evidence, options: Options) -> int:
    findings = judged(evidence)
    if options.as_json:
        options.say(msgspec.json.encode(report.as_json(evidence, findings)).decode())
    else:
        for line in report.lines(evidence, findings, every_why=options.every_why):
            options.say(line)
    return 0 if passes(findings) else FAILED
