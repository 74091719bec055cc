# SPDX-License-Identifier: MIT
"""How a step of a start may end: done, failed with a reason for the requester, or interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, TypeVar

from operatord.core.subnets import SubnetsExhausted
from operatord.engines import base
from operatord_protocol import errors

T = TypeVar("T")


class StepFailed(Exception):
    """A step of the start did not work; everything made so far is to be removed."""

    def __init__(
        self,
        kind: type[errors.WireError],
        cause: str,
        reason: str,
        stage: str | None = None,
        **data: Any,
    ) -> None:
        """Keep what the requester will be told; ``stage`` is the one whose log explains it."""
        self.kind, self.cause, self.reason, self.stage, self.data = kind, cause, reason, stage, data
        super().__init__(reason)


class Interrupted(Exception):
    """The session was asked to end while it started; its ``ending`` says why."""


@contextlib.contextmanager
def blamed(stage: str) -> Iterator[None]:
    """Note the stage at fault on an engine's error."""
    try:
        yield
    except base.EngineError as exc:
        exc.stage = stage
        raise


@contextlib.contextmanager
def translated(step: str) -> Iterator[None]:
    """Turn an engine's error into the step that failed, in words for the requester."""
    try:
        yield
    except base.ImageMissing as exc:
        reason = str(exc)
        if not isinstance(exc, base.PullFailed | base.ProgramMissing):
            makes = "operatord build-images makes the emulators', and with `all` the adapters'"
            reason += f": build or pull it first ({makes})"
        raise StepFailed(
            errors.ImageMissing, "image_missing", reason, image=exc.image, step=step
        ) from exc
    except base.NoDescriptors as exc:
        raise _no_descriptors(exc, step) from exc
    except base.EngineUnavailable as exc:
        failed = isinstance(exc, base.EngineFailed)
        happened = str(exc) if failed else "the container engine stopped answering"
        reason = f"{happened} at the step {step!r}"
        raise StepFailed(errors.EngineUnavailable, "engine_lost", reason, step=step) from exc
    except SubnetsExhausted as exc:
        raise StepFailed(
            errors.NoCapacity, "no_capacity", str(exc), dimension="subnets", step=step
        ) from exc
    except base.PortTaken as exc:
        reason = f"{exc}: widen `ports` in the configuration or free some"
        raise StepFailed(
            errors.NoCapacity, "no_capacity", reason, dimension="ports", step=step
        ) from exc
    except base.OutOfMemory as exc:
        reason = f"{exc}: raise its `memory_limit`"
        raise StepFailed(errors.StartFailed, "oom", reason, exc.stage, step=step) from exc
    except base.DiskFull as exc:
        raise _no_disk(str(exc), exc.stage, step) from exc
    except base.EngineError as exc:
        raise StepFailed(
            errors.StartFailed, "start_failed", str(exc), exc.stage, step=step
        ) from exc
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_disk("a disk of this host has no space left", None, step) from exc
        if exc.errno in base.DESCRIPTORS_GONE:
            raise _no_descriptors(base.NoDescriptors(), step) from exc
        reason = f"the step {step!r} failed on this host: {exc.strerror or 'the name is not known'}"
        raise StepFailed(errors.StartFailed, "start_failed", reason, step=step) from exc


def _no_disk(reason: str, stage: str | None, step: str) -> StepFailed:
    return StepFailed(errors.NoCapacity, "disk", reason, stage, dimension="disk", step=step)


def _no_descriptors(exc: base.NoDescriptors, step: str) -> StepFailed:
    return StepFailed(errors.TooManyRequests, "no_capacity", str(exc), step=step)


async def together(calls: Iterator[Awaitable[Any]] | Sequence[Awaitable[Any]]) -> None:
    """Await all of ``calls``, each to its end, and only then raise the first error."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def unless(ending: asyncio.Future[Any], work: Awaitable[T]) -> T:
    """Return the result of ``work``. Raises `Interrupted` when ``ending`` is there first."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Interrupted
        return task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
