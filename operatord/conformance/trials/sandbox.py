# SPDX-License-Identifier: MIT
"""Trials of a stage that does not come up: whether it would, if one of its bounds were not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from operatord.conformance import pictures
from operatord.conformance.consumer import CHECK
from operatord.conformance.trial import Trial, usual_options
from operatord.conformance.upstream import Script
from operatord.engines.options import Options

ROOT = "0:0"


def relaxed(
    change: Callable[[Options], Options], *, roomy: bool = False
) -> Callable[[Trial], Awaitable[None]]:
    """Return a trial whose container has other options."""

    async def run(trial: Trial) -> None:
        await trial.prepare(Script())
        options = change(usual_options(trial.subject))
        await trial.start(trial.environment(count=pictures.FRAMES), options=options, roomy=roomy)
        await trial.meet("check", CHECK)
        await trial.ends(0)

    return run


def writable(options: Options) -> Options:
    """Let the image's files be written to."""
    return msgspec.structs.replace(options, read_only=False)


def as_root(options: Options) -> Options:
    """Run it as root, in files that may be written to."""
    return msgspec.structs.replace(options, read_only=False, user=ROOT)


def same(options: Options) -> Options:
    """Change nothing."""
    return options
