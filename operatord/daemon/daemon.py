# SPDX-License-Identifier: MIT
"""A whole operatord: it starts, runs, and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from operatord import __version__
from operatord.engine_link import former
from operatord.settings.config import Config
from operatord.signals import Signals
from operatord.systemd.status import StatusLine, status_line
from operatord_protocol.methods import schemas

from .assembly import WATCHING, Assembly, Parts
from .gateway import NAME
from .listening import listen, make_gateway
from .shutdown import MARGIN, shut_down

log = logging.getLogger(__name__)

CALLBACKS = "what is done later, or on the side"
"""What the log and `system.status` call it."""


class Daemon(Assembly):
    """A whole operatord. ``start``, then ``run_until_stopped``, or ``stop`` from elsewhere."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None = None,
        parts: Parts | None = None,
    ) -> None:
        """``reread``, called in a thread, returns the settings anew; ``parts`` replace what would be made.

        Raises `StateDirUnusable`, `ConfigError`, `OSError`.
        """
        super().__init__(config, reread or (lambda: config), parts or Parts())
        self._status: StatusLine | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def start(self) -> tuple[str, int]:
        """Begin to watch the engine and to listen; return the TCP address.

        Raises `OSError`, `base.NotOurs`.
        """
        log.info("operatord %s, engine %s: %s", __version__, self.engine.name, self.choice.because)
        if self.choice.warning is not None:
            log.warning("%s", self.choice.warning)
        self.manager.starting(self.engine_patience() + MARGIN)
        await self.devices.look()
        former.require(self.journal, self.engine.name)
        former.note(self.journal, self.engine)
        supervisor = self.supervisor
        supervisor.restorer.restore(
            self.engine.capabilities.adopts, supervisor.availability.problem
        )
        self.doors.recall(supervisor.registry.living())
        changes = self.engine_changes(self._stop.set)
        self.keeper.keep(WATCHING, lambda: self.link.run(changes))
        self.keeper.keep("what writes down what was learned", self.learned.run)
        try:  # who asks at once is not to be refused because the cores are busy
            await asyncio.wait_for(self.link.watch.first_try.wait(), self.engine_patience())
        except TimeoutError:
            log.warning("the engine has not answered yet; listening without it")
        self.link.ownership.require()
        self._begin_watches()
        await self.supervisor.written()  # or that it cannot be is known before anybody asks
        schemas()  # worked out before anybody asks, or all wait for whoever asks first
        self.log_warnings()
        listening = await listen(self.server, self.config, self.manager)
        if listening.http:
            self.gateway = make_gateway(self, listening.http)
            self.keeper.keep(NAME, self.gateway.run)
        self._tell_manager()
        return listening.address

    def _begin_watches(self) -> None:
        keep = self.keeper.keep
        if self.here:
            keep("the watch over the machine", lambda: self.host.run(self.supervisor.measure))
        keep("what finds out what the engine can do", self.link.capabilities.run)
        keep("what keeps the doors of streams open", self.doors.keep)
        keep("the count of subnets", self.subnet_count.run)
        keep("what measures how late the loop is", self.meters.loop.run)
        keep("what prepares slots", self.supervisor.slots.run)
        keep("the watch over slots' images", self.supervisor.slots.watch_images)
        for name, watch in self.looks.items():
            keep(name, watch)

    def _tell_manager(self) -> None:
        """Tell the service manager, if there is one, how it is, from now on."""
        self.manager.ready(self._status_line())
        if self.manager.listens:
            self._status = StatusLine(self.events, lambda: self.manager.say(self._status_line()))
            self.supervisor.availability.on_news = self._status.due

    def _status_line(self) -> str:
        phases = [record.phase for record in self.supervisor.registry.living()]
        return status_line(phases, self.engine.name, self.supervisor.availability.state)

    def handle_signals(self) -> None:
        """Make SIGTERM, SIGINT and SIGQUIT end `run_until_stopped`, and SIGHUP reread the settings."""
        Signals(self.clock, self._stop, self.reloading.reload_unasked).handle()

    def note_what_breaks(self) -> None:
        """Log and show what breaks outside of all tasks, in timers and other callbacks of the event loop."""

        def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            exc = context.get("exception")
            self.keeper.note(CALLBACKS, exc or RuntimeError(context["message"]))

        asyncio.get_running_loop().set_exception_handler(note)

    async def run_until_stopped(self) -> None:
        """Return once a signal came, or `stop` was called, and all is ended.

        Raises `base.NotOurs` if it had to end because the instance is another's now.
        """
        await self._stop.wait()
        await self.stop()
        self.link.ownership.require()

    async def stop(self) -> None:
        """Shut down in order. Idempotent: whoever comes second waits for the first."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._shut_down())
        self._stop.set()
        await asyncio.shield(self._stopping)

    async def _shut_down(self) -> None:
        if self._status is not None:
            self._status.end()
        await shut_down(self)
