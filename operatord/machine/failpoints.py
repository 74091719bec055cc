# SPDX-License-Identifier: MIT
"""Places at which tests make the daemon die, to show that nothing is lost.

``OPERATORD_FAILPOINT=engine.create.after:3`` kills the daemon, as `kill -9` would, when it comes to that
place for the third time. With ``@FILE`` appended, it counts only while the file exists, so a test chooses
when to begin. Without the variable the engine is not even wrapped, and a place in the journal costs a
comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from operatord.engines import base

P = ParamSpec("P")
T = TypeVar("T")

FAILPOINTS = (
    "journal.commit.before", "journal.commit.after",
    "engine.connect.before", "engine.connect.after",
    "engine.image_ids.before", "engine.image_ids.after",
    "engine.create_network.before", "engine.create_network.after",
    "engine.create.before", "engine.create.after",
    "engine.start.before", "engine.start.after",
    "engine.connect_stage.before", "engine.connect_stage.after",
    "engine.inspect.before", "engine.inspect.after",
    "engine.logs.before", "engine.logs.after",
    "engine.stop.before", "engine.stop.after",
    "engine.remove.before", "engine.remove.after",
    "engine.remove_network.before", "engine.remove_network.after",
    "engine.list_objects.before", "engine.list_objects.after",
    "engine.claim.before", "engine.claim.after",
    "engine.release.before", "engine.release.after",
)  # fmt: skip
"""All of them. The tests under tests/faults go through them one by one."""

_place, _, _armed_by = os.environ.get("OPERATORD_FAILPOINT", "").partition("@")
_name, _, _count = _place.partition(":")
_left = int(_count or 1)


def hit(name: str) -> None:
    """Die here if that is wanted."""
    global _left  # noqa: PLW0603  # one process dies once
    if name != _name or (_armed_by and not Path(_armed_by).exists()):
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def fail_around(engine: base.Engine) -> base.Engine:
    """Return an engine around whose calls the daemon can die, if it is to die anywhere."""
    return FailingEngine(engine) if _name else engine


class FailingEngine:
    """An engine with a failpoint before and after each call that changes or decides something."""

    def __init__(self, engine: base.Engine) -> None:
        """Delegate to ``engine``."""
        self._engine = engine
        self.name = engine.name
        self.assume = engine.assume
        self.find_out = engine.find_out
        self.connect = _around("connect", engine.connect)
        self.image_ids = _around("image_ids", engine.image_ids)
        self.create_network = _around("create_network", engine.create_network)
        self.create = _around("create", engine.create)
        self.start = _around("start", engine.start)
        self.connect_stage = _around("connect_stage", engine.connect_stage)
        self.inspect = _around("inspect", engine.inspect)
        self.logs = _around("logs", engine.logs)
        self.stop = _around("stop", engine.stop)
        self.remove = _around("remove", engine.remove)
        self.remove_network = _around("remove_network", engine.remove_network)
        self.list_objects = _around("list_objects", engine.list_objects)
        self.claim = _around("claim", engine.claim)
        self.release = _around("release", engine.release)
        self.alive = engine.alive
        self.holder = engine.holder
        self.pull = engine.pull
        self.attach_stdin = engine.attach_stdin
        self.subnets_in_use = engine.subnets_in_use
        self.address = engine.address
        self.follow_logs = engine.follow_logs
        self.stats = engine.stats
        self.events = engine.events
        self.be_patient = engine.be_patient
        self.close = engine.close

    @property
    def capabilities(self) -> base.Capabilities:
        """What the engine is relied on for now."""
        return self._engine.capabilities


def _around(
    call: str, work: Callable[P, Coroutine[Any, Any, T]]
) -> Callable[P, Coroutine[Any, Any, T]]:
    async def around(*args: P.args, **kwargs: P.kwargs) -> T:
        hit(f"engine.{call}.before")
        result = await work(*args, **kwargs)
        hit(f"engine.{call}.after")
        return result

    return around
