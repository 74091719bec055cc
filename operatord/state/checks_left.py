# SPDX-License-Identifier: MIT
"""What `operatord sweep` removes of checks (`operatord check-stage`) that were killed."""

from __future__ import annotations

import asyncio
import os
import shutil

from operatord.conformance.leftovers import Left, left_over
from operatord.engines import base
from operatord.settings.choice import choose_engine, engine_endpoint
from operatord.settings.config import Config

from .sweep import Doomed, Options, remove_session

WHY = "its check-stage was killed"


def run_sweep_of_checks(config: Config, options: Options) -> int:
    """Remove what this user's checks have left on this engine; return an exit code: 0 done, 1 not all."""
    endpoint = engine_endpoint(config, os.environ)
    here = "" if endpoint is None else endpoint.url
    all_gone = True
    for left in left_over():
        if left.engine not in ("", here):
            options.note(
                f"a check that was killed has left something at {left.engine}, and this is another engine"
            )
            continue
        try:
            gone = not left.engine or asyncio.run(_swept(left, config, options))
        except base.EngineError as exc:
            options.note(f"what a check has left cannot be removed: {exc}")
            gone = False
        if gone and not options.dry_run:
            shutil.rmtree(left.folder, ignore_errors=True)
        all_gone &= gone
    return 0 if all_gone else 1


async def _swept(left: Left, config: Config, options: Options) -> bool:
    """Remove what one has left; return whether all of it is gone. Raises `base.EngineError`."""
    engine = choose_engine(config, left.instance, left.folder, os.environ).engine
    try:
        await engine.connect()
        listed = await engine.list_objects(left.instance)
        doomed = [
            Doomed(each, WHY)
            for each in listed
            if each.labels.get(base.LABEL_INSTANCE) == left.instance
        ]
        if not options.dry_run:
            return await remove_session(engine, doomed, options.say)
    finally:
        await engine.close()
    for each in doomed:
        options.say(f"would remove {each}")
    return True
